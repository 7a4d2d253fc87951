"""Cost, memory, bytes and the user's own objects: R1, R3, R4, R5, R10, R16, R17."""

import ast
import copy
import gc
import io
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watched_runs import (
    CLASSES,
    FEATURES,
    LR,
    alarms,
    data,
    diagnosis,
    mlp,
    reopened,
    size,
    train,
    watched,
    weights,
)

import defib
from defib.capture import border, norms, objective, reading, secant, session, vitals
from defib.record.writer import SMALLEST_CAP, Writer
from defib.report.text import to_text
from defib.report.wording import percent

CAPTURE = Path(session.__file__).parent


def test_r01_the_cost_is_measured_and_stands_in_the_answer(tmp_path):
    model = mlp(64, depth=2)
    optimizer = torch.optim.Adam(model.parameters())
    with defib.watch(model, optimizer, output=tmp_path / "a.rec") as run:
        train(model, optimizer, 600)
    answer = diagnosis(reopened(run))
    cost = answer.overhead
    assert cost.ratio is not None
    assert cost.budget == 0.01
    assert 0 < cost.seconds
    said = f"overhead  {percent(cost.ratio)} or {cost.seconds:.2g} s measured (budget {percent(0.01)})"
    assert said in to_text(answer)
    assert answer.coverage.readings < 200, "the governor spaces the readings"
    assert answer.coverage.steps == 600


def test_r01_what_is_written_does_not_grow_with_the_batch(tmp_path):
    sizes = {}
    for batch in (8, 256):
        torch.manual_seed(0)
        # Without the samples of the prognosis: how many there are by a flush is a matter of time.
        place = tmp_path / f"{batch}.rec"
        watched(place, mlp(64, depth=2), steps=150, batch=batch, keep_inputs=False)
        sizes[batch] = size(place)
    assert sizes[256] < 1.3 * sizes[8]
    assert max(sizes.values()) < 150 * 4096, "bytes a step, with a reading on each"


def test_r03_nothing_of_the_users_outlives_its_last_use(tmp_path):
    def one_training() -> list[weakref.ref]:
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, 5)
        x, y = data()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return [weakref.ref(thing) for thing in (model, optimizer, loss, model[0].weight)]

    def with_graph() -> set[int]:
        gc.collect()
        return {id(t) for t in gc.get_objects() if type(t) is Tensor and t.grad_fn is not None}

    before = with_graph()  # what other tests left behind is not ours
    with defib.watch(output=tmp_path / "a.rec", every=1) as run:
        refs = one_training()
        assert with_graph() <= before
        assert [ref() for ref in refs] == [None] * len(refs)
    assert reopened(run).steps == 5


def test_r03_after_the_end_torch_is_as_it_was_before(tmp_path):
    def registrations() -> tuple:
        from torch.nn.modules import module
        from torch.optim import optimizer

        names = [n for n in vars(module) if n.startswith("_global_") and n.endswith("hooks")]
        steps = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)
        return torch.autograd.backward, [len(getattr(module, n)) for n in names], [len(s) for s in steps]

    model = mlp()
    before, state = registrations(), [sorted(vars(m)) for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()]
    watched(tmp_path / "a.rec", model, steps=3)
    assert registrations() == before
    assert [sorted(vars(m)) for m in model.modules()] == state
    assert [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()] == hooks
    assert not any(p._backward_hooks for p in model.parameters())


def test_r04_a_run_stays_below_its_cap_of_bytes_and_is_judged_all_the_same(tmp_path):
    def training(writer: Writer | None) -> tuple[list[float], int]:
        torch.manual_seed(0)
        model = mlp(1024)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        watch = session.start(model, sink=writer, every=1) if writer else None
        losses, largest = [], 0
        for _ in range(4):
            losses += train(model, optimizer, 10)
            if writer and watch:
                watch.flush()
                writer.flush()
                largest = max(largest, size(writer.path))
        if watch:
            watch.close()
            assert watch.faults == 0
        return losses, largest

    place = tmp_path / "a.rec"
    losses, largest = training(Writer.create(place, cap=SMALLEST_CAP))
    assert largest <= SMALLEST_CAP
    assert size(place) <= SMALLEST_CAP
    assert losses == training(None)[0]
    view = defib.open_run(place).view
    assert view.of_kind("capped"), "the cap was never met, so this test shows nothing"
    answer = diagnosis(view)
    assert answer.coverage.steps == 40
    assert any("size limit" in unseen.why for unseen in answer.coverage.not_observed)


