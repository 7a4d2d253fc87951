"""The adding problem (sum of two marked numbers among 50) with a ReLU RNN.

Fault: the recurrent matrix has a spectral radius near 2.4, so state and gradient grow 50 times over.
Fix: identity recurrent matrix and clipped gradients (the IRNN recipe). Learned: r2 on fresh sequences.
"""

import sys

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv


def adding(batch, length=50):
    numbers = torch.rand(batch, length)
    marks = torch.zeros(batch, length)
    first = torch.randint(0, length // 2, (batch,))
    second = torch.randint(length // 2, length, (batch,))
    marks[torch.arange(batch), first] = 1
    marks[torch.arange(batch), second] = 1
    return torch.stack([numbers, marks], 2), (numbers * marks).sum(1, keepdim=True)


rnn = nn.RNN(2, 64, nonlinearity="relu", batch_first=True)
readout = nn.Linear(64, 1)
with torch.no_grad():
    if fixed:
        rnn.weight_hh_l0.copy_(torch.eye(64))
        rnn.weight_ih_l0.normal_(0, 0.05)
        rnn.bias_hh_l0.zero_()
        rnn.bias_ih_l0.zero_()
    else:
        rnn.weight_hh_l0.normal_(0, 0.3)
params = [*rnn.parameters(), *readout.parameters()]
opt = torch.optim.Adam(params, lr=2e-3)
for it in range(900):
    x, y = adding(64)
    opt.zero_grad()
    loss = ((readout(rnn(x)[0][:, -1]) - y) ** 2).mean()
    loss.backward()
    if fixed:
        nn.utils.clip_grad_norm_(params, 1.0)
    opt.step()
    if it % 100 == 0:
        print(it, loss.item())
x, y = adding(500)
with torch.no_grad():
    print("final r2", float(1 - ((readout(rnn(x)[0][:, -1]) - y) ** 2).mean() / y.var()))
