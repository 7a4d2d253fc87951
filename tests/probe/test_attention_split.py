"""An attention's gradient is parted by query, key and value, exactly, however it was written."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from defib.core.checkup import Attention, GainLedger
from defib.probe.checkup import check_up

WIDTH = 16
X, Y = torch.randn(12, 6, 8, generator=torch.Generator().manual_seed(3)).double(), torch.arange(12) % 4


class Net(nn.Module):
    """An attention between an embedding and a head; ``attend`` gets the net and the embedded input."""

    def __init__(self, attend: Callable[["Net", Tensor], Tensor]) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 4)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.several = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.attend = attend

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attend(self, self.embed(x)).mean(1))


def by_hand(net: Net, h: Tensor, hk: Tensor | None = None, hv: Tensor | None = None) -> Tensor:
    scores = net.q(h) @ net.k(h if hk is None else hk).transpose(1, 2) / 4
    return scores.softmax(-1) @ net.v(h if hv is None else hv)


def fused(net: Net, h: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(net.q(h)[:, None], net.k(h)[:, None], net.v(h)[:, None])[:, 0]


def by_einsum(net: Net, h: Tensor) -> Tensor:
    p = torch.einsum("bqd,bkd->bqk", net.q(h), net.k(h)).softmax(-1)
    return torch.einsum("bqk,bkd->bqd", p, net.v(h))


WAYS: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "by hand": by_hand,
    "einsum": by_einsum,
    "fused": fused,
    "residual": lambda net, h: h + by_hand(net, h),
    "module with weights": lambda net, h: net.several(h, h, h)[0],
    "module without weights": lambda net, h: net.several(h, h, h, need_weights=False)[0],
    "behind one norm": lambda net, h: h + net.several(*[net.norm(h)] * 3, need_weights=False)[0],
    "three inputs": lambda net, h: net.several(h, net.q(h), net.k(h))[0],
}


def checked(attend: Callable[[Net, Tensor], Tensor]) -> tuple[Net, GainLedger]:
    model = Net(attend).double()
    found = check_up(model, (X, Y)).ledger
    assert found is not None
    return model, found


def only(ledger: GainLedger) -> Attention:
    (found,) = [s.attention for s in ledger.stretches if s.attention is not None]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_parts_add_up_and_nothing_is_left_unattributed(way: str) -> None:
    _, ledger = checked(WAYS[way])
    part = only(ledger)
    assert ledger.gain.unattributed == 0
    assert ledger.gain.attention or ledger.gain.skips
    assert not [s for s in ledger.stretches if s.unknown]
    assert ledger.gain.total == pytest.approx(math.log10(ledger.end / ledger.start), abs=1e-9)
    assert 0 < part.entropy < part.uniform == pytest.approx(math.log(6))
    assert 0 < part.softmax < 1 - 1 / 6 + 1e-12


def test_query_key_and_value_are_what_autograd_gives_when_the_other_two_are_detached() -> None:
    model, ledger = checked(by_hand)
    h = model.embed(X).detach()
    three = [h.clone().requires_grad_() for _ in range(3)]
    y = by_hand(model, *three)
    loss = F.cross_entropy(model.head(y.mean(1)), Y)
    *parts, above = torch.autograd.grad(loss, [*three, y])
    unit = float(above.square().sum())
    part = only(ledger)
    for name, own in zip(("query", "key", "value"), parts, strict=True):
        assert getattr(part, name) == pytest.approx(float(own.square().sum()) / unit, rel=1e-9)
    whole = float(sum(parts).square().sum()) / unit
    assert part.query + part.key + part.value + part.around + part.cross == pytest.approx(whole, rel=1e-9)
    assert part.around == 0


def test_a_skip_around_an_attention_is_a_part_of_its_own() -> None:
    _, ledger = checked(WAYS["residual"])
    part, stretch = only(ledger), next(s for s in ledger.stretches if s.attention is not None)
    assert part.around == pytest.approx(1.0, abs=1e-9)
    assert stretch.block is not None
    total = part.query + part.key + part.value + part.around + part.cross
    assert total == pytest.approx(stretch.block.skip + stretch.block.cross + stretch.block.branch, rel=1e-9)
    assert 10 ** (2 * ledger.gain.skips) == pytest.approx(total, rel=1e-9)


# Logit scale, |g_q|, |g_k|, |g_v| per |g|, entropy, 1 - sum p^2: the reference, 32 positions of 64.
KNOWN = [
    (0.1, 0.021, 0.018, 0.201, 3.46, 0.97),
    (1.0, 0.29, 0.28, 0.30, 3.00, 0.92),
    (4.0, 1.32, 1.35, 0.78, 1.02, 0.45),
    (16.0, 3.49, 3.34, 0.97, 0.19, 0.11),
]


@pytest.mark.parametrize(("scale", "query", "key", "value", "entropy", "softmax"), KNOWN)
def test_the_known_parts_at_each_scale_of_the_scores_are_reproduced(
    scale: float, query: float, key: float, value: float, entropy: float, softmax: float
) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
            self.q, self.k, self.v = (nn.Linear(64, 64, bias=False) for _ in range(3))
            nn.init.eye_(self.embed.weight)
            nn.init.eye_(self.out.weight)
            for part in (self.q, self.k, self.v):
                nn.init.normal_(part.weight, std=1 / 8)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            p = (scale * self.q(h) @ self.k(h).transpose(1, 2) / 8).softmax(-1)
            return self.out(p @ self.v(h))

    def drawn() -> tuple[float, ...]:
        x, g = torch.randn(1, 32, 64).double(), torch.randn(1, 32, 64).double()
        ledger = check_up(Scaled().double(), (x, g), lambda out, g: (out * g).sum()).ledger
        assert ledger is not None
        part = only(ledger)
        return (*(math.sqrt(p) for p in (part.query, part.key, part.value)), part.entropy, part.softmax)

    draws = np.array([drawn() for _ in range(8)])
    # The reference is one draw: it lies among ours, to within its last digit.
    distance = np.abs(draws.mean(0) - np.array([query, key, value, entropy, softmax]))
    assert (distance <= 3 * draws.std(0, ddof=1) + 0.005).all()
    assert (draws.std(0, ddof=1) < 0.6 * draws.mean(0)).all()  # at 16 a draw varies by half


def test_a_causal_map_that_the_kernel_does_not_keep_is_computed_again() -> None:
    def causal(net: Net, h: Tensor) -> Tensor:
        q, k, v = net.q(h)[:, None], net.k(h)[:, None], net.v(h)[:, None]
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0]

    model, ledger = checked(causal)
    with torch.no_grad():
        h = model.embed(X)
        scores = (model.q(h) @ model.k(h).transpose(1, 2) / 4).masked_fill(
            torch.ones(6, 6).triu(1).bool(), -math.inf
        )
    p = scores.softmax(-1)
    part = only(ledger)
    assert part.entropy == pytest.approx(float(-torch.xlogy(p, p).sum(-1).mean()), rel=1e-9)
    assert part.uniform == pytest.approx(sum(math.log(n) for n in range(1, 7)) / 6)


def test_two_attentions_whose_ways_are_mixed_are_said_not_to_be_attributed() -> None:
    def mixed(net: Net, h: Tensor) -> Tensor:
        first = by_hand(net, h)
        return by_hand(net, first, h, first)

    _, ledger = checked(mixed)
    assert "2 attentions" in " ".join(s.unknown for s in ledger.stretches)
    assert ledger.gain.unattributed
    assert ledger.gain.total == pytest.approx(math.log10(ledger.end / ledger.start), abs=1e-9)


def test_attention_without_a_softmax_is_said_not_to_be_attributed() -> None:
    model = Net(lambda net, h: net.q(h) @ net.k(h).transpose(1, 2) @ net.v(h)).double()
    checkup = check_up(model, (X, Y))
    assert any("product of two signals" in u.why for u in checkup.unseen)


def test_a_loss_on_the_map_itself_comes_by_query_and_key_and_is_parted_too() -> None:
    def leaking(net: Net, h: Tensor) -> Tensor:
        out, weights = net.several(h, h, h)
        return out + 10 * weights.square().mean()

    _, ledger = checked(leaking)
    assert only(ledger).query > 0
    assert ledger.gain.unattributed == 0


def test_a_way_around_the_attention_that_is_no_skip_is_said_not_to_be_attributed() -> None:
    _, ledger = checked(lambda net, h: by_hand(net, h) + torch.tanh(net.norm(h)))
    assert "other ways" in " ".join(s.unknown for s in ledger.stretches)
    assert ledger.gain.attention == 0


def test_the_three_passes_leave_the_layers_own_gradients_as_they_were() -> None:
    model = Net(by_hand).double()
    found = {layer.path: layer.gradient for layer in check_up(model, (X, Y)).layers}
    h = model.embed(X)
    (above,) = torch.autograd.grad(F.cross_entropy(model.head(by_hand(model, h).mean(1)), Y), h)
    assert found["embed"] == pytest.approx(float(above.square().mean().sqrt()), rel=1e-9)
