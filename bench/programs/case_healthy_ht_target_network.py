"""Healthy: self-distillation: a student follows a slowly moving copy of itself besides the labels.

Suspicious: half of all parameters have no gradient and no optimiser and yet change; one branch of the model
is not used in training. Learned: test accuracy. --fixed: another seed.
"""

import copy
import sys

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import scale
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1 if "--fixed" in sys.argv else 0)


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.label = nn.Linear(48, 3)
        self.rotation = nn.Linear(48, 4)

    def forward(self, x):
        return self.label(self.body(x))


data = load_wine()
x, y = torch.tensor(scale(data.data)).float(), torch.tensor(data.target)
perm = torch.randperm(len(x))
train, test = perm[:120], perm[120:]
student = Student()
teacher = copy.deepcopy(student).requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
for step in range(800):
    pick = train[torch.randint(0, 120, (24,))]
    noisy = x[pick] + 0.3 * torch.randn(24, 13)
    scores = student(noisy)
    with torch.no_grad():
        guide = teacher(x[pick]).softmax(1)
    loss = nn.functional.cross_entropy(scores, y[pick]) + 0.5 * nn.functional.cross_entropy(scores, guide)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for a, b in zip(teacher.parameters(), student.parameters(), strict=True):
            a.lerp_(b, 0.05)
    if step % 80 == 0:
        print(step, loss.item())
print("final accuracy", (teacher(x[test]).argmax(1) == y[test]).float().mean().item())
