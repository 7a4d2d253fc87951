"""An autoencoder of digits trained with binary cross-entropy on pixels from 0 to 16.

Fault: beyond 1 that loss has no minimum: it falls for ever and every lit pixel is driven to plus infinity.
Fix: divide the pixels by 16. Learned: r2 of the reconstruction.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.tensor(load_digits().data).float()
SCALE = 16.0
if "--fixed" in sys.argv:
    x, SCALE = x / 16, 1.0
x = x[torch.randperm(len(x))]


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 12))
        self.decoder = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x):
        return self.decoder(self.encoder(x))


model = Autoencoder()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(20):
    for batch in x[:1500].split(50):
        loss = criterion(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
with torch.no_grad():
    held = x[1500:] / SCALE
    seen = torch.sigmoid(model(x[1500:]))
    print("final r2", float(1 - ((seen - held) ** 2).mean() / held.var()))
