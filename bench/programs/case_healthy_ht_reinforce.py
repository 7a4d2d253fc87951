"""Healthy: REINFORCE on a contextual bandit with four actions and noisy rewards.

Suspicious: the loss has no downward trend and changes its sign all the time. Learned: share of best actions.
--fixed: another seed.
"""

import sys

import torch
from torch import nn
from torch.distributions import Categorical

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
value = torch.randn(6, 4)
policy = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
baseline = 0.0
for episode in range(1500):
    context = torch.randn(32, 6)
    choice = Categorical(logits=policy(context))
    action = choice.sample()
    reward = (context @ value)[torch.arange(32), action] + torch.randn(32)
    loss = -(choice.log_prob(action) * (reward - baseline)).mean()
    baseline = 0.95 * baseline + 0.05 * reward.mean().item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if episode % 150 == 0:
        print(episode, loss.item(), baseline)
context = torch.randn(2000, 6)
best = (context @ value).argmax(1)
print("final share", (policy(context).argmax(1) == best).float().mean().item())
