"""What the alarms mean: R26, R27, R28, R32, R33."""

import pytest
import torch
from torch import nn
from watched_runs import LR, alarms, data, diagnosis, every_finding, mlp, reopened, train, watched

import defib
from defib.core.finding import Finding
from defib.core.inference import rate_bound
from defib.core.run import RunView
from defib.core.site import Signal, Site

FAR = 1e4


def kill(layer: nn.Linear, units: list[int]) -> None:
    """A bias so negative that these units are off for every sample."""
    with torch.no_grad():
        layer.bias[units] = -FAR


def number(finding: Finding, name: str) -> float:
    return float(next(e.value for e in finding.evidence if e.name.startswith(name)))


def test_r26_dead_units_are_named_one_by_one_with_the_step_and_the_bound(tmp_path):
    model = mlp(24)
    born, later, rare = [1, 5, 20], [2, 7], [11]
    kill(model[0], born)
    x, _y = data()
    with torch.no_grad():
        model[0].weight[rare] = 0.0
        model[0].weight[rare, 0] = 1.0
        model[0].bias[rare] = -float(x[:, 0].sort().values[-2])  # fires for one sample in 256
        model[2].weight[:, rare] *= 0.01
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with defib.watch(model, optimizer, output=tmp_path / "a.rec", every=10) as run:
        train(model, optimizer, 40, batch=256)
        kill(model[0], later)
        train(model, optimizer, 60, batch=256)
    off = [u for u in range(24) if not (model[0](x)[:, u] > 0).any()]
    assert set(born + later) <= set(off)
    answer = diagnosis(reopened(run))
    dead = {f.cause: f for f in every_finding(answer) if f.rule == "dead-unit" and f.layer == "0"}
    assert list(dead["born-dead"].units) == [u for u in off if u not in later]
    assert list(dead["died-at-step"].units) == later
    assert dead["died-at-step"].since_step == 40
    assert {f.confidence for f in dead.values()} == {"exact"}
    assert {f.units_total for f in dead.values()} == {24}
    for finding, steps in ((dead["born-dead"], 100), (dead["died-at-step"], 60)):
        samples = number(finding, "fewest silent samples")
        assert samples == pytest.approx(steps * 256, rel=0.02)
        assert number(finding, "firing rate below") == rate_bound(samples)


def test_r27_a_sparse_healthy_net_has_no_dead_unit(tmp_path):
    """A wide code of which one unit in ten fires for a sample: nine tenths zeros, and every unit of use."""
    model = mlp(128)
    with torch.no_grad():
        model[0].weight /= model[0].weight.norm(dim=1, keepdim=True)
        model[0].bias.fill_(-1.2816)  # the 90 % point of a normal distribution
    view = watched(tmp_path / "a.rec", model, steps=100, lr=0.1)
    tally = view.tally(Site(path="0"), Signal.ACTIVATION)
    assert tally.zero.sum() / tally.count.sum() > 0.85
    assert (tally.positive > 0).all()
    answer = diagnosis(view)
    assert answer.verdict == "healthy"
    assert not [f for f in every_finding(answer) if f.rule == "dead-unit"]


@pytest.mark.parametrize(
    ("steps", "batch", "enough"),
    [
        (5, 64, False),  # a silence of five steps may end
        (60, 8, False),  # 480 samples leave a firing rate of 0.6 % possible
        (60, 64, True),
    ],
)
def test_r27_too_few_samples_are_no_proof_of_death(steps, batch, enough, tmp_path):
    model = mlp()
    kill(model[0], [3])
    answer = diagnosis(watched(tmp_path / "a.rec", model, steps=steps, batch=batch))
    units = {unit for f in every_finding(answer) if f.rule == "dead-unit" for unit in f.units}
    assert (3 in units) == enough
    assert enough or not units


def saturated(view: RunView) -> list[Finding]:
    return [f for f in every_finding(diagnosis(view)) if f.rule == "saturated-unit"]


def test_r28_large_logits_and_large_relu_outputs_are_not_saturated(tmp_path):
    model = nn.Sequential(*mlp(16, depth=2))
    with torch.no_grad():
        model[2].weight *= 60
        model[4].weight *= 10
    x, _y = data()
    logits = model(x)
    assert logits.detach().abs().median() > 20
    assert saturated(watched(tmp_path / "a.rec", model, steps=100, lr=1e-4)) == []


def test_r28_saturation_is_that_of_the_derivative_of_a_bounded_activation(tmp_path):
    model = mlp(16, activation=nn.Tanh)
    with torch.no_grad():
        model[0].bias[4:14] = 40.0
    view = watched(tmp_path / "a.rec", model, steps=100)
    tally = view.tally(Site(path="0"), Signal.ACTIVATION)
    assert (tally.saturated[4:14] == tally.count[4:14]).all()
    found = saturated(view)
    assert {unit for f in found for unit in f.units} == set(range(4, 14))
    assert {f.layer for f in found} == {"0"}


def test_r32_one_dead_layer_is_one_finding_that_explains_the_others(tmp_path):
    model = mlp(16, depth=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with defib.watch(model, optimizer, output=tmp_path / "a.rec", every=1) as run:
        train(model, optimizer, 60)
        kill(model[0], list(range(16)))
        train(model, optimizer, 240)
    answer = diagnosis(reopened(run))
    (finding,) = alarms(answer)
    assert (finding.rule, finding.cause, finding.layer) == ("dead-unit", "died-at-step", "0")
    assert finding.units == tuple(range(16))
    assert finding.since_step == 60
    told = every_finding(answer)
    assert len(told) <= 3 * 3, "a few for each layer, not one for each of 240 steps or 48 units"
    assert len(answer.findings) == 1, "and all of them inside the one"
    assert len({(f.rule, f.layer, f.cause) for f in told}) == len(told)
    assert [f for f in finding.explains if f.layer != "0"], "what it causes stands inside it"


def sigmoid_chain() -> tuple[nn.Module, float]:
    return mlp(16, depth=10, activation=nn.Sigmoid), 0.05


def exploding_chain() -> tuple[nn.Module, float]:
    model = mlp(32, depth=12)
    with torch.no_grad():
        for layer in model[2:-1:2]:
            layer.weight *= 6
    return model, 1e-9


def large_tanh() -> tuple[nn.Module, float]:
    model = mlp(16, depth=6, activation=nn.Tanh)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight *= 40
    return model, 0.01


def huge_step() -> tuple[nn.Module, float]:
    return mlp(16, depth=3), 1e4


CONTRADICTIONS = [{"vanishing", "exploding"}, {"lr_too_high", "lr_too_low"}]


@pytest.mark.parametrize("sick", [sigmoid_chain, exploding_chain, large_tanh, huge_step])
def test_r33_one_sick_net_is_not_given_contradictory_names(sick, tmp_path):
    torch.manual_seed(3)
    model, lr = sick()
    answer = diagnosis(watched(tmp_path / "a.rec", model, steps=120, lr=lr))
    assert answer.verdict == "sick"
    named = [f.fault for f in alarms(answer)]
    for pair in CONTRADICTIONS:
        assert len(pair & set(named)) < 2, named
    assert len(named) == len(set(named)), "one fault, one finding"
    levels = [(f, {e.fault for e in f.explains}) for f in every_finding(answer)]
    for finding, inside in levels:
        for pair in CONTRADICTIONS:
            assert not (finding.fault in pair and (pair - {finding.fault}) & inside)
