"""Training loops that change under way, and loops that hardly train at all."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from memory import Memory
from small import bare_run, mlp, same, train, watched, weights
from torch import nn
from torch.utils.data import DataLoader, Dataset

from defib.capture import taps
from defib.capture.session import start
from defib.core.site import Signal

HERE = Path(__file__).parent


def test_a_parameter_group_added_later_is_seen_from_then_on(sink):
    model = nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 3)})
    optimizer = torch.optim.SGD(model["a"].parameters(), lr=0.1)
    session = watched(model, sink)
    for step in range(8):
        if step == 4:
            optimizer.add_param_group({"params": list(model["b"].parameters()), "lr": 0.01})
        optimizer.zero_grad()
        model["b"](model["a"](torch.randn(5, 6))).square().sum().backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    assert sink.lives[0, "a"][0]["steps"] == 8
    assert sink.lives[0, "b"][0]["steps"] == 4
    assert (sink.lives[0, "b"][1][0] == 4).all(), "the first step on which it was seen alive"
    assert sink.optimizers[0]["parameters"] == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert [g["lr"] for g in sink.optimizers[0]["groups"]] == [0.1, 0.01]
    assert {layer.path: layer.optimizer for layer in sink.modules} == {"a": 0, "b": 0}
    assert "b.weight" in sink.sizes[-1][1]


def test_a_layer_unfrozen_later_is_seen_from_then_on(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    session = watched(model, sink)
    train(model, optimizer, 4)
    session.flush()
    assert (0, "2") not in sink.lives
    model[2].requires_grad_(True)
    train(model, optimizer, 4)
    session.close()
    assert session.faults == 0, sink.events
    facts, units = sink.lives[0, "2"]
    assert facts["steps"] == 4
    assert (units[0] == 4).all()
    assert not next(layer for layer in sink.modules if layer.path == "2").frozen
    assert "2" not in {u["what"] for u in sink.known["unseen"]}


def test_a_frozen_layer_is_said_to_be_frozen(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))
    model[0].requires_grad_(False)
    session = watched(model, sink)
    train(model, torch.optim.SGD(model[2].parameters(), lr=0.1), 3)
    session.close()
    assert session.faults == 0
    assert "frozen" in {u["what"]: u["why"] for u in sink.known["unseen"]}["0"]
    assert (0, "0") not in sink.lives


def test_a_model_without_parameters(sink):
    session = start(nn.ReLU(), sink=sink, every=1)
    x = torch.randn(3, requires_grad=True)
    nn.ReLU()(x).sum().backward()
    session.close()
    assert session.faults == 0, sink.events
    assert sink.status == "finished"


def test_parameters_that_never_get_a_gradient_are_not_dead(sink):
    model = nn.ModuleDict({"used": mlp(), "unused": nn.Linear(4, 4)})
    optimizer = torch.optim.Adam(model.parameters())
    session = watched(model, sink)
    for _ in range(4):
        optimizer.zero_grad()
        model["used"](torch.randn(5, 6)).sum().backward()
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    facts, _ = sink.lives[0, "unused"]
    assert facts["steps"] == 0
    assert facts["last_step"] == -1
    assert {u["what"] for u in sink.known["unseen"]} == {"unused"}


def test_an_optimizer_that_steps_without_any_backward(sink):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink)
    for _ in range(3):
        optimizer.step()
    session.close()
    assert session.faults == 0, sink.events
    assert sink.optimizers[0]["steps"] == 3
    assert not any(len(columns.get("loss", ())) for _, _, columns in sink.streams), "nobody knows the loss"
    assert not sink.windows


def test_lazy_layers_beside_ordinary_ones_are_named(sink):
    model = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.LazyLinear(7), nn.ReLU(), nn.LazyLinear(3))
    session = watched(model, sink)
    model(torch.randn(2, 6))
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    session.close()
    assert session.faults == 0, sink.events
    assert [layer.path for layer in sink.modules] == ["0", "2", "4"]
    assert [w.site.path for w in sink.wired if not w.output] == ["0", "2"]


@pytest.mark.parametrize("every", [1, 1000])
def test_the_loss_of_another_network_is_not_taken_for_ours(every, sink):
    model, stranger = mlp(), mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    theirs = torch.optim.SGD(stranger.parameters(), lr=0.1)
    session = watched(model, sink, every=every)
    losses = []
    for _ in range(5):
        train(stranger, theirs, 2)
        losses += train(model, optimizer, 1)
        train(stranger, theirs, 1)
    session.close()
    assert session.faults == 0
    np.testing.assert_array_equal(sink.loss(), np.array(losses, np.float32))


@pytest.mark.parametrize("model_given", [True, False])
def test_only_the_chosen_optimizer_is_counted(model_given, sink):
    model = mlp()
    chosen = torch.optim.SGD(model[0].parameters(), lr=0.1)
    other = torch.optim.SGD(model[2].parameters(), lr=0.1)
    session = start(model if model_given else None, [chosen], sink=sink, every=1)
    for _ in range(3):
        model(torch.randn(5, 6)).sum().backward()
        chosen.step()
        other.step()
    session.close()
    assert session.faults == 0
    assert sorted(sink.optimizers) == [0]
    assert sink.optimizers[0]["parameters"] == ["0.weight", "0.bias"]


def test_without_a_model_it_finds_what_is_trained(sink):
    session = start(sink=sink, every=1)
    model = mlp()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), 3)
    session.close()
    assert session.faults == 0, sink.events
    assert [layer.path for layer in sink.modules] == ["0", "2"]
    assert sink.tally("0", Signal.ACTIVATION).samples == 15


def test_default_dtype_and_default_device(sink):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        session = watched(model, sink)
        for _ in range(3):
            optimizer.zero_grad()
            x = torch.randn(5, 6, device="cpu", dtype=torch.float32)
            model(x).sum().backward()
            optimizer.step()
        session.close()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert session.faults == 0, sink.events
    assert sink.tally("0", Signal.ACTIVATION).samples == 15


def test_deterministic_mode(sink):
    torch.use_deterministic_algorithms(True)
    try:
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
        )
        session = watched(model, sink)
        train(model, torch.optim.Adam(model.parameters()), 3, (2, 5, 5))
        session.close()
    finally:
        torch.use_deterministic_algorithms(False)
    assert session.faults == 0, sink.events
    assert sink.windows


def test_anomaly_mode(sink):
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        model = mlp()
        session = watched(model, sink)
        train(model, torch.optim.Adam(model.parameters()), 3)
        session.close()
    assert session.faults == 0, sink.events
    assert not [w for w in caught if "defib" in str(w.filename)]
    assert sink.windows


def test_the_fast_path_of_a_transformer_in_eval_is_not_switched_off(sink):
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)
    x, mask = (
        torch.randn(3, 5, 16),
        torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]]),
    )

    def kernels() -> tuple[torch.Tensor, list[str]]:
        model.eval()
        with torch.no_grad(), torch.profiler.profile() as profile:
            out = model(x, src_key_padding_mask=mask)
        return out, sorted({e.key for e in profile.key_averages() if e.key.startswith("aten::")})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare, names = kernels()
        assert "aten::_transformer_encoder_layer_fwd" in names, "the fast path is not taken at all"
        session = watched(model, sink)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        model.train()
        model(x).sum().backward()
        optimizer.step()
        seen, seen_names = kernels()
        session.close()
    assert seen_names == names
    assert torch.equal(bare, seen)
    assert session.faults == 0, sink.events


class Numbers(Dataset):
    """Each worker also trains something, as a data augmentation network might."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        model = mlp()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
        return torch.full((6,), float(i)), torch.tensor(float(len(taps._watches)))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_data_loader_write_nothing(method, sink, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    model = mlp()
    session = start(sink=sink, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(Numbers(), batch_size=2, num_workers=2, multiprocessing_context=method)
    watches = []
    for x, watching in loader:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        watches += watching.tolist()
    session.close()
    assert watches == [0.0] * 4, "a worker was watched"
    assert session.faults == 0, sink.events
    assert sorted(sink.optimizers) == [0]
    assert sink.optimizers[0]["steps"] == 2
    assert taps._watches == []


def test_a_raw_fork_watches_nothing_and_the_parent_goes_on(sink):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink)
    train(model, optimizer, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "multi-threaded, use of fork() may lead to deadlocks"
        child = os.fork()
    if child == 0:
        clean = torch.autograd.backward is taps._original_backward and not taps._watches
        os._exit(0 if clean else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    train(model, optimizer, 1)
    session.close()
    assert len(sink.loss()) == 2


DDP = """
import os, sys, hashlib
sys.path.insert(0, sys.argv[1])
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from memory import Memory
from small import mlp, train, watched
meeting, rank, ranks = "file://" + sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
dist.init_process_group("gloo", rank=rank, world_size=ranks, init_method=meeting)
torch.manual_seed(0)
model, sink = DistributedDataParallel(mlp()), Memory()
session = watched(model, sink) if sys.argv[5] == "watch" else None
torch.manual_seed(int(sys.argv[3]))
train(model, torch.optim.Adam(model.parameters()), 4)
if session:
    session.close()
    assert session.faults == 0, sink.events
    assert [l.path for l in sink.modules] == ["0", "2"], sink.modules
    assert [w.site.path for w in sink.wired if not w.output] == ["0"] and sink.windows
    assert sink.lives[0, "0"][0]["steps"] == 4
raw = b"".join(p.detach().numpy().tobytes() for p in model.parameters())
print(hashlib.sha256(raw).hexdigest(), flush=True)
dist.barrier()
os._exit(0)  # gloo's own teardown now and then aborts a process here, watched or not
"""


def ddp(ranks: int, watch: str, tmp_path: Path) -> set[str]:
    meeting = tmp_path / f"meet-{ranks}-{watch}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DDP, str(HERE), str(meeting), str(rank), str(ranks), watch],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    outputs = [p.communicate(timeout=120) for p in processes]
    assert all(p.returncode == 0 for p in processes), outputs
    return {out.strip().splitlines()[-1] for out, _ in outputs}


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distributed_data_parallel_keeps_its_bits_and_its_users_names(ranks, tmp_path):
    bare, seen = ddp(ranks, "bare", tmp_path), ddp(ranks, "watch", tmp_path)
    assert len(bare) == 1
    assert bare == seen


def test_a_sparse_schedule_of_readings_changes_no_bits_either(sink):
    for every in (None, 3):
        torch.manual_seed(0)
        model = mlp()
        session = watched(model, sink, every=every)
        train(model, torch.optim.Adam(model.parameters()), 8)
        session.close()
        assert session.faults == 0
        assert same(weights(model), bare_run(8))


def test_every_nth_step_is_read_and_all_steps_are_counted(sink):
    model = mlp()
    session = watched(model, sink, every=4)
    train(model, torch.optim.Adam(model.parameters()), 13)
    session.close()
    assert [s for s, _ in sink.flows] == [0, 4, 8, 12]
    assert sink.lives[0, "0"][0]["steps"] == 13
    assert sink.known["overhead"]["readings"] == 4 == session.readings


def test_a_loss_that_is_not_finite_is_reported_once_with_its_place(sink):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = watched(model, sink)
    train(model, optimizer, 3)
    for _ in range(2):
        optimizer.zero_grad()
        x = torch.full((5, 6), float("nan"))
        F.mse_loss(model(x), torch.zeros(5, 3)).backward()
        optimizer.step()
    session.close()
    assert session.faults == 0
    (event,) = [e for e in sink.events if e[1] == "non-finite"]
    assert event[0] == 3
    assert event[2]["stage"] == "data"


@pytest.fixture(autouse=True)
def nothing_is_left_on():
    yield
    assert taps._watches == []
    assert torch.autograd.backward is taps._original_backward


@pytest.fixture
def sink() -> Memory:
    return Memory()


def test_the_tenth_model_of_a_cross_validation_keeps_its_names(sink, monkeypatch):
    monkeypatch.setattr("defib.capture.naming._REST", 0)  # else a fold must last a second
    session = start(sink=sink, every=1)
    for _ in range(10):
        model = mlp()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), 2)
    session.close()
    assert session.faults == 0
    assert [sink.optimizers[i]["parameters"][0] for i in range(10)] == ["0.weight"] * 10


def test_two_networks_of_one_make_that_train_by_turns_have_names_of_their_own(sink):
    session = start(sink=sink, every=1)
    first, second = mlp(), mlp()
    pairs = [(m, torch.optim.SGD(m.parameters(), lr=0.01)) for m in (first, second)]
    for _ in range(3):
        for model, optimizer in pairs:
            train(model, optimizer, 1)
    session.close()
    assert session.faults == 0, sink.events
    names = [sink.optimizers[i]["parameters"] for i in (0, 1)]
    assert names[0][0] == "0.weight"
    assert names[1][0] == "Sequential.0.weight"
    assert not set(names[0]) & set(names[1])
    assert {layer.path for layer in sink.modules} >= {"0", "Sequential.0"}
    assert {site.path for site, _, _ in sink.windows} >= {"0", "Sequential.0"}
