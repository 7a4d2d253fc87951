"""Workers, forks and children of a watched script: they work as ever, and write nothing of ours (R3, R4)."""

import os

import pytest
from launching import TRAIN, Script, both

import defib

LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, i):
        return Item(i)

class Item:
    def __init__(self, i):
        self.row, self.where = torch.full((4,), float(i)), __name__

def stacked(items):
    return torch.stack([item.row for item in items]), {item.where for item in items}

if __name__ == "__main__":
    import atexit
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    loader = DataLoader(Numbers(), 8, num_workers=2, collate_fn=stacked, multiprocessing_context="METHOD")
    for rows, where in loader:
        optimizer.zero_grad()
        model(rows).pow(2).mean().backward()
        optimizer.step()
        print(rows[:, 0].tolist(), sorted(where))
    print(model.weight.tolist())
"""

FORK = (
    TRAIN
    + """
import atexit
me = os.getpid()
atexit.register(lambda: print("exit of the parent" if os.getpid() == me else "exit of the child", flush=True))
train(5)
sys.stdout.flush()
pid = os.fork()
train(5 if pid else 400)
if not pid:
    sys.exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), model[0].bias.tolist())
"""
)

FORK_BEFORE_TORCH = (
    """
import os, sys
pid = os.fork()
if not pid:
    import torch
    print("child", torch.__name__, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
    + TRAIN
    + "train(3)\n"
)

PROCESS = (
    "import multiprocessing, os, sys\n"
    + TRAIN
    + """
class Mine:
    pass

def work(queue, mine):
    train(50)
    queue.put((type(mine).__module__, len(sys.argv), "sitecustomize" in sys.modules, "defib" in sys.modules))

if __name__ == "__main__":
    train(3)
    context = multiprocessing.get_context("METHOD")
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue, Mine()))
    process.start()
    print(queue.get()[:2 if "METHOD" == "fork" else 4])
    process.join()
    print(process.exitcode)
"""
)


def steps(path) -> int:
    return sum(optimizer.steps for optimizer in defib.open_run(path).view.optimizers)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "method", ["fork", pytest.param("spawn", marks=SLOW), pytest.param("forkserver", marks=SLOW)]
)
def test_loader_workers_load_classes_of_the_script_itself(method, folder):
    bare, watched = both(Script(text=LOADER.replace("METHOD", method)), folder, "-q")
    assert watched == bare
    assert bare.code == 0
    assert steps(folder.parent / "watched.rec") == 4


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=SLOW)])
def test_a_process_of_the_script_s_own_is_left_alone(method, folder):
    bare, watched = both(Script(text=PROCESS.replace("METHOD", method)), folder, "-q")
    assert watched == bare
    assert bare.code == 0
    assert steps(folder.parent / "watched.rec") == 3


def test_a_forked_child_neither_writes_nor_speaks(folder):
    bare, watched = both(Script(text=FORK), folder)
    assert (watched.code, watched.out) == (bare.code, bare.out) == (0, bare.out)
    assert watched.err.count("\ndefib: ") == 1
    assert steps(folder.parent / "watched.rec") == 10
    assert sorted(os.listdir(folder.parent / "watched.rec")) == ["meta.json", "rank-00000.db"]


def test_a_child_that_imports_torch_first_does_not_take_the_record(folder):
    bare, watched = both(Script(text=FORK_BEFORE_TORCH), folder, "-q")
    assert watched == bare
    assert steps(folder.parent / "watched.rec") == 3


def test_a_subprocess_is_not_watched(folder):
    child = "import subprocess, sys\nsubprocess.run([sys.executable, 'child.py'], check=True)\n"
    script = Script(
        text=TRAIN + child + "train(3)",
        files={"child.py": TRAIN + "train(50); print(sys.modules.keys() & {'defib'})"},
    )
    bare, watched = both(script, folder, "-q")
    assert watched == bare
    assert "set()" in bare.out
    assert steps(folder.parent / "watched.rec") == 3
    assert len(list(folder.parent.rglob("*.db"))) == 1
