"""Healthy: a least-squares GAN in two dimensions: two models, two optimisers, one against the other.

Suspicious: neither loss falls; each sits where it should. Learned: 1 - distance of mean and spread from the
truth. --fixed: another seed.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
SHIFT, MIX = torch.tensor([1.0, -0.5]), torch.tensor([[0.8, 0.3], [0.0, 0.5]])


def real(count):
    return torch.randn(count, 2) @ MIX + SHIFT


generator = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 2))
critic = nn.Sequential(
    nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)
)
opt_g = torch.optim.Adam(generator.parameters(), lr=5e-4, betas=(0.5, 0.99))
opt_d = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.99))
for step in range(1500):
    fake = generator(torch.randn(128, 4))
    d_loss = ((critic(real(128)) - 1) ** 2).mean() + (critic(fake.detach()) ** 2).mean()
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()
    g_loss = ((critic(fake) - 1) ** 2).mean()
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    if step % 150 == 0:
        print(step, d_loss.item(), g_loss.item())
with torch.no_grad():
    fake, true = generator(torch.randn(4000, 4)), real(4000)
distance = (fake.mean(0) - true.mean(0)).norm() + (fake.T.cov() - true.T.cov()).norm()
print("final closeness", float(1 - distance))
