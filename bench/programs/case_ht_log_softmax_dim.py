"""Wine with log_softmax over dim 0: over the batch, not over the classes.

Fault: each class's probabilities sum to 1 over the samples; the classes do not compete and one of them wins
for every sample. Fix: dim=1. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(2)
DIM = 1 if "--fixed" in sys.argv else 0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 32)
        self.fc2 = nn.Linear(32, 3)
        self.softmax = nn.LogSoftmax(dim=DIM)

    def forward(self, x):
        return self.softmax(self.fc2(torch.relu(self.fc1(x))))


wine = load_wine()
x = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
y = torch.tensor(wine.target)
perm = torch.randperm(len(x))
loader = DataLoader(TensorDataset(x[perm[:120]], y[perm[:120]]), batch_size=6, shuffle=True)
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
criterion = nn.NLLLoss()
for epoch in range(40):
    running = 0.0
    for inputs, labels in loader:
        opt.zero_grad()
        loss = criterion(net(inputs), labels)
        loss.backward()
        opt.step()
        running += loss.item()
    print(epoch + 1, running / len(loader))
test = perm[120:]
with torch.no_grad():
    # one sample at a time, as the model is served
    said = torch.stack([net(x[i : i + 1]).argmax(1)[0] for i in test])
print("final accuracy", (said == y[test]).float().mean().item())
