"""Short sentences padded on the right to 100 tokens, and a GRU whose last output is classified.

Fault: the last output is that of 90 padding tokens later. Fix: gather the output at each sentence's own end.
Learned: accuracy of which of two key words is in the sentence.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
PAD, LENGTH = 0, 100


def sentences(count):
    lengths = torch.randint(5, 11, (count,))
    tokens = torch.randint(3, 30, (count, LENGTH))
    label = torch.randint(0, 2, (count,))
    where = (torch.rand(count) * lengths).long()
    tokens[torch.arange(count), where] = 1 + label
    tokens[torch.arange(LENGTH)[None] >= lengths[:, None]] = PAD
    return tokens, lengths, label


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 16, padding_idx=PAD)
        self.gru = nn.GRU(16, 32, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, tokens, lengths):
        out, _ = self.gru(self.embed(tokens))
        if "--fixed" in sys.argv:
            return self.head(out[torch.arange(len(out)), lengths - 1])
        return self.head(out[:, -1])


tokens, lengths, label = sentences(1000)
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(6):
    for pick in torch.randperm(1000).split(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens[pick], lengths[pick]), label[pick])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
tokens, lengths, label = sentences(500)
with torch.no_grad():
    print("final accuracy", (model(tokens, lengths).argmax(1) == label).float().mean().item())
