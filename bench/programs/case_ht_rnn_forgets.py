"""A vanilla RNN must say at the end of 25 tokens what the first one was.

Fault: recurrent weights start small, so the gradient to the first token has shrunk by eleven decades.
Fix: an orthogonal recurrent matrix, which carries it. Learned: accuracy on fresh sequences.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
LENGTH, CLASSES = 25, 4


class Remember(nn.Module):
    def __init__(self, orthogonal):
        super().__init__()
        self.embed = nn.Embedding(12, 24)
        self.rnn = nn.RNN(24, 48, batch_first=True)
        self.out = nn.Linear(48, CLASSES)
        if orthogonal:
            nn.init.orthogonal_(self.rnn.weight_hh_l0)
            nn.init.normal_(self.rnn.weight_ih_l0, std=0.05)
        else:
            nn.init.normal_(self.rnn.weight_hh_l0, std=0.05)

    def forward(self, tokens):
        states, _ = self.rnn(self.embed(tokens))
        return self.out(states[:, -1])


def sequences(count):
    first = torch.randint(0, CLASSES, (count, 1))
    rest = torch.randint(CLASSES, 12, (count, LENGTH - 1))
    return torch.cat([first, rest], 1), first[:, 0]


def train(model, steps):
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        tokens, label = sequences(64)
        loss = nn.functional.cross_entropy(model(tokens), label)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 50 == 0:
            print("step", step, "loss", loss.item())


model = Remember("--fixed" in sys.argv)
train(model, 700)
tokens, label = sequences(1000)
print("final accuracy", (model(tokens).argmax(1) == label).float().mean().item())
