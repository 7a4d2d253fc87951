"""A small CNN on photos read with PIL (bytes 0 to 255), normalised with ImageNet's mean and deviation.

Fault: the mean 0.45 and deviation 0.225 belong to pixels between 0 and 1; the inputs reach 1,100.
Fix: divide by 255 first (ToTensor). Learned: accuracy of the shape shown.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


def photos(count):
    """Bright discs, squares or bars on a dark ground, as bytes."""
    kind = torch.randint(0, 3, (count,))
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    cy, cx = (torch.randint(5, 11, (count,)).float()[:, None, None] for _ in range(2))
    dy, dx = (row - cy).abs(), (column - cx).abs()
    shapes = torch.stack([dy**2 + dx**2 < 16, (dy < 4) & (dx < 4), dy < 2])
    shape = shapes.transpose(0, 1)[torch.arange(count), kind].float()
    grey = 60 + 140 * shape + 30 * torch.randn(count, 16, 16)
    return grey.clamp(0, 255).byte()[:, None].expand(-1, 3, -1, -1), kind


MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def transform(bytes_):
    pixels = bytes_.float()
    if "--fixed" in sys.argv:
        pixels = pixels / 255
    return (pixels - MEAN) / STD


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, 3)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


images, labels = photos(1200)
net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(10):
    running = 0.0
    order = torch.randperm(1200)
    for i in range(0, 1200, 40):
        pick = order[i : i + 40]
        optimizer.zero_grad()
        loss = criterion(net(transform(images[pick])), labels[pick])
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(epoch, running / 30)
images, labels = photos(600)
with torch.no_grad():
    print("final accuracy", (net(transform(images)).argmax(1) == labels).float().mean().item())
