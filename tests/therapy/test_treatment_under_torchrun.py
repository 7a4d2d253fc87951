"""``defib run --treat`` under torchrun, two gloo ranks: equal parameters, or refused on both."""

import subprocess
import sys
from pathlib import Path

import pytest

import defib

SCRIPT = """
import copy, hashlib, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
if "--dead" in sys.argv:
    with torch.no_grad():
        plain[0].bias.fill_(-50.0)
model = DistributedDataParallel(plain)
shadow = copy.deepcopy(plain) if "--shadow" in sys.argv and rank == 1 else None
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
if "--fast" in sys.argv:
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
batches = torch.Generator().manual_seed(rank)
for _ in range(120):
    optimizer.zero_grad()
    model(torch.randn(8, 4, generator=batches)).square().sum().backward()
    optimizer.step()
digest = hashlib.sha256()
for name, tensor in sorted(plain.state_dict().items()):
    digest.update(name.encode() + tensor.numpy().tobytes())
print(f"rank {rank} {digest.hexdigest()}\\n", end="", flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def both(folder: Path, treat: str, *words: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The ranks' parameters as digests, and what became of treatments on each."""
    (folder / "train.py").write_text(SCRIPT)
    launch = ["--nproc_per_node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "defib", "run", "-q"]
    command += ["-o", "r.rec", "--treat", treat, "train.py", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    digests = [word for word in done.stdout.split() if len(word) == 64]
    events = defib.open_run(folder / "r.rec").view.of_kind("treatment")
    ended = [e.data for e in events if e.data["stage"] != "planned"]
    return digests, [(str(d["treatment"]), str(d["stage"])) for d in ended]


@pytest.fixture(scope="module")
def untreated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What both ranks end with where nothing could be given."""
    digests, _ = both(tmp_path_factory.mktemp("plain"), "batch-norm")
    return digests[0]


def test_a_treatment_is_given_on_both_ranks_alike(tmp_path: Path, untreated: str) -> None:
    (one, other), events = both(tmp_path, "he-init")
    assert one == other != untreated
    assert {stage for _, stage in events} == {"done"}


def test_what_one_rank_cannot_do_is_taken_back_on_the_other(tmp_path: Path, untreated: str) -> None:
    numbers = "[0,0,0,0]", "[1,1,1,2]"
    treat = f"scale-inputs:layer=0,mean={numbers[0]},std={numbers[1]}"
    (one, other), events = both(tmp_path, treat.replace("layer=0", 'layer="0"'), "--shadow")
    assert one == other == untreated
    assert events == [("scale-inputs", "refused")] * 2


def test_the_first_rank_decides_for_all_what_auto_gives(tmp_path: Path) -> None:
    (one, other), events = both(tmp_path, "auto", "--dead")
    assert one == other
    assert "done" in {stage for _, stage in events}


def test_what_breaks_is_restored_on_both_ranks_at_the_same_step(tmp_path: Path) -> None:
    (one, other), _ = both(tmp_path, "auto", "--fast")
    assert one == other
    view = defib.open_run(tmp_path / "r.rec").view
    done = [(e.step, e.data["treatment"]) for e in view.of_kind("treatment") if e.data["stage"] == "done"]
    assert done[0][1] == "roll-back"
    assert 0 < done[0][0] < 25
