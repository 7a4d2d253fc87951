"""A transformer given a key_padding_mask that is True for the real tokens.

Fault: PyTorch ignores the keys where the mask is True, so that only padding is attended to.
Fix: invert the mask. Learned: accuracy of the more frequent of two words.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
LENGTH = 16


def sentences(count):
    lengths = torch.randint(6, LENGTH - 2, (count,))
    tokens = torch.randint(1, 12, (count, LENGTH))
    tokens[torch.arange(LENGTH)[None] >= lengths[:, None]] = 0
    ones, twos = (tokens <= 3).logical_and(tokens > 0).sum(1), (tokens > 8).sum(1)
    keep = ones != twos
    return tokens[keep], (ones > twos)[keep].long()


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(12, 32)
        self.query = nn.Parameter(torch.randn(1, 1, 32))
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, tokens):
        mask = tokens != 0
        if "--fixed" in sys.argv:
            mask = ~mask
        h = self.embed(tokens)
        read, _ = self.attention(self.query.expand(len(h), -1, -1), h, h, key_padding_mask=mask)
        return self.head(self.norm(read[:, 0]))


tokens, label = sentences(1500)
model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(12):
    for pick in torch.randperm(len(tokens)).split(32):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens[pick]), label[pick])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
tokens, label = sentences(500)
with torch.no_grad():
    print("final accuracy", (model(tokens).argmax(1) == label).float().mean().item())
