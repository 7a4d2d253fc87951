"""A LambdaLR whose function returns the learning rate itself, not a factor of it.

Fault: the scheduler multiplies: 1e-3 times 1e-3 is a rate of 1e-6. Fix: return the factor.
Learned: accuracy on digits.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

torch.set_num_threads(1)
torch.manual_seed(0)
LR = 1e-3
digits = load_digits()
x = torch.tensor(digits.data / 16).float()
y = torch.tensor(digits.target)
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=LR)


def rate(epoch):
    decayed = 0.9**epoch
    return decayed if "--fixed" in sys.argv else LR * decayed


scheduler = LambdaLR(optimizer, rate)
for epoch in range(15):
    for batch in train[torch.randperm(1400)].split(50):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()
    print(epoch, loss.item())
with torch.no_grad():
    print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
