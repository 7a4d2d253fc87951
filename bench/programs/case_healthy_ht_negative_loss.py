"""Healthy: Gaussian negative log-likelihood of nearly exact data; it passes zero and goes on down.

Suspicious: a loss below zero that gets larger in magnitude. Learned: r2. --fixed: another seed.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
x = torch.rand(1500, 2) * 2 - 1
y = (x[:, :1] * x[:, 1:]).tanh() + 0.01 * torch.randn(1500, 1)
body = nn.Sequential(nn.Linear(2, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU())
mean, log_var = nn.Linear(48, 1), nn.Linear(48, 1)
net = nn.ModuleDict({"body": body, "mean": mean, "log_var": log_var})
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
for epoch in range(50):
    for idx in torch.randperm(1500).split(60):
        h = net["body"](x[idx])
        loss = nn.functional.gaussian_nll_loss(net["mean"](h), y[idx], net["log_var"](h).exp())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    if epoch % 5 == 0:
        print("epoch", epoch, loss.item())
with torch.no_grad():
    print("final r2", float(1 - ((mean(body(x)) - y) ** 2).mean() / y.var()))
