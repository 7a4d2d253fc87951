"""House prices in currency units, about 250,000, from eight clean features.

Fault: the output must travel a quarter of a million with Adam's steps of 0.001; after 800 steps it has not
left. Fix: standardise the prices. Learned: r2 on held-out houses.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv
features = torch.randn(2000, 8)
price = 250_000 + 60_000 * (features[:, :3].sum(1) + 0.5 * features[:, 3] * features[:, 4])
price = (price + 10_000 * torch.randn(2000))[:, None]
middle, spread = (price.mean(), price.std()) if fixed else (0.0, 1.0)
target = (price - middle) / spread
loader = DataLoader(TensorDataset(features[:1600], target[:1600]), batch_size=40, shuffle=True)
model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.MSELoss()
for epoch in range(20):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"Epoch {epoch}: {total / len(loader):.4g}")
with torch.no_grad():
    said = model(features[1600:]) * spread + middle
print("final r2", float(1 - ((said - price[1600:]) ** 2).mean() / price[1600:].var()))
