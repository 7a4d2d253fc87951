"""Healthy: an overcomplete sparse autoencoder (256 units for 64 pixels) with an L1 price on its code.

Suspicious: nearly all activations are zero, on purpose. Learned: reconstruction r2. --fixed: another seed.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
x = torch.tensor(load_digits().data / 16).float()
x = x[torch.randperm(len(x))]
encode, decode = nn.Linear(64, 256), nn.Linear(256, 64)
optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=1e-3)
for epoch in range(40):
    for batch in x[:1400].split(70):
        code = torch.relu(encode(batch))
        loss = ((decode(code) - batch) ** 2).sum(1).mean() + 0.02 * code.sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    t = x[1400:]
    r2 = 1 - ((decode(torch.relu(encode(t))) - t) ** 2).sum() / ((t - x.mean(0)) ** 2).sum()
print("final r2", r2.item())
