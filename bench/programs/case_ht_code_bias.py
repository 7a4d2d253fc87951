"""Autoencoder of digits whose narrow ReLU code was given a bias of -3 "to make it sparse".

Fault: every unit of the code is born off, so the decoder sees a constant and learns the mean image.
Fix: start that bias at zero. Learned: reconstruction r2 on held-out digits.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

FIXED = "--fixed" in sys.argv
torch.set_num_threads(1)
torch.manual_seed(3)


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64))
        nn.init.constant_(self.encoder[2].bias, 0.0 if FIXED else -3.0)

    def forward(self, image):
        return self.decoder(self.encoder(image))


images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
images = images[torch.randperm(len(images))]
train, test = images[:1400], images[1400:]
net = AutoEncoder()
adam = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(40):
    for batch in train.split(64):
        adam.zero_grad()
        loss = nn.functional.mse_loss(net(batch), batch)
        loss.backward()
        adam.step()
    print(f"epoch {epoch} loss {loss.item():.5f}")
with torch.no_grad():
    error = ((net(test) - test) ** 2).sum()
print("final r2", float(1 - error / ((test - train.mean(0)) ** 2).sum()))
