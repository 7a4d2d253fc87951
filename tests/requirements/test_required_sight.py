"""What is seen, and that what is not seen is said: R8, R9, R11, R12, R13, R14, R31, R34."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from watched_runs import CLASSES, FEATURES, LR, data, diagnosis, mlp, reopened, train, watched, weights

import defib
from defib.core.run import RunView
from defib.core.site import Signal, Site
from defib.report.text import to_text

COMPILED = "runs inside torch.compile"


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch|copyreg")
        return torch.compile(model, backend="aot_eager")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_r08_a_compiled_model_trains_on_and_is_not_called_healthy(tmp_path):
    torch.manual_seed(0)
    bare = mlp()
    train(bare, torch.optim.SGD(bare.parameters(), lr=LR), 60, forward=compiled(bare))
    torch.manual_seed(0)
    model = mlp()
    view = watched(tmp_path / "a.rec", model, forward=compiled(model))
    assert all(torch.equal(a, b) for a, b in zip(weights(bare), weights(model), strict=True))
    answer = diagnosis(view)
    assert answer.verdict == "not-observed"
    assert (answer.coverage.observed, answer.coverage.layers) == (0, 2)
    assert {u.what: u.why for u in answer.coverage.not_observed} == {"0": COMPILED, "2": COMPILED}
    (finding,) = answer.findings
    # information: its loss falls, and an error would say that it cannot reach its goal
    assert (finding.rule, finding.cause, finding.severity) == ("not-observed", "not-visible", "info")
    assert view.liveness["0"].steps == 60, "the gradients are seen all the same"


class HalfCompiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh())
        self.outside = mlp(16)[:2]
        self.mix = nn.Linear(16, FEATURES)
        self.head = nn.Linear(16, CLASSES)
        self.fast = compiled(self.inside)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.outside(self.mix(self.fast(x))))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_r09_a_compiled_part_is_named_and_the_rest_is_judged(tmp_path):
    view = watched(tmp_path / "a.rec", HalfCompiled())
    answer = diagnosis(view)
    assert answer.verdict == "healthy"
    assert {u.what: u.why for u in answer.coverage.not_observed} == {"inside.0": COMPILED}
    assert (answer.coverage.observed, answer.coverage.layers) == (3, 4)
    (note,) = [f for f in answer.findings if f.rule == "not-observed"]
    assert (note.cause, note.severity, note.layer) == ("not-visible", "info", "inside.0")
    assert f"observed  3 of 4 layers; not: inside.0 ({COMPILED})" in to_text(answer)


@pytest.mark.parametrize("form", ["module", "function"])
def test_r11_the_preactivation_before_an_in_place_relu_is_read(form, tmp_path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
            self.relu = nn.ReLU(inplace=True) if form == "module" else F.relu_

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.relu(self.fc(x)))

    model = Net()
    x, _ = data()
    z = model.fc(x[:64]).detach()
    view = watched(tmp_path / "a.rec", model, steps=1)
    site = Site(path="fc")
    tally = view.tally(site, Signal.PREACTIVATION)
    np.testing.assert_allclose(tally.low, z.amin(0), rtol=1e-5)
    np.testing.assert_allclose(tally.high, z.amax(0), rtol=1e-5)
    assert (tally.low < 0).all(), "clamped values have no negative part"
    np.testing.assert_array_equal(tally.positive, (z > 0).sum(0))
    np.testing.assert_array_equal(view.tally(site, Signal.ACTIVATION).zero, (z <= 0).sum(0))


class Repeated(nn.Module):
    """One layer used three times, if asked for within a checkpoint."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(FEATURES, 16), nn.Linear(16, CLASSES)
        self.shared = nn.Linear(16, 16)
        self.reentrant = reentrant
        self.calls: list[Tensor] = []

    def thrice(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.relu(self.shared(x))
            self.calls.append(x.detach())
        return x

    def forward(self, x: Tensor) -> Tensor:
        self.calls.clear()
        x = F.gelu(self.stem(x))
        if self.reentrant is None:
            return self.head(self.thrice(x))
        return self.head(checkpoint(self.thrice, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_r12_a_checkpointed_shared_layer_counts_once_a_step(reentrant, tmp_path):
    def run(kind: bool | None) -> RunView:
        torch.manual_seed(0)
        return watched(tmp_path / f"{kind}.rec", Repeated(kind), steps=20)

    plain, view = run(None), run(reentrant)
    assert view.steps == 20
    assert len(view.loss) == 20
    np.testing.assert_array_equal(view.loss.values, plain.loss.values)
    for path, live in plain.liveness.items():
        assert view.liveness[path].steps == 20
        np.testing.assert_array_equal(view.liveness[path].alive_steps, live.alive_steps)
    counted = {str(w.site): view.tally(w.site, Signal.ACTIVATION_GRAD).samples for w in view.wirings}
    assert {n for site, n in counted.items() if not site.startswith("(")} == {20 * 64}
    np.testing.assert_allclose(view.norms.gradient, plain.norms.gradient, rtol=1e-6)
    assert diagnosis(view).verdict != "sick"


def test_r13_each_use_of_a_shared_layer_is_a_site_of_its_own(tmp_path):
    model = Repeated()
    view = watched(tmp_path / "a.rec", model, steps=1)
    sites = [w.site for w in view.wirings if w.site.path == "shared"]
    assert [site.call for site in sites] == [0, 1, 2]
    for site, h in zip(sites, model.calls, strict=True):
        np.testing.assert_allclose(view.tally(site, Signal.ACTIVATION).mean, h.mean(0), rtol=1e-5)
    means = [view.tally(site, Signal.ACTIVATION).rms for site in sites]
    assert len(set(means)) == 3
    wiring = {w.site.call: w.inputs for w in view.wirings if w.site.path == "shared"}
    assert wiring[1] == (sites[0],)
    assert wiring[2] == (sites[1],)


class Awkward(nn.Module):
    """A recurrent layer with tuples, a dict for an output, activations as functions, an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(2, 12, batch_first=True)
        self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)
        self.unused, self.frozen = nn.Linear(3, 3), nn.Linear(12, 12).requires_grad_(False)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        out, (h, _) = self.rnn(x.view(len(x), 4, 2))
        y = F.relu(self.a(out[:, -1]))
        y = self.b(y).clamp(min=0)
        y = F.leaky_relu(self.c(self.frozen(y)), 0.1)
        return {"all": (self.head(y), h)}


def test_r14_tuples_dicts_recurrent_layers_and_activations_as_functions(tmp_path):
    model = Awkward()
    view = watched(tmp_path / "a.rec", model, forward=lambda x: model(x)["all"][0])
    seen = {w.site.path: w.activation for w in view.wirings if not w.output}
    assert seen == {"a": "relu", "b": "clamp", "c": "leaky_relu"}
    for path in seen:
        for signal in (Signal.PREACTIVATION, Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD):
            assert view.tally(Site(path=path), signal).samples == 60 * 64
    assert diagnosis(view).verdict == "healthy"


def test_r34_the_coverage_line_counts_the_layers_and_says_why_not(tmp_path):
    model = Awkward()
    answer = diagnosis(watched(tmp_path / "a.rec", model, forward=lambda x: model(x)["all"][0]))
    assert (answer.coverage.observed, answer.coverage.layers) == (4, 7)
    reasons = {u.what: u.why for u in answer.coverage.not_observed}
    assert set(reasons) == {"rnn", "unused", "frozen"}
    assert "recurrent" in reasons["rnn"]
    assert "no backward" in reasons["unused"]
    assert "frozen" in reasons["frozen"]
    line = " ".join(to_text(answer).split())
    assert "observed 4 of 7 layers; not: rnn (the inside of a fused recurrent kernel is not visible)" in line


SCRIPTS = {
    "no-step": "import torch\nmodel = torch.nn.Linear(2, 2)\nfor batch in []: pass\n",
    "no-step, weights changed by hand": """
import torch
model = torch.nn.Linear(2, 2)
for _ in range(5):
    model(torch.ones(3, 2)).square().sum().backward()
    for p in model.parameters():
        p.data -= 0.01 * p.grad
""",
    "no-data": """
import torch
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(5):
    optimizer.step()
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_r31_a_run_without_data_is_an_error_with_a_cause(name, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPTS[name], encoding="utf-8")
    command = [sys.executable, "-m", "defib", "run", "-o", str(tmp_path / "a.rec"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "the script's own"
    assert "defib: not observed" in done.stderr
    assert "healthy" not in done.stderr
    answer = diagnosis(defib.open_run(tmp_path / "a.rec").view)
    assert answer.verdict == "not-observed"
    assert [(f.rule, f.cause, f.severity) for f in answer.findings] == [
        ("not-observed", name.split(",")[0], "error")
    ]


def test_r31_endless_backwards_without_a_step_cost_nothing_in_the_end(tmp_path):
    model = mlp()
    x, y = data()
    with defib.watch(model, output=tmp_path / "a.rec", every=1) as run:
        recorder = run._session._recorder
        for _ in range(200):
            F.cross_entropy(model(x), y).backward()
        assert len(recorder._collected) == 64
        assert len(recorder._objectives) <= 64
    assert diagnosis(reopened(run)).verdict == "not-observed"
