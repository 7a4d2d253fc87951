"""A GAN whose generator minimises log(1 - D(G(z))), against a discriminator trained ten times as often.

Fault: the discriminator is sure of itself, its sigmoid is flat, and the generator gets no gradient.
Fix: maximise log D(G(z)) and train both as often. Learned: how far the generated mean came on its way to
the data's, as 1 - distance / distance at the start.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
FIXED = "--fixed" in sys.argv
CENTRE = torch.tensor([6.0, -6.0])

generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
discriminator = nn.Sequential(
    nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid()
)
opt_g = torch.optim.SGD(generator.parameters(), lr=0.02)
opt_d = torch.optim.Adam(discriminator.parameters(), lr=2e-3)
if FIXED:
    opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.99))
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.99))
bce = nn.BCELoss()
with torch.no_grad():
    start = (generator(torch.randn(500, 4)).mean(0) - CENTRE).norm()
for step in range(600 if FIXED else 150):
    for _ in range(1 if FIXED else 10):
        real = CENTRE + 0.5 * torch.randn(64, 2)
        fake = generator(torch.randn(64, 4)).detach()
        loss_d = bce(discriminator(real), torch.ones(64, 1)) + bce(discriminator(fake), torch.zeros(64, 1))
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
    judged = discriminator(generator(torch.randn(64, 4)))
    loss_g = bce(judged, torch.ones(64, 1)) if FIXED else torch.log(1 - judged + 1e-8).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if step % 50 == 0:
        print(step, loss_d.item(), loss_g.item())
with torch.no_grad():
    end = (generator(torch.randn(500, 4)).mean(0) - CENTRE).norm()
print("final progress", float(1 - end / start))
