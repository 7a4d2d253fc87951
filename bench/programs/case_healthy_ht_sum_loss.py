"""Healthy: a VAE with summed loss: 4000 at the start, still 2500 at the end, and Adam does not mind.

Suspicious: gradients in the hundreds, a loss in the thousands. Learned: reconstruction r2. --fixed: another
seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.stats = nn.Linear(64, 96), nn.Linear(96, 32)
        self.dec, self.out = nn.Linear(16, 96), nn.Linear(96, 64)

    def forward(self, x):
        mu, logvar = self.stats(torch.relu(self.enc(x))).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.out(torch.relu(self.dec(z)))), mu, logvar


x = torch.tensor(load_digits().data / 16).float()
x = x[torch.randperm(len(x))]
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(60):
    for batch in x[:1400].split(100):
        out, mu, logvar = model(batch)
        bce = nn.functional.binary_cross_entropy(out, batch, reduction="sum")
        loss = bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    t = x[1400:]
    print("final r2", float(1 - ((model(t)[0] - t) ** 2).sum() / ((t - x.mean(0)) ** 2).sum()))
