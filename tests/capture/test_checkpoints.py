"""A watched model is saved, copied and loaded as if nobody watched it."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from small import mlp, train, watched


@pytest.fixture
def session(sink):
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    session = watched(model, sink)
    session.model, session.optimizer = model, optimizer
    train(model, optimizer, 3)
    yield session
    session.close()
    assert session.faults == 0, sink.events


LOADER = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "defib":
            raise ModuleNotFoundError("defib must not be needed")
sys.meta_path.insert(0, Wall())
import torch
model, state = torch.load(sys.argv[1], weights_only=False)
print(sum(float(p.double().sum()) for p in model.parameters()), len(state["state"]))
"""


def test_a_checkpoint_of_a_watched_model_loads_where_defib_cannot_be_imported(session, tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save((session.model, session.optimizer.state_dict()), path)
    assert b"defib" not in path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    total = sum(float(p.detach().double().sum()) for p in session.model.parameters())
    assert done.stdout.split() == [str(total), "4"]


@pytest.mark.parametrize("copied", ["pickle", "deepcopy", "copy"])
def test_a_copy_of_a_watched_model_is_its_own_and_trains(session, sink, copied):
    how = {"pickle": lambda m: pickle.loads(pickle.dumps(m)), "deepcopy": copy.deepcopy, "copy": copy.copy}
    other = how[copied](session.model)
    assert b"defib" not in pickle.dumps(other)
    assert vars(other).keys() == vars(session.model).keys()
    steps = sink.optimizers.get(0, {}).get("steps")
    if copied != "copy":  # a shallow copy shares its parameters: it is the model
        before = session.readings
        train(other, torch.optim.SGD(other.parameters(), lr=0.1), 3)
        assert session.readings == before, "somebody else's training was taken for the model's"
        session.flush()
        assert list(sink.optimizers) == [0]
        assert sink.optimizers[0]["steps"] == 3 >= (steps or 0)


def test_an_optimizer_can_be_pickled_and_copied(session):
    again = pickle.loads(pickle.dumps(session.optimizer))
    assert type(again) is torch.optim.Adam
    copy.deepcopy(session.optimizer)
    assert b"defib" not in pickle.dumps(session.optimizer)
