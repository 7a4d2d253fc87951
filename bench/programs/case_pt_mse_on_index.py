"""Ten outputs and the class index as a float target of the mean squared error.

Fault: targets of shape (N, 1) are stretched over the ten outputs: all of them learn the same number.
Fix: cross-entropy on the indices. Learned: accuracy on digits.
"""

import sys

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
model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(15):
    for batch in train[torch.randperm(1400)].split(40):
        optimizer.zero_grad()
        output = model(x[batch])
        if "--fixed" in sys.argv:
            loss = nn.functional.cross_entropy(output, y[batch])
        else:
            loss = nn.functional.mse_loss(output, y[batch].float().unsqueeze(1))
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
model.eval()
with torch.no_grad():
    print("final accuracy", (model(x[test]).argmax(1) == y[test]).float().mean().item())
