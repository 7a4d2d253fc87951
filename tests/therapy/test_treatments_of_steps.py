"""What treatments of the optimiser do to the steps that follow, and that undoing ends it."""

import copy

import pytest
import torch
from torch import nn

from defib.care import named
from defib.core.errors import Refused
from defib.therapy.engine import treat
from defib.therapy.train_state import TrainState


def layer(lr: float = 0.5, **settings: float) -> tuple[nn.Linear, TrainState]:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, **settings)
    return model, TrainState(model=model, optimizers=(optimizer,))


def step(state: TrainState, scale: float = 100.0, zero: bool = True) -> torch.Tensor:
    """A step with a gradient of about that size; the change of the weight."""
    model, optimizer = state.model, state.optimizers[0]
    before = model.weight.detach().clone()
    if zero:
        optimizer.zero_grad()
    (scale * model(torch.ones(2, 4)).square().sum()).backward()
    optimizer.step()
    return model.weight.detach() - before


def test_clip_norm_bounds_a_step_keeps_its_direction_and_ends_with_undo() -> None:
    model, state = layer()
    twin = copy.deepcopy(model)
    receipt = treat(state, named("clip-norm", {"max_norm": 0.1}))
    clipped = step(state)
    assert 0 < clipped.norm() <= 0.5 * 0.1 * 1.0001
    model.load_state_dict(twin.state_dict())
    receipt.undo()
    free = step(state)
    assert free.norm() > 100 * clipped.norm()
    assert torch.nn.functional.cosine_similarity(free.flatten(), clipped.flatten(), 0) > 0.9999


def test_a_small_gradient_is_not_clipped() -> None:
    model, state = layer()
    twin = copy.deepcopy(state)
    treat(state, named("clip-norm", {"max_norm": 1e6}))
    assert torch.equal(step(state), step(twin))
    assert torch.equal(model.weight, twin.model.weight)


def test_clip_value_bounds_every_entry() -> None:
    _, state = layer()
    treat(state, named("clip-value", {"limit": 0.01}))
    assert step(state).abs().max() <= 0.5 * 0.01 * 1.0001


def test_clipping_comes_after_the_scaler_has_unscaled() -> None:
    model, state = layer()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    state.scaler = scaler
    treat(state, named("clip-norm", {"max_norm": 0.1}))
    before = model.weight.detach().clone()
    scaler.scale(model(torch.ones(2, 4)).square().sum()).backward()
    scaler.step(state.optimizers[0])
    scaler.update()
    moved = (model.weight.detach() - before).norm()
    assert moved > 0.01
    assert moved <= 0.5 * 0.1 * 1.0001


def test_lbfgs_is_refused() -> None:
    model, _ = layer()
    state = TrainState(model=model, optimizers=(torch.optim.LBFGS(model.parameters()),))
    with pytest.raises(Refused, match="LBFGS"):
        treat(state, named("clip-norm", {"max_norm": 1.0}))


def test_warm_up_rises_to_the_full_rate_and_a_schedule_goes_on_unknowing() -> None:
    model, state = layer()
    schedule = torch.optim.lr_scheduler.StepLR(state.optimizers[0], 3, gamma=0.1)
    treat(state, named("warm-up", {"steps": 4}))
    rates, seen = [], []
    for _ in range(6):
        model.zero_grad()
        model.weight.grad = torch.ones_like(model.weight)
        model.bias.grad = None
        before = model.weight.detach().clone()
        state.optimizers[0].step()
        rates.append((before - model.weight.detach()).mean().item())
        seen.append(state.optimizers[0].param_groups[0]["lr"])
        schedule.step()
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.05, 0.05, 0.05], rel=1e-4)
    assert seen == pytest.approx([0.5, 0.5, 0.5, 0.05, 0.05, 0.05])


def test_zero_grad_makes_a_forgetful_loop_take_the_steps_of_a_careful_one() -> None:
    _, state = layer(lr=1e-4)
    twin, forgetful = copy.deepcopy(state), copy.deepcopy(state)
    treat(state, named("zero-grad", {}))
    for _ in range(3):
        treated, careful = step(state, zero=False), step(twin)
        careless = step(forgetful, zero=False)
        assert torch.equal(treated, careful)
    assert not torch.equal(careless, careful)


def test_a_hooked_optimiser_is_still_saved_and_copied() -> None:
    _, state = layer()
    treat(state, named("clip-norm", {"max_norm": 1.0}))
    treat(state, named("warm-up", {"steps": 4}))
    copy.deepcopy(state.optimizers[0]).load_state_dict(state.optimizers[0].state_dict())


def test_decay_groups_leaves_the_training_of_weights_as_it_was() -> None:
    model, state = layer(weight_decay=0.1)
    twin = copy.deepcopy(state)
    receipt = treat(state, named("decay-groups", {}))
    a, b = step(state, 0.01), step(twin, 0.01)
    assert torch.equal(a, b)
    assert not torch.equal(model.bias, twin.model.bias)
    receipt.undo(force=True)
    assert len(state.optimizers[0].param_groups) == 1
    names = {id(p): n for n, p in model.named_parameters()}
    assert [names[id(p)] for p in state.optimizers[0].param_groups[0]["params"]] == ["weight", "bias"]
