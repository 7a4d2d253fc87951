"""Imitation of a controller whose actions lie in (-1, 1), with tanh units and Adam at 0.3.

Fault: within a few steps all tanh units stand at +-1, the output too, and none moves again.
Fix: 0.002. Learned: r2 of the action.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2), nn.Tanh()
        )

    def forward(self, state):
        return self.net(state)


def expert(state):
    return 0.8 * torch.sin(torch.stack([state[:, 0] - state[:, 1], state[:, 2] * state[:, 3]], 1))


states = torch.randn(3000, 6)
actions = expert(states)
policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3 if "--fixed" in sys.argv else 0.3)
for step in range(1000):
    pick = torch.randint(0, 3000, (64,))
    loss = ((policy(states[pick]) - actions[pick]) ** 2).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, loss.item())
fresh = torch.randn(1000, 6)
with torch.no_grad():
    print("final r2", float(1 - ((policy(fresh) - expert(fresh)) ** 2).mean() / expert(fresh).var()))
