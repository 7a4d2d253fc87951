"""The step of the first return, against real torch optimisers that are stepped with zero gradients."""

import numpy as np
import pytest
import torch
from bruteforce import bury, predicted, units_of
from optimizer_settings import SETTINGS

from defib.core.prognosis import Mechanism, Outlook
from defib.diagnosis.prognosis.arithmetic import Arithmetic
from defib.diagnosis.prognosis.course import Moved
from defib.diagnosis.prognosis.family import Body
from defib.diagnosis.prognosis.foresight import families, foresee

UNITS = 24
WIDE = [s for s in SETTINGS if s.dtype in {"float32", "float64"}]


@pytest.mark.parametrize("setting", WIDE, ids=lambda s: f"{s.kind} {s.name}")
def test_the_step_of_the_first_return_is_torchs(setting):
    remains, run = bury(setting, UNITS, seed=3)
    prognoses = foresee(remains, horizon=setting.steps)
    truth = run.play()
    assert predicted(prognoses, remains).tolist() == truth.first.tolist()
    assert sorted(u for p in prognoses for u in p.units) == list(range(UNITS))


def test_the_settings_have_units_that_return_and_units_that_do_not():
    remains, run = bury(next(s for s in SETTINGS if s.name == "momentum"), UNITS, seed=3)
    first = run.play().first
    assert 4 < (first > 0).sum() < UNITS - 4
    assert units_of(foresee(remains), outlook=Outlook.RETURNS) == set(np.flatnonzero(first > 0).tolist())


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.dtype == "bfloat16"], ids=lambda s: s.kind)
def test_in_bfloat16_nothing_is_called_exact_and_nearly_all_is_right(setting):
    remains, run = bury(setting, 60, seed=3)
    prognoses = foresee(remains, horizon=setting.steps)
    error = predicted(prognoses, remains) - run.play().first
    assert not units_of(prognoses, exact=True)
    assert (error == 0).sum() >= 48
    assert np.abs(error).max() <= 3


@pytest.mark.parametrize("setting", WIDE, ids=lambda s: f"{s.kind} {s.name}")
def test_parameters_follow_torchs_to_the_last_bits(setting):
    remains, run = bury(setting, UNITS, seed=5)
    steps = min(setting.steps, 200)
    moved = [Moved(part=p, family=families()[p.kind], body=Body.of(p)) for p in remains.parts]
    with np.errstate(all="ignore"):
        for k in range(steps):
            for part in moved:
                part.family.step(part.body, part.lr(k))
    values = _played(run, steps)
    rounding = {"float32": 2.0**-24, "float64": 2.0**-53}[setting.dtype]
    for part, real in zip(moved, values, strict=True):
        error = np.abs(part.body.values.astype(np.float64) - real)
        scale = np.abs(part.part.values).max()
        assert error.max() <= 4 * steps**0.5 * rounding * scale
        if setting.kind == "SGD" and setting.dtype == "float32":
            assert error.max() == 0.0


def _played(run, steps):
    """The real parameters after some steps, in float64."""
    setting = run.setting
    starts = [group["lr"] for group in run.optimizer.param_groups]
    for k in range(steps):
        for p in run.parameters:
            p.grad = torch.zeros_like(p)
        if setting.schedule:
            for group, lr in zip(run.optimizer.param_groups, starts, strict=True):
                group["lr"] = lr * setting.schedule[min(k, len(setting.schedule) - 1)]
        run.optimizer.step()
    return [p.detach().double().numpy().reshape(UNITS, -1) for p in run.parameters]


@pytest.mark.parametrize("flag", ["foreach", "fused"])
@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_foreach_and_fused_optimisers_return_on_the_same_steps(kind, flag):
    setting = next(s for s in SETTINGS if s.kind == kind and s.name in {"momentum", "default"})
    from dataclasses import replace

    setting = replace(setting, weight=setting.weight | {flag: True}, steps=300)
    remains, run = bury(setting, UNITS, seed=3)
    prognoses = foresee(remains, horizon=setting.steps)
    assert predicted(prognoses, remains).tolist() == run.play().first.tolist()


def test_normalised_decay_is_told_from_momentum_and_from_shrinking():
    def forces(kind, name):
        setting = next(s for s in SETTINGS if (s.kind, s.name) == (kind, name))
        return {p.mechanism for p in foresee(bury(setting, 60, seed=1)[0], setting.steps) if p.steps}

    assert forces("Adam", "coupled decay") == {Mechanism.MOMENTUM, Mechanism.NORMALISED_DECAY}
    assert forces("SGD", "only weights decay") == {Mechanism.DECAY}
    assert Mechanism.OSCILLATION in forces("SGD", "underdamped")
    assert forces("SGD", "momentum") == {Mechanism.MOMENTUM}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_formats_are_rounded_as_torch_rounds_them(dtype):
    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    a, b, c = (torch.randn(992, generator=generator).to(kind) for _ in range(3))
    c = c.abs() + 0.01
    do = Arithmetic(dtype)
    x, y, z = (t.float().numpy() for t in (a, b, c))
    pairs = [
        (a.add(b, alpha=0.123), do.add(x, y, 0.123)),
        (a * 0.999, do.scale(x, 0.999)),
        (c + 1e-3, do.shift(z, 1e-3)),
        (a / 0.123, do.divide(x, 0.123)),
        (0.123 / c, do.over(0.123, z)),
        (a.lerp(b, 0.1), do.lerp(x, y, 0.1)),
        (a.addcmul(b, b, value=0.123), do.add_product(x, y, y, 0.123)),
        (a.addcdiv(b, c, value=0.123), do.add_quotient(x, y, z, 0.123)),
    ]
    for real, ours in pairs:
        assert (real.float().numpy() == ours).mean() > 0.998
