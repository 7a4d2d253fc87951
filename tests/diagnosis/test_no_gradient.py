"""Small real trainings in which parts of the network get no gradient, each for another reason."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import defib
from defib.core.cause import Cause
from defib.core.diagnosis import Diagnosis
from defib.core.finding import Finding, Severity
from defib.diagnosis.case_gradients import zero_again
from defib.diagnosis.cases import flat_loss
from defib.diagnosis.rules.zero_gradient import ZeroGradient


@pytest.fixture(autouse=True)
def one_thread_and_one_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class Net(nn.Module):
    """Two hidden layers with something in between."""

    def __init__(self, between: Callable[[Tensor], Tensor] = lambda h: h) -> None:
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.fc2(self.between(F.relu(self.fc1(x))))))


def cross_entropy(answer: Tensor, x: Tensor) -> Tensor:
    return F.cross_entropy(answer, (x[:, 0] > 0).long())


def diagnosed(
    model: nn.Module,
    folder: Path,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    lr: float = 0.05,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Diagnosis:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    with defib.watch(model, optimizer, output=folder / f"{scale}.rec", every=4) as run:
        for _ in range(120):
            x = torch.randn(64, 8)
            optimizer.zero_grad()
            (loss(model(x.to(dtype)), x) * scale).backward()
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.div_(scale)
            optimizer.step()
    assert run.faults == 0
    return run.diagnose()


def flat(findings: tuple[Finding, ...]) -> Iterator[Finding]:
    for finding in findings:
        yield finding
        yield from flat(finding.explains)


def of_rule(diagnosis: Diagnosis, rule: str) -> list[Finding]:
    return [f for f in flat(diagnosis.findings) if f.rule == rule]


def test_round_cuts_the_layers_below_it_and_is_named(tmp_path: Path) -> None:
    (finding,) = of_rule(diagnosed(Net(torch.round), tmp_path), "zero-gradient")
    assert (finding.cause, finding.layer) == (Cause.CUT, "fc1")
    assert "round()" in finding.message


def test_where_a_cut_stops_learning_it_is_the_one_finding(tmp_path: Path) -> None:
    """Nothing but the output's bias is left to learn: the features below sign() never change."""
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))

    class Signed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.bias = model, nn.Parameter(torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sign(self.body(x)) + self.bias

    diagnosis = diagnosed(Signed(), tmp_path, lambda answer, x: F.cross_entropy(answer, (x[:, 0] > 0).long()))
    alarms = [f for f in diagnosis.findings if f.severity is not Severity.INFO]
    assert [(f.rule, f.cause) for f in alarms] == [("zero-gradient", Cause.CUT)]
    assert "sign()" in alarms[0].message


@pytest.mark.parametrize(
    "cut", [torch.Tensor.detach, lambda h: (h > 0).float()], ids=["detach", "comparison"]
)
def test_what_lies_behind_a_detach_is_unreached(cut: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    (finding,) = of_rule(diagnosed(Net(cut), tmp_path), "zero-gradient")
    assert (finding.cause, finding.layer) == (Cause.UNREACHED, "fc1")


def test_a_layer_frozen_on_purpose_is_not_mentioned(tmp_path: Path) -> None:
    model = Net()
    model.fc1.requires_grad_(False)
    assert of_rule(diagnosed(model, tmp_path), "zero-gradient") == []


def test_a_straight_through_estimator_is_no_cut(tmp_path: Path) -> None:
    diagnosis = diagnosed(Net(lambda h: h + (torch.round(h) - h).detach()), tmp_path)
    assert of_rule(diagnosis, "zero-gradient") == []


def test_a_margin_that_all_samples_keep_is_done_not_broken(tmp_path: Path) -> None:
    def hinge(answer: Tensor, x: Tensor) -> Tensor:
        return F.relu(-1e3 - answer).mean()

    diagnosis = diagnosed(Net(), tmp_path, hinge)
    (finding,) = of_rule(diagnosis, "zero-gradient")
    assert (finding.cause, finding.severity) == (Cause.ZERO_LOSS, Severity.INFO)


def test_a_network_with_gradients_everywhere_is_left_alone(tmp_path: Path) -> None:
    assert of_rule(diagnosed(Net(), tmp_path), "zero-gradient") == []


def deep_sigmoid() -> nn.Sequential:
    layers = [part for _ in range(6) for part in (nn.Linear(16, 16), nn.Sigmoid())]
    return nn.Sequential(nn.Linear(8, 16), nn.Sigmoid(), *layers, nn.Linear(16, 2)).half()


def half_loss(answer: Tensor, x: Tensor) -> Tensor:
    return cross_entropy(answer.float(), x)


def test_gradients_lost_in_float16_are_found_and_the_stated_loss_scale_saves_them(tmp_path: Path) -> None:
    model = deep_sigmoid()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    diagnosis = diagnosed(model, tmp_path, half_loss, dtype=torch.float16)
    (finding,) = of_rule(diagnosis, "gradient-underflow")
    assert (finding.cause, finding.layer) == (Cause.BELOW_PRECISION, "0")
    numbers = {e.name: e.value for e in finding.evidence}
    scale = float(numbers["loss scale that lifts that size to the smallest normal number"])
    assert scale == 2 ** round(torch.tensor(scale).log2().item())
    model.load_state_dict(start)
    torch.manual_seed(0)
    again = diagnosed(model, tmp_path, half_loss, scale=scale, dtype=torch.float16)
    assert of_rule(again, "gradient-underflow") == []


def test_the_same_network_in_float32_loses_nothing(tmp_path: Path) -> None:
    diagnosis = diagnosed(deep_sigmoid().float(), tmp_path)
    assert of_rule(diagnosis, "gradient-underflow") == []


def stated(folder: Path, scale: float | None) -> float:
    """The loss scale that is stated for a network under autocast, with that scale in force or no scaler."""
    torch.manual_seed(0)
    model = deep_sigmoid().float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", enabled=scale is not None, init_scale=scale or 1.0)
    with defib.watch(model, optimizer, output=folder / f"{scale}.rec", every=4) as run:
        for _ in range(120):
            x = torch.randn(64, 8)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                answer = model(x)
            scaler.scale(half_loss(answer, x)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert run.faults == 0
    (finding,) = of_rule(run.diagnose(), "gradient-underflow")
    numbers = {e.name: e.value for e in finding.evidence}
    assert numbers["loss scale in force"] == (scale or 1.0)
    return float(numbers["loss scale that lifts that size to the smallest normal number"])


def test_the_stated_loss_scale_does_not_depend_on_the_one_in_force(tmp_path: Path) -> None:
    """At first next to all is lost, with a scale of 8 a fifth: what is left differs, the truth does not."""
    assert stated(tmp_path, None) == stated(tmp_path, 8.0)


def steps_after(take: Callable[[torch.optim.Optimizer], None], folder: Path) -> Finding:
    """The first finding of a training in which something is done to the gradients before each step."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with defib.watch(model, optimizer, output=folder / "run.rec", every=4) as run:
        for _ in range(120):
            x = torch.randn(64, 8)
            cross_entropy(model(x), x).backward()
            take(optimizer)
            optimizer.step()
    assert run.faults == 0
    return defib.diagnose(folder / "run.rec").findings[0]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_are_taken_away_before_the_step_are_told_apart_from_a_missing_path(to_none, tmp_path):
    found = steps_after(lambda o: o.zero_grad(set_to_none=to_none), tmp_path)
    assert (found.rule, found.cause, found.severity) == (
        "zero-gradient",
        Cause.GRADIENTS_DROPPED,
        Severity.ERROR,
    )


class Factors(nn.Module):
    """A product of two factors that both begin at zero, beside a layer that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 2).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.zeros(8, 3)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.base(x) + x @ self.a @ self.b)


def test_two_factors_of_zero_block_each_other_and_nobody_took_their_gradients(tmp_path):
    found = diagnosed(nn.Sequential(Factors(), nn.Linear(2, 2).requires_grad_(False)), tmp_path).findings[0]
    assert (found.rule, found.cause) == ("zero-gradient", Cause.BLOCKED)


def test_gradients_that_stay_are_not_said_to_be_taken_away(tmp_path):
    found = steps_after(lambda _: None, tmp_path)
    assert found.cause is not Cause.GRADIENTS_DROPPED


@pytest.mark.parametrize(("kind", "cause"), [("Linear", Cause.GRADIENTS_DROPPED), ("LowRank", Cause.BLOCKED)])
def test_only_of_a_plain_layer_it_is_known_that_its_gradient_is_never_zero_by_itself(kind, cause):
    run = zero_again(flat_loss())
    run = replace(run, layers=tuple(replace(layer, kind=kind) for layer in run.layers))
    (finding,) = ZeroGradient().check(run)
    assert finding.cause is cause
