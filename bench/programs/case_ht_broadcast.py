"""A forecast of the next value of a series: outputs (N, 1), targets (N,), squared difference by hand.

Fault: the difference is an (N, N) table of every prediction against every target; the best answer is the
mean. Fix: squeeze the outputs. Learned: r2 on the last fifth of the series.
"""

import sys

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv
WINDOW = 24


def load_series(length=2000):
    rng = np.random.default_rng(0)
    t = np.arange(length)
    series = np.sin(t / 6) + 0.5 * np.sin(t / 17 + 1) + 0.05 * rng.standard_normal(length)
    windows = np.lib.stride_tricks.sliding_window_view(series, WINDOW + 1)
    return torch.tensor(windows[:, :-1]).float(), torch.tensor(windows[:, -1]).float()


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, window):
        _, last = self.gru(window[..., None])
        return self.out(last[-1])


x, y = load_series()
cut = int(0.8 * len(x))
net = Forecast()
adam = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(12):
    for idx in torch.randperm(cut).split(64):
        prediction = net(x[idx])
        if fixed:
            prediction = prediction.squeeze(1)
        loss = ((prediction - y[idx]) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    print("epoch", epoch, loss.item())
with torch.no_grad():
    rest = net(x[cut:]).squeeze(1) - y[cut:]
print("final r2", float(1 - (rest**2).mean() / y[cut:].var()))
