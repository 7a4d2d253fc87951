"""Two ranks under torchrun: one folder, both read, and nothing changed (R5)."""

import sys

import pytest
from launching import Script, run

import defib

DDP = """
import atexit, os, sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
with torch.no_grad():
    model[0].bias[1:7] = -1000.0
model = DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
torch.manual_seed(1 + dist.get_rank())
for _ in range(60):
    optimizer.zero_grad()
    model(torch.randn(128, 4)).pow(2).mean().backward()
    optimizer.step()
torch.save(model.module.state_dict(), f"{sys.argv[1]}-{dist.get_rank()}.pt")
dist.barrier()
# gloo's own teardown now and then aborts a process here, watched or not: run what
# python runs at exit, and leave before that.
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(int(sys.argv[2]))
"""


def torchrun(folder, *words):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return run([*launcher, *words], folder)


@pytest.mark.slow
def test_two_ranks_write_one_record_and_end_up_with_the_same_parameters(folder):
    import torch

    Script(text=DDP).write(folder)
    bare = torchrun(folder, "script.py", "bare", "0")
    watched = torchrun(
        folder, "-m", "defib", "run", "--every", "1", "-o", "two.rec", "script.py", "watched", "0"
    )
    assert bare.code == watched.code == 0, bare.err + watched.err
    assert watched.out == bare.out
    for rank in (0, 1):
        before, after = (torch.load(folder / f"{name}-{rank}.pt") for name in ("bare", "watched"))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert watched.err.count("\ndefib: ") == 1, watched.err
    assert sorted(p.name for p in (folder / "two.rec").glob("*.db")) == ["rank-00000.db", "rank-00001.db"]
    view = defib.open_run(folder / "two.rec").view
    assert view.facts["ranks"] == 2
    assert {layer.path for layer in view.layers} == {"0", "2"}
    assert not [
        parameter for layer in view.layers for parameter in layer.parameters if "module." in parameter
    ]
    one = defib.open_run(folder / "two.rec" / "rank-00001.db").view
    assert sum(reading.tally.samples for reading in view.readings) == 2 * sum(
        r.tally.samples for r in one.readings
    )
    dead = [finding for finding in defib.diagnose(view).findings if finding.rule == "dead-unit"]
    assert [(finding.layer, finding.units) for finding in dead] == [("0", (1, 2, 3, 4, 5, 6))]


@pytest.mark.slow
def test_a_rank_that_fails_fails_the_job_as_ever(folder):
    Script(text=DDP).write(folder)
    bare = torchrun(folder, "script.py", "bare", "3")
    watched = torchrun(folder, "-m", "defib", "run", "-q", "-o", "two.rec", "script.py", "watched", "3")
    assert (watched.code, watched.out) == (bare.code, bare.out)
    assert defib.open_run(folder / "two.rec").view.facts["ranks"] == 2
