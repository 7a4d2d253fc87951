"""Healthy: early stopping on a held-out set, evaluation in eval mode after each epoch, best weights put back.

Suspicious: a short run that ends while the training loss is still falling; forward passes in eval mode
between the steps; the weights jump back at the end. Learned: balanced accuracy. --fixed: another seed.
"""

import copy
import sys

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import scale
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)
x, y = load_breast_cancer(return_X_y=True)
x, y = torch.tensor(scale(x)).float(), torch.tensor(y).float()
perm = torch.randperm(len(x))
train, valid, test = perm[:340], perm[340:450], perm[450:]
model = nn.Sequential(
    nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 1), nn.Flatten(0)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()
best, patience, kept = float("inf"), 0, None
for epoch in range(100):
    model.train()
    for idx in train[torch.randperm(340)].split(17):
        optimizer.zero_grad()
        loss = criterion(model(x[idx]), y[idx])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        held = criterion(model(x[valid]), y[valid]).item()
    print("epoch", epoch, loss.item(), held)
    if held < best:
        best, patience, kept = held, 0, copy.deepcopy(model.state_dict())
    elif (patience := patience + 1) == 3:
        break
model.load_state_dict(kept)
print("final balanced_accuracy", balanced_accuracy_score(y[test], (model(x[test]) > 0).float().detach()))
