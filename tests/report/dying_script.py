"""A script whose first hidden layer is killed at step 20, its runs, and hand-made judgements."""

import subprocess
import sys
from pathlib import Path

TEXT = """
import sys, torch
from torch import nn
torch.manual_seed(0)
kill, lr = float(sys.argv[1]), float(sys.argv[2])
x = torch.randn(256, 6)
y = (x[:, 0] * x[:, 1] > 0).long()
net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
for step in range(400):
    i = torch.randint(0, 256, (64,))
    loss = nn.functional.cross_entropy(net(x[i]), y[i])
    opt.zero_grad(); loss.backward(); opt.step()
    if step == 20 and kill:
        with torch.no_grad(): net[2].bias.sub_(kill)
"""


def run(folder: Path, name: str, *options: str, kill: float = 8.0, lr: float = 0.1) -> Path:
    """One run of it under ``defib run``; the record."""
    script = folder / "train.py"
    script.write_text(TEXT, encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "defib",
        "run",
        "-q",
        "-o",
        name,
        *options,
        "--",
        "train.py",
        str(kill),
        str(lr),
    ]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder / name
