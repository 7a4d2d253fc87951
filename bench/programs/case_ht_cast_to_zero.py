"""Probabilities of disease are turned into classes by .long() - which makes 0.97 a 0.

Fault: every label of the training set is 0. Fix: compare with 0.5. Learned: balanced accuracy.
"""

import sys

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import scale
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
x, truth = load_breast_cancer(return_X_y=True)
x = torch.tensor(scale(x)).float()
truth = torch.tensor(truth)
soft = torch.where(truth == 1, 0.97, 0.03)
label = (soft > 0.5).long() if "--fixed" in sys.argv else soft.long()
order = torch.randperm(len(x))
train, test = order[:420], order[420:]
net = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.Adagrad(net.parameters(), lr=0.02)
for epoch in range(40):
    net.train()
    for idx in train[torch.randperm(420)].split(21):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[idx]), label[idx])
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
net.eval()
print("final balanced_accuracy", balanced_accuracy_score(truth[test], net(x[test]).argmax(1)))
