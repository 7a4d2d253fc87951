"""An LSTM that is handed (batch, time, features) but was built without batch_first.

Fault: the batch is taken for the time axis: the answer for a sample is made of the last time step of the
samples before it. Fix: batch_first=True. Learned: accuracy of which of two pulses came first.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)


def sequences(count):
    """Two channels, each with a pulse in the first two thirds; which one is earlier?"""
    x = 0.1 * torch.randn(count, 15, 2)
    times = torch.stack([torch.randperm(10)[:2] for _ in range(count)])
    for channel in range(2):
        x[torch.arange(count), times[:, channel], channel] += 1
    return x, (times[:, 0] < times[:, 1]).long()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 32, batch_first="--fixed" in sys.argv)
        self.fc = nn.Linear(32, 2)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


loader = DataLoader(TensorDataset(*sequences(1000)), batch_size=50, shuffle=True)
model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for epoch in range(15):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / len(loader))
x, y = sequences(500)
with torch.no_grad():
    print("final accuracy", (model(x).argmax(1) == y).float().mean().item())
