"""The largest curvature of a loss whose graph is there: against dense eigenvalues, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from defib.core.sharpness import Declined, Survey, Surveyed
from defib.core.stability import bound
from defib.probe.sharpness import survey


def asked(loss: Tensor, leaves: list[Tensor], **changes) -> Survey:
    none = (0.0,) * len(leaves)
    values = {"scale": 1.0, "weights": None, "decay": none, "sign": 1.0, "before": (None, None), "saved": 0}
    return Survey(loss=loss, leaves=tuple(leaves), **(values | changes))


def dense(loss: Tensor, leaves: list[Tensor]) -> Tensor:
    first = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, leaves, create_graph=True)])
    rows = [torch.autograd.grad(g, leaves, retain_graph=True, materialize_grads=True) for g in first]
    return torch.stack([torch.cat([r.reshape(-1) for r in row]) for row in rows])


def problem(seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, F.cross_entropy(model(torch.randn(30, 5).double()), torch.randint(3, (30,)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_an_eigenvalue_lies_within_the_bound_and_it_is_the_largest(seed: int) -> None:
    model, loss = problem(seed)
    leaves = list(model.parameters())
    sizes = [torch.rand_like(p.detach()) + 0.1 for p in leaves]
    decay = tuple(0.1 * k for k in range(len(leaves)))
    truth = dense(loss, leaves)
    found = survey(asked(loss, leaves, weights=tuple(sizes), decay=decay))
    diagonal = torch.cat([s.reshape(-1) for s in sizes])
    added = torch.cat([torch.full((p.numel(),), d).double() for p, d in zip(leaves, decay, strict=True)])
    scaled = diagonal.sqrt()[:, None] * (truth + torch.diag(added)) * diagonal.sqrt()
    for value, error, values in (
        (found.largest, found.largest_error, torch.linalg.eigvalsh(truth)),
        (found.product, found.product_error, torch.linalg.eigvalsh((scaled + scaled.T) / 2)),
    ):
        assert float((values - value).abs().min()) <= error
        assert value == pytest.approx(float(values[-1]), rel=1e-5)


def test_a_direction_that_was_overtaken_is_left_behind() -> None:
    w = torch.zeros(40, dtype=torch.float64, requires_grad=True)
    first = survey(asked((torch.linspace(1, 5, 40) * w**2).sum() / 2, [w]))
    assert first.largest == pytest.approx(5.0, rel=1e-6)
    turned = survey(asked((torch.linspace(7, 1, 40) * w**2).sum() / 2, [w], before=first.after))
    assert turned.largest == pytest.approx(7.0, rel=1e-6)


def test_along_the_direction_of_before_it_is_never_above_the_largest() -> None:
    model, loss = problem()
    leaves = list(model.parameters())
    rate = (0.1,) * len(leaves)
    first = survey(asked(loss, leaves, weights=rate))
    second = survey(asked(loss, leaves, weights=rate, before=first.after))
    assert 0.99 * second.product < second.along <= second.product * (1 + 1e-12)
    assert second.products < first.products


def test_the_graph_stays_whole_and_no_gradient_or_random_number_is_touched() -> None:
    model, loss = problem()
    twin, other = problem()
    state = torch.get_rng_state()
    survey(asked(loss, list(model.parameters())))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    other.backward()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def test_an_optimiser_that_climbs_sees_the_other_end() -> None:
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    found = survey(asked(-(torch.tensor([1.0, 2.0, 3.0]) * w**2).sum() / 2, [w], sign=-1.0))
    assert found.largest == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda w: torch.tensor(1.0, requires_grad=True) * 2, "does not reach"),
        (lambda w: (w / 0).sum(), "not finite"),
        (lambda w: F.multi_margin_loss(w.view(2, 4) * 2, torch.tensor([0, 1])), "differentiated only once"),
    ],
)
def test_what_has_no_second_derivative_is_declined_in_words(loss, why: str) -> None:
    w = torch.zeros(8, requires_grad=True)
    with pytest.raises(Declined, match=why):
        survey(asked(loss(w), [w]))


def test_a_straight_loss_has_no_curvature() -> None:
    w = torch.ones(4, requires_grad=True)
    found: Surveyed = survey(asked(w.sum(), [w], weights=(0.1,)))
    assert (found.largest, found.product) == (0.0, 0.0)


# -- the bounds of the optimisers' recurrences ------------------------------------

SETTINGS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.5}),
    ("SGD", {"momentum": 0.99}),
    ("SGD", {"momentum": 0.8, "dampening": 0.5}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
]


def grows(optimizer: torch.optim.Optimizer, w: Tensor, curvature: float, steps: int) -> bool:
    """Whether w grows under torch's own optimiser on curvature w^2 / 2."""
    sizes = []
    for _ in range(steps):
        w.grad = curvature * w.detach()
        optimizer.step()
        sizes.append(abs(float(w.detach())))
    return max(sizes[-steps // 4 :]) > max(sizes[steps // 4 : steps // 2])


@pytest.mark.parametrize(("kind", "options"), SETTINGS)
def test_torchs_own_optimiser_grows_right_above_the_bound_and_shrinks_right_below(kind, options) -> None:
    limit = bound(kind, options)
    for factor, expected in ((0.998, False), (1.002, True)):
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1, **options)
        assert grows(optimizer, w, factor * limit / 0.1, 4000) == expected


def settled(kind: str, w: Tensor, lr: float) -> torch.optim.Optimizer:
    """An adaptive optimiser whose second moments are 4 and stay there."""
    build = {
        "Adam": lambda: torch.optim.Adam([w], lr=lr, betas=(0.9, 1 - 1e-12), eps=0.0),
        "AdamW": lambda: torch.optim.AdamW([w], lr=lr, betas=(0.5, 1 - 1e-12), eps=0.0, weight_decay=0.0),
        "RMSprop": lambda: torch.optim.RMSprop([w], lr=lr, alpha=1 - 1e-12, eps=0.0, momentum=0.9),
    }
    optimizer = build[kind]()
    four, none = torch.full_like(w.detach(), 4.0), torch.zeros_like(w.detach())
    moments = {
        "exp_avg": none,
        "exp_avg_sq": four,
        "square_avg": four.clone(),
        "momentum_buffer": none.clone(),
    }
    optimizer.state[w] = {"step": torch.tensor(1e15, dtype=torch.float64), **moments}
    return optimizer


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "RMSprop"])
def test_an_adaptive_one_does_in_its_own_geometry(kind: str) -> None:
    for factor, expected in ((0.998, False), (1.002, True)):
        w = torch.full((1,), 1e-6, dtype=torch.float64, requires_grad=True)
        optimizer = settled(kind, w, 0.1)
        curvature = factor * bound(kind, optimizer.param_groups[0]) / 0.1 * 2  # the root of 4
        assert grows(optimizer, w, curvature, 200) == expected


def test_of_an_optimiser_that_is_not_known_nothing_is_said() -> None:
    assert bound("Lion", {"lr": 1e-4}) is None
    assert bound("Adam", {"betas": (1.0, 0.999)}) is None
