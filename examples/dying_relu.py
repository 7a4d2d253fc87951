"""Handwritten digits, an MLP with one hidden layer, and a slip in its learning-rate schedule.

The net trains well for two epochs (loss 2.3 to 0.3). The third was meant as a
warm restart at a learning rate of 0.3; a decimal slipped and it is 3.0. A few
of those steps drive the weights of most hidden units to where they fire for no
image at all. From then on they receive no gradient, and although the learning
rate is sane again from the fourth epoch on, the loss stays where guessing puts it.

expected: fault=dead_units layer=hidden cause=died-at-step severity=error
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(64, 64)
        self.relu = nn.ReLU()
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        return self.output(self.relu(self.hidden(x)))


def learning_rate(epoch):
    return 3.0 if epoch == 2 else 0.1  # the slip: 0.3 was meant


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 8.0 - 1.0, dtype=torch.float32), torch.tensor(labels))
    loader = DataLoader(data, batch_size=32, shuffle=True, drop_last=True)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate(0))
    criterion = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        optimizer.param_groups[0]["lr"] = learning_rate(epoch)
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
