"""Mixed precision, micro-batches and several optimisers: R21, R22, R23, R24."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from watched_runs import FEATURES, LR, alarms, data, diagnosis, every_finding, mlp, reopened

import defib
from defib.capture.scaling import mean_loss
from defib.core.run import RunView
from defib.core.site import Signal, Site

HALF = torch.autocast("cpu", dtype=torch.float16)


def scaled(path, scale: float | None, steps: int = 20, fused: bool = False, **scaler: float) -> RunView:
    """The record of a training in float32, with or without a GradScaler."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, fused=fused)
    guard = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None, **scaler)
    x, y = data()
    with defib.watch(model, optimizer, output=path, every=1) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            guard.scale(F.cross_entropy(model(x), y)).backward()
            guard.step(optimizer)
            guard.update()
    return reopened(run)


@pytest.mark.parametrize("fused", [False, True])
def test_r21_losses_gradients_and_norms_are_those_without_a_loss_scale(fused, tmp_path):
    plain = scaled(tmp_path / "a.rec", None, fused=fused)
    seen = scaled(tmp_path / "b.rec", 2.0**12, fused=fused)
    # A power of two shifts exponents and changes no digit: what is reported must be equal.
    np.testing.assert_array_equal(seen.loss.values, plain.loss.values)
    np.testing.assert_allclose(seen.norms.gradient, plain.norms.gradient, rtol=1e-6)
    for signal in (Signal.ACTIVATION_GRAD, Signal.PREACTIVATION_GRAD):
        mine, other = (v.tally(Site(path="0"), signal) for v in (seen, plain))
        for statistic in ("total", "squares", "low", "high", "zero"):
            np.testing.assert_allclose(getattr(mine, statistic), getattr(other, statistic), rtol=1e-6)
    np.testing.assert_array_equal(seen.objective.columns["loss"], plain.objective.columns["loss"])
    assert (seen.optimizers[0].scale.values == 2.0**12).all()


def test_r21_a_scale_that_grows_on_the_way_is_taken_out_step_by_step(tmp_path):
    plain = scaled(tmp_path / "a.rec", None)
    seen = scaled(tmp_path / "b.rec", 2.0**4, growth_interval=5)
    assert list(np.unique(seen.optimizers[0].scale.values)) == [2.0**4, 2.0**5, 2.0**6, 2.0**7]
    np.testing.assert_array_equal(seen.loss.values, plain.loss.values)
    np.testing.assert_allclose(seen.norms.gradient, plain.norms.gradient, rtol=1e-6)
    flow = {key: values for key, values in seen.flow.items() if key[1] == Signal.ACTIVATION_GRAD}
    assert flow
    for key, values in flow.items():
        np.testing.assert_allclose(values, plain.flow[key], rtol=1e-6)


def half(path, init_scale: float, steps: int = 60, shrink: float = 1.0, spikes: tuple[int, ...] = ()):
    """The record of a training in float16 and how many steps its scaler skipped."""
    torch.manual_seed(0)
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR / shrink)
    guard = torch.amp.GradScaler("cpu", init_scale=init_scale, growth_interval=10**6)
    x, y = data()
    skipped = 0
    with defib.watch(model, optimizer, output=path, every=1) as run:
        for step in range(steps):
            optimizer.zero_grad()
            with HALF:
                loss = F.cross_entropy(model(x), y) * shrink * (1e6 if step in spikes else 1.0)
            guard.scale(loss).backward()
            guard.step(optimizer)
            before = guard.get_scale()
            guard.update()
            skipped += guard.get_scale() < before
    return reopened(run), skipped


def test_r22_steps_skipped_while_the_scaler_warms_up_are_information(tmp_path):
    view, skipped = half(tmp_path / "a.rec", 2.0**40)
    assert skipped > 10
    assert view.steps == 60 - skipped
    events = view.of_kind("skipped-step")
    assert [(e.step, e.data["steps"]) for e in events] == [(0, skipped)]
    assert not view.of_kind("non-finite")
    answer = diagnosis(view)
    assert answer.verdict == "healthy"
    assert not alarms(answer)
    assert not [f for f in every_finding(answer) if f.rule == "non-finite"]
    # What the skipped backwards showed is infinite, and no part of any step.
    assert all(r.tally.nonfinite.sum() == 0 for r in view.readings)
    assert view.tally(Site(path="0"), Signal.ACTIVATION_GRAD).samples == 256 * view.steps
    assert np.isfinite(view.loss.values).all()
    assert view.loss.values[0] == pytest.approx(1.1, abs=0.3)


def test_r22_a_step_skipped_in_the_middle_is_information_too(tmp_path):
    view, skipped = half(tmp_path / "a.rec", 2.0**12, spikes=(20, 40))
    assert skipped == 2
    assert [(e.step, e.data["steps"]) for e in view.of_kind("skipped-step")] == [(20, 1), (39, 1)]
    assert view.loss.values.max() < 10, "the loss of a skipped step is that of no step"
    assert not alarms(diagnosis(view))


