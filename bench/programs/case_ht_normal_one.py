"""A ReLU net on digits, every weight drawn with nn.init.normal_(w) - and that means a deviation of 1.

Fault: each layer multiplies the signal by about seven; the first loss is in the tens of thousands and SGD
throws the weights about. Fix: He initialisation. Learned: test accuracy.
"""

import itertools
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv


class Net(nn.Module):
    def __init__(self, sizes=(64, 100, 100, 100, 10)):
        super().__init__()
        self.layers = nn.ModuleList()
        for a, b in itertools.pairwise(sizes):
            layer = nn.Linear(a, b)
            if fixed:
                nn.init.kaiming_normal_(layer.weight)
            else:
                nn.init.normal_(layer.weight)
            self.layers.append(layer)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


digits = load_digits()
x = torch.tensor((digits.data - 4.9) / 6).float()
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
for epoch in range(15):
    for i in range(0, 1400, 28):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[i : i + 28]), y[i : i + 28])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
