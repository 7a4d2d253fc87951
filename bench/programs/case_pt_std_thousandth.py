"""A seven-layer MLP whose weights are all drawn with nn.init.normal_(w, 0, 0.001), biases zero.

Fault: each layer shrinks the signal a hundredfold; the output does not depend on the input.
Fix: Kaiming initialisation. Learned: accuracy on digits.
"""

import sys
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]


def init_weights(m):
    if isinstance(m, nn.Linear):
        if "--fixed" in sys.argv:
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
        else:
            nn.init.normal_(m.weight, 0, 0.001)
        nn.init.zeros_(m.bias)


widths = [64, 64, 64, 64, 64, 64, 64]
layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
model.apply(init_weights)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for epoch in range(12):
    for batch in train[torch.randperm(1400)].split(50):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
with torch.no_grad():
    print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
