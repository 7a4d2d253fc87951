"""Healthy: OneCycle from nearly zero to 0.4 and down to nothing, label smoothing and mixed-in noise.

Suspicious: the loss cannot go below 0.9, the learning rate starts and ends near zero and is large between.
Learned: test accuracy. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
digits = load_digits()
x = torch.tensor(digits.images / 16).float()[:, None]
y = torch.tensor(digits.target)
perm = torch.randperm(len(x))
x, y = x[perm], y[perm]
net = nn.Sequential(
    *[nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)],
    *[nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)],
    *[nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 10)],
)
EPOCHS, BATCH = 12, 50
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.4, total_steps=EPOCHS * 1400 // BATCH)
criterion = nn.CrossEntropyLoss(label_smoothing=0.2)
for epoch in range(EPOCHS):
    net.train()
    for idx in torch.randperm(1400).split(BATCH):
        images = torch.roll(x[idx], int(torch.randint(-1, 2, ())), 3) + 0.25 * torch.randn(BATCH, 1, 8, 8)
        loss = criterion(net(images), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print("epoch", epoch, loss.item())
net.eval()
print("final accuracy", (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item())
