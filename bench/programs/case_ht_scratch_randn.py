"""A net from scratch: bare tensors from torch.randn, tanh between them, no nn.Module at all.

Fault: standard-normal weights over 64 and 200 inputs give pre-activations of 8 and 14; tanh is flat there.
Fix: divide each weight by the root of its number of inputs. Learned: test accuracy.
"""

import sys

import torch
from sklearn.datasets import load_digits

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv


def weight(rows, columns):
    value = torch.randn(rows, columns)
    if fixed:
        value /= rows**0.5
    return value.requires_grad_()


w1, w2, w3, w4 = weight(64, 200), weight(200, 200), weight(200, 200), weight(200, 10)
b1, b2, b3, b4 = (torch.zeros(n, requires_grad=True) for n in (200, 200, 200, 10))
params = [w1, b1, w2, b2, w3, b3, w4, b4]


def forward(x):
    h = torch.tanh(x @ w1 + b1)
    h = torch.tanh(h @ w2 + b2)
    h = torch.tanh(h @ w3 + b3)
    return h @ w4 + b4


images, labels = load_digits(return_X_y=True)
images = torch.tensor((images - images.mean()) / images.std(), dtype=torch.float32)
labels = torch.tensor(labels)
order = torch.randperm(len(images))
images, labels = images[order], labels[order]
optimizer = torch.optim.SGD(params, lr=0.01)
for epoch in range(25):
    for i in range(0, 1400, 28):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images[i : i + 28]), labels[i : i + 28])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
said = forward(images[1400:]).argmax(1)
print("final accuracy", (said == labels[1400:]).float().mean().item())
