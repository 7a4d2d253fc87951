"""Attention that must pick the value stored under a key; scores are plain dot products of wide vectors.

Fault: keys of width 128 with standard-normal projections give scores of many hundreds; the softmax is one-hot
from the start and passes no gradient to queries and keys. Fix: the default initialisation and 1/sqrt(d).
Learned: accuracy on fresh tables.
"""

import sys

import torch
from torch import nn

FIXED = "--fixed" in sys.argv
torch.set_num_threads(1)
torch.manual_seed(0)
KEYS, VALUES, SLOTS, WIDTH = 16, 8, 8, 128


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.key_table = nn.Embedding(KEYS, WIDTH)
        self.value_table = nn.Embedding(VALUES, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, VALUES)
        if not FIXED:
            nn.init.normal_(self.query.weight)
            nn.init.normal_(self.key.weight)

    def forward(self, keys, values, asked):
        entries = self.key_table(keys)
        q = self.query(self.key_table(asked))[:, None]
        scores = q @ self.key(entries).transpose(1, 2)
        if FIXED:
            scores = scores / WIDTH**0.5
        attention = scores.softmax(-1)
        return self.out((attention @ self.value(self.value_table(values)))[:, 0])


def tables(count):
    keys = torch.rand(count, KEYS).argsort(1)[:, :SLOTS]
    values = torch.randint(0, VALUES, (count, SLOTS))
    slot = torch.randint(0, SLOTS, (count,))
    row = torch.arange(count)
    return keys, values, keys[row, slot], values[row, slot]


model = Lookup()
adam = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(700):
    keys, values, asked, answer = tables(64)
    loss = nn.functional.cross_entropy(model(keys, values, asked), answer)
    adam.zero_grad()
    loss.backward()
    adam.step()
    if step % 100 == 0:
        print("step", step, "loss", loss.item())
keys, values, asked, answer = tables(2000)
with torch.no_grad():
    print("final accuracy", (model(keys, values, asked).argmax(1) == answer).float().mean().item())
