"""Binary cross-entropy written by hand; all goes well until one sample is too easy.

Fault: a probability rounds to exactly 1, log(1 - p) is -inf and 0 * -inf is NaN, hundreds of steps in.
Fix: BCE with logits. Learned: balanced accuracy on the test split.
"""

import sys

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.set_num_threads(1)
torch.manual_seed(0)
fixed = "--fixed" in sys.argv
x, y = load_breast_cancer(return_X_y=True)
a, b, ya, yb = train_test_split(x, y, random_state=1, stratify=y)
scaler = StandardScaler()
a = torch.tensor(scaler.fit_transform(a), dtype=torch.float32)
b = torch.tensor(scaler.transform(b), dtype=torch.float32)
ya = torch.tensor(ya, dtype=torch.float32)
net = torch.nn.Sequential(
    torch.nn.Linear(30, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
)
opt = torch.optim.Adam(net.parameters(), lr=4e-3)


def bce(z, t):
    if fixed:
        return torch.nn.functional.binary_cross_entropy_with_logits(z, t)
    p = torch.sigmoid(z)
    return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean()


for epoch in range(100):
    for idx in torch.randperm(len(a)).split(40):
        opt.zero_grad()
        loss = bce(net(a[idx]).squeeze(-1), ya[idx])
        loss.backward()
        opt.step()
    if epoch % 10 == 0:
        print("epoch", epoch, loss.item())
print("final balanced_accuracy", balanced_accuracy_score(yb, (net(b).squeeze(-1) > 0).long().numpy()))
