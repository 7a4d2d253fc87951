"""Handwritten digits and a ten-layer ReLU net whose weights start three times too large.

``std=0.5`` looks harmless; for 64 inputs it is 2.8 times the scale that keeps a
ReLU net level. Forward and backward signals grow by that factor at every layer,
four decades over the depth; the first step is then thousands of times too long,
and within a few steps the loss is NaN.

expected: fault=exploding cause=weights severity=error
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def build(depth=10, width=64):
    layers = []
    for _ in range(depth):
        linear = nn.Linear(64 if not layers else width, width)
        nn.init.normal_(linear.weight, std=0.5)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels))
    loader = DataLoader(data, batch_size=32, shuffle=True, drop_last=True)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    criterion = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