def test_r05_copies_to_the_host_do_not_grow_with_the_number_of_layers(tmp_path, monkeypatch):
    made: list[int] = []

    class Counted(border.Transfer):
        def __init__(self, tensor: Tensor) -> None:
            made.append(tensor.numel())
            super().__init__(tensor)

    for module in (reading, objective, norms, secant, vitals):
        monkeypatch.setattr(module, "Transfer", Counted)

    counts = {}
    for depth in (1, 12):
        model = mlp(depth=depth)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with defib.watch(model, optimizer, output=tmp_path / f"{depth}.rec", every=1) as run:
            train(model, optimizer, 3)  # the first steps bring the layers and the plan along
            made.clear()
            train(model, optimizer, 1)
            counts[depth] = len(made)
        assert len(reopened(run).wirings) >= depth
    # One for all statistics of the backward, one for what the loss compared, one for all norms, one
    # for the step before compared with this one; one more if this step happens to flush the vitals.
    assert 4 <= counts[1] <= 5
    assert 4 <= counts[12] <= 5


def test_r05_only_the_border_makes_numbers_of_tensors():
    waiting = {"item", "cpu", "numpy", "synchronize"}
    calls = {
        f"{path.name}: {node.func.attr}"
        for path in CAPTURE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in waiting
    }
    assert calls
    assert {call for call in calls if not call.startswith("border.py")} == set()


class Residual(nn.Module):
    """Everything in place: ReLU, addition of the shortcut, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(FEATURES, 16)
        self.norm = nn.BatchNorm1d(16)
        self.inner = nn.Linear(16, 16)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.relu(self.norm(self.stem(x)), inplace=True)
        y = self.inner(shortcut)
        y += shortcut
        return self.head(self.relu(y))


def test_r10_in_place_operations_train_on_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    bare = Residual()
    train(bare, torch.optim.SGD(bare.parameters(), lr=LR), 60)
    torch.manual_seed(0)
    model = Residual()
    view = watched(tmp_path / "a.rec", model)
    assert all(torch.equal(a, b) for a, b in zip(weights(bare), weights(model), strict=True))
    assert {w.site.path for w in view.wirings if not w.output} == {"norm", "inner"}
    answer = diagnosis(view)
    assert answer.verdict == "healthy"
    assert not alarms(answer)


class Halving(torch.autograd.Function):
    """An operation that nobody but its author knows."""

    @staticmethod
    def forward(ctx, x):
        return x / 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient / 2


class Homemade(nn.Module):
    """Bare parameters, one of them never used, one that no optimiser owns, and an own operation."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(FEATURES, 12) / 3)
        self.spare = nn.Parameter(torch.zeros(4))
        self.temperature = nn.Parameter(torch.ones(()))
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Halving.apply((x @ self.table).relu())) * self.temperature


class SignDescent(torch.optim.Optimizer):
    """An optimiser with a state, a name and settings of its own, and no learning rate."""

    def __init__(self, parameters) -> None:
        super().__init__(parameters, {"pace": 0.01})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.sub_(group["pace"] * p.grad.sign())


def test_r16_own_modules_operations_and_optimisers_are_no_trouble(tmp_path):
    model = Homemade()
    optimizer = SignDescent([model.table, model.spare, *model.head.parameters()])
    with defib.watch(model, output=tmp_path / "a.rec", every=1) as run:
        losses = train(model, optimizer, 60)
    view = reopened(run)
    assert losses[-1] < losses[0]
    assert view.optimizers[0].kind == "SignDescent"
    assert view.optimizers[0].steps == 60
    assert {layer.path for layer in view.layers} == {"", "head"}
    assert [w.site.path for w in view.wirings if not w.output] == [""]
    assert diagnosis(view).verdict == "healthy"


@pytest.mark.parametrize("way", ["save", "deepcopy"])
def test_r17_a_model_saved_or_copied_in_mid_run_is_the_one_of_an_unwatched_run(way, tmp_path):
    def checkpoint(watch: bool) -> tuple[bytes, list[Tensor]]:
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters())
        run = defib.watch(model, optimizer, output=tmp_path / f"{way}.rec", every=1) if watch else None
        train(model, optimizer, 5)
        file = io.BytesIO()
        if way == "save":
            torch.save({"model": model, "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            twin = torch.load(file, weights_only=False)["model"]
        else:
            twin = copy.deepcopy(model)
        train(twin, torch.optim.SGD(twin.parameters(), lr=0.1), 3)
        train(model, optimizer, 5)
        if run is not None:
            run.close()
            assert reopened(run).optimizers[0].steps == 10
        return file.getvalue(), [*weights(twin), *weights(model)]

    (bare_bytes, bare), (seen_bytes, seen) = checkpoint(False), checkpoint(True)
    assert seen_bytes == bare_bytes
    assert all(torch.equal(a, b) for a, b in zip(bare, seen, strict=True))
