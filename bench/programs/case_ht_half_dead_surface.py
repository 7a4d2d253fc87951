"""Fits a wavy surface on [0, 1]^2 with 24 ReLU units whose biases start between -2 and 0.

Fault: well over half of the units are off on the whole square, and the rest are too few for the surface.
Fix: the default initialisation of the bias. Learned: r2 on a grid.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(1)


def surface(points):
    return torch.sin(5 * points[:, :1]) * torch.cos(4 * points[:, 1:]) + points[:, :1]


def build(fixed):
    hidden = nn.Linear(2, 24)
    if not fixed:
        nn.init.uniform_(hidden.bias, -2.0, 0.0)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 1))


def main():
    points = torch.rand(2000, 2)
    loader = DataLoader(TensorDataset(points, surface(points)), batch_size=50, shuffle=True)
    model = build("--fixed" in sys.argv)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    criterion = nn.MSELoss()
    for epoch in range(40):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", loss.item())
    grid = torch.cartesian_prod(torch.linspace(0, 1, 40), torch.linspace(0, 1, 40))
    with torch.no_grad():
        truth = surface(grid)
        r2 = 1 - ((model(grid) - truth) ** 2).mean() / truth.var()
    print("final r2", r2.item())


if __name__ == "__main__":
    main()