@pytest.mark.parametrize(
    "heard",
    [
        [(8.0, 4.0)],
        [(8.0, 4.0), (12.0, 4.0)],
        [(32.0, 16.0), (16.0, 8.0), (8.0, 4.0)],
        [(32.0, 16.0), (8.0, None), (10.0, 2.0)],
    ],
)
def test_r22_what_an_accelerator_works_out_without_a_wait_is_what_the_host_does(heard):
    def there(number: float | None) -> Tensor | None:
        return None if number is None else torch.tensor(number)

    loss, skips = mean_loss(heard, 4.0)
    loss_there, skips_there = mean_loss([(there(a), there(b)) for a, b in heard], torch.tensor(4.0))
    assert (float(loss_there), float(skips_there)) == (loss, skips)
    assert skips == sum(b is not None and b > 4 for _, b in heard)


def test_r23_gradients_lost_to_underflow_and_the_scale_are_in_the_record(tmp_path):
    """Half the smallest subnormal of float16 is 3e-8; this loss brings gradients of 1e-8 and less."""
    lost, _ = half(tmp_path / "a.rec", 1.0, steps=10, shrink=1e-6)
    kept, _ = half(tmp_path / "b.rec", 2.0**14, steps=10, shrink=1e-6)

    def zeros(view: RunView) -> float:
        tally = view.tally(Site(path="0"), Signal.ACTIVATION_GRAD)
        return tally.zero.sum() / tally.count.sum()

    assert zeros(lost) > 0.9
    assert zeros(kept) < 0.1
    assert lost.optimizers[0].scale.values.tolist() == [1.0] * 10
    assert kept.optimizers[0].scale.values.tolist() == [2.0**14] * 10


def test_r23_the_history_of_a_collapsing_scale_is_in_the_record(tmp_path):
    spikes = tuple(range(5, 60, 5))
    view, skipped = half(tmp_path / "a.rec", 2.0**14, spikes=spikes)
    scale = view.optimizers[0].scale
    assert len(scale) == view.steps == 60 - skipped
    assert scale.values[0] == 2.0**14
    assert scale.values[-1] == 2.0 ** (14 - skipped) < 2.0**10
    assert (np.diff(scale.values) <= 0).all()


def test_r24_four_micro_batches_are_one_step_with_all_their_gradient(tmp_path):
    def training(parts: int) -> RunView:
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        x, y = data()
        with defib.watch(model, optimizer, output=tmp_path / f"{parts}.rec", every=1) as run:
            for _ in range(20):
                optimizer.zero_grad()
                for rows in torch.arange(256).chunk(parts):
                    (F.cross_entropy(model(x[rows]), y[rows]) / parts).backward()
                optimizer.step()
        return reopened(run)

    whole, parts = training(1), training(4)
    assert parts.steps == whole.steps == 20
    assert len(parts.norms.steps) == 20
    np.testing.assert_allclose(parts.norms.gradient, whole.norms.gradient, rtol=1e-3)
    for view in (whole, parts):
        assert view.tally(Site(path="0"), Signal.ACTIVATION).samples == 20 * 256
        assert view.liveness["0"].steps == 20
    assert diagnosis(parts).verdict == "healthy"


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, FEATURES))
        self.critic = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))


def test_r24_both_halves_of_a_gan_have_their_own_steps_losses_and_gradients(tmp_path):
    pair = Pair()
    x, _ = data()
    one = torch.optim.Adam(pair.critic.parameters(), lr=1e-3)
    two = torch.optim.Adam(pair.generator.parameters(), lr=1e-3)
    losses: tuple[list[float], list[float]] = ([], [])
    expected = []

    def score(samples: Tensor, truth: float) -> Tensor:
        out = pair.critic(samples)
        return F.binary_cross_entropy_with_logits(out, torch.full_like(out, truth))

    with defib.watch(pair, [one, two], output=tmp_path / "a.rec", every=1) as run:
        for step in range(40):
            fake = pair.generator(torch.randn(64, 4))
            one.zero_grad()
            loss = score(x[:64], 1.0) + score(fake.detach(), 0.0)
            loss.backward()
            expected.append(pair.critic[0].weight.grad.norm().item())
            one.step()
            losses[0].append(loss.item())
            if step % 2 == 0:
                two.zero_grad()
                loss = score(fake, 1.0)
                loss.backward()  # leaves gradients on the critic, too; they are nobody's step
                two.step()
                losses[1].append(loss.item())
    view = reopened(run)
    assert [o.steps for o in view.optimizers] == [40, 20]
    for optimizer, told in zip(view.optimizers, losses, strict=True):
        np.testing.assert_allclose(optimizer.loss.values, told, rtol=1e-6)
    assert {layer.path: layer.optimizer for layer in view.layers} == {
        "generator.0": 1, "generator.2": 1, "critic.0": 0, "critic.2": 0,
    }  # fmt: skip
    column = view.norms.gradient[:, view.norms.parameters.index("critic.0.weight")]
    np.testing.assert_allclose(column[~np.isnan(column)], expected, rtol=1e-5)
    site = Site(path="generator.0")
    assert view.tally(site, Signal.ACTIVATION_GRAD).samples == 20 * 64
    assert view.liveness["generator.0"].steps == 20
    assert view.liveness["critic.0"].steps == 40
    assert diagnosis(view).coverage.observed == 4
