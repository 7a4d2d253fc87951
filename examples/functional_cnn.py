"""Handwritten digits and a small CNN with functional ReLUs, three channels of it dead.

Channels 1, 4 and 6 of ``conv2`` start with a bias of -6, as a checkpoint does that
was "pruned" by its biases. They never fire, not for one image: they were born dead.
The other thirteen learn the task well, so this costs capacity and nothing else,
and the finding is information, not an alarm.

expected: fault=dead_units layer=conv2 cause=born-dead severity=info units=1,4,6
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 4 * 4, 10)
        with torch.no_grad():
            self.conv2.bias[[1, 4, 6]] = -6.0  # the "pruned" channels

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images / 8.0 - 1.0, dtype=torch.float32).view(-1, 1, 8, 8)
    loader = DataLoader(TensorDataset(pixels, torch.tensor(labels)), batch_size=32, shuffle=True)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
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
