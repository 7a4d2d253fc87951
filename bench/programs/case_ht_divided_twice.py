"""Digits that were already between 0 and 1 are divided by 255 once more.

Fault: inputs of at most 0.004; the first layer sees almost nothing but its bias and SGD learns the class
shares. Fix: divide once. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv


class Digits(Dataset):
    def __init__(self, rows):
        data = load_digits()
        self.images = data.images[rows] / 16.0
        self.labels = data.target[rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = torch.as_tensor(self.images[i], dtype=torch.float32)[None]
        if not fixed:
            image = image / 255.0
        return image, int(self.labels[i])


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3)
        self.fc1 = nn.Linear(12 * 36, 48)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(torch.relu(self.conv(x)).flatten(1))))


order = torch.randperm(1797).numpy()
train = DataLoader(Digits(order[:1400]), batch_size=50, shuffle=True)
test = DataLoader(Digits(order[1400:]), batch_size=400)
model = LeNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
for epoch in range(15):
    for images, labels in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
model.eval()
images, labels = next(iter(test))
print("final accuracy", (model(images).argmax(1) == labels).float().mean().item())
