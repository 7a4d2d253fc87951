"""Networks at a standstill whose cause is known because it was planted, or shown by a dense Hessian.

Each plant is a function of a random generator and gives a state. ``States`` takes every way of
planting by turns, over seeds, shapes and activations. Used by the tests (a few of each) and by
``bench/triage.py`` (all).
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from defib.core.triage import Standstill

SMOOTH: tuple[type[nn.Module], ...] = (nn.Tanh, nn.SiLU, nn.GELU, nn.ELU, nn.Softsign)
KINKED: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6)
ALL: tuple[type[nn.Module], ...] = (nn.Tanh, nn.ReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.LeakyReLU)
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class State:
    """A model, its data and loss, and why it stands still."""

    truth: Standstill
    way: str
    model: nn.Module
    data: Any
    loss: Loss | None


def mlp(widths: list[int], act: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), act()]
    return nn.Sequential(*layers[:-1])


def cnn(act: type[nn.Module], out: int, deep: bool = False) -> nn.Sequential:
    more: list[nn.Module] = [nn.Conv2d(4, 4, 3, padding=1), act()] if deep else []
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3), act(), *more, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, out),
    )  # fmt: skip


class Luck:
    """Draws everything that varies from one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        torch.manual_seed(seed)

    def pick(self, choices: tuple[Any, ...] | list[Any]) -> Any:
        return choices[int(torch.randint(len(choices), ()))]

    def way(self, count: int) -> int:
        """The ways of planting by turns."""
        return self.seed % count

    def number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, ()))

    def net(self, act: type[nn.Module], out: int, depth: int | None = None, conv: bool = True) -> nn.Module:
        """A convolutional network on 36 pixels or an MLP on 36 features."""
        if conv and depth is None and self.number(0, 2) == 0:
            return cnn(act, out, deep=bool(self.number(0, 1)))
        hidden = depth or self.number(1, 3)
        return mlp([36, *[self.number(8, 16) for _ in range(hidden)], out], act)

    def inputs(self, n: int) -> Tensor:
        return torch.randn(n, 36)

    def task(self, n: int, out: int = 3) -> tuple[Tensor, Tensor, Loss]:
        """Inputs, targets that depend on them, and a loss for those."""
        x = self.inputs(n)
        scores = x @ torch.randn(36, out) / 6
        if self.number(0, 1):
            return x, scores.argmax(1), functional.cross_entropy
        return x, scores + 0.5 * scores.roll(1, 1) ** 2, functional.mse_loss


def fit(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss, rounds: int = 40, only: nn.Module | None = None
) -> float:
    """Quasi-Newton in float64 to where it stops; gives the gradient's norm. The model stays in float64."""
    model.double()
    x, y = x.double(), y.double() if y.is_floating_point() else y
    parameters = list((only or model).parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=100, history_size=30, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-15,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        return value

    norm, before = 1.0, math.inf
    for _ in range(rounds):
        optimizer.step(closure)
        norm = float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm())
        if norm < 1e-9 or (norm > 1e-7 and norm > 0.7 * before):
            break
        before = norm
    model.zero_grad(set_to_none=True)
    return norm


def eigenvalues(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Of the dense Hessian, by torch's own jacobians: an oracle that shares no code with the probe."""
    names = [n for n, _ in model.named_parameters()]
    parts = [p.detach().double() for p in model.parameters()]
    sizes, shapes = [p.numel() for p in parts], [p.shape for p in parts]

    def value(flat: Tensor) -> Tensor:
        held = {n: v.view(s) for n, v, s in zip(names, torch.split(flat, sizes), shapes, strict=True)}
        return loss(functional_call(model, held, (x.double(),)), y.double() if y.is_floating_point() else y)

    return torch.linalg.eigvalsh(jacrev(jacrev(value))(torch.cat([p.flatten() for p in parts])))


def mean_loss(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float:
    with torch.no_grad():
        return float(loss(model(x.double()), y.double() if y.is_floating_point() else y))


def last(model: nn.Module) -> nn.Linear:
    return [m for m in model.modules() if isinstance(m, nn.Linear)][-1]


def best_constant(y: Tensor, loss: Loss) -> Tensor:
    """The output that is best for all samples at once, in closed form."""
    if loss is functional.mse_loss:
        return y.mean(0)
    return torch.bincount(y, minlength=3).double().clamp_min(1e-9).log().float()


# ------------------------------------------------------------------ plants


def descending(luck: Luck) -> State | None:
    x, y, loss = luck.task(luck.pick((128, 256)))
    model = luck.net(luck.pick((nn.Tanh, nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU)), 3)
    if luck.number(0, 1):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for _ in range(20):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        model.zero_grad()
    return State(truth=Standstill.DESCENDING, way="first steps", model=model, data=(x, y), loss=loss)


def interpolated(luck: Luck) -> State | None:
    x, y, loss = luck.task(24)
    model = luck.net(luck.pick(ALL), 3, depth=luck.number(1, 2))
    fit(model, x, y, loss, rounds=6)
    value = mean_loss(model, x, y, loss)
    model.float()
    if value > 1e-5:
        return None
    return State(truth=Standstill.INTERPOLATED, way="fitted to the end", model=model, data=(x, y), loss=loss)


def zero_loss(luck: Luck) -> State | None:
    model = luck.net(luck.pick(ALL), 3)
    x = luck.inputs(32)
    with torch.no_grad():
        answer = model(x)
    kind = luck.way(4)
    if kind == 0:
        data, loss, way = answer, functional.mse_loss, "own outputs as targets"
    elif kind == 1:
        with torch.no_grad():
            gap = answer.topk(2, 1).values
            factor = 2 / float((gap[:, 0] - gap[:, 1]).min())
            last(model).weight.mul_(factor)
            last(model).bias.mul_(factor)
        data, loss, way = answer.argmax(1), functional.multi_margin_loss, "hinge, all margins kept"
    elif kind == 2:
        data, way = torch.randn(32, 3), "masked out"

        def loss(a: Tensor, b: Tensor) -> Tensor:
            return ((a - b) ** 2 * torch.zeros(())).mean()
    else:
        with torch.no_grad():
            gap = answer.topk(2, 1).values
            factor = 130 / float((gap[:, 0] - gap[:, 1]).min())
            last(model).weight.mul_(factor)
            last(model).bias.mul_(factor)
        data, loss, way = answer.argmax(1), functional.cross_entropy, "cross-entropy beyond rounding"
    return State(truth=Standstill.ZERO_LOSS, way=way, model=model, data=(x, data), loss=loss)


def minimum(luck: Luck) -> State | None:
    """Twins with different targets; or fewer parameters than targets, and a dense Hessian."""
    act = luck.pick((nn.Tanh, nn.SiLU, nn.GELU, nn.Sigmoid, nn.ReLU, nn.LeakyReLU))
    if luck.way(2):
        x, y, loss = luck.task(12)
        other = (y + 1) % 3 if loss is functional.cross_entropy else y + torch.randn_like(y)
        x, y, way = torch.cat([x, x]), torch.cat([y, other]), "twins with different targets"
        model = luck.net(act, 3, depth=1)
    else:
        x = torch.randn(60, 3)
        y, loss, way = (
            torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:] + 0.5 * torch.randn(60, 1),
            functional.mse_loss,
            "noisy targets",
        )
        model = mlp([3, luck.number(2, 4), 1], luck.pick((nn.Tanh, nn.SiLU, nn.Sigmoid)))
    if fit(model, x, y, loss) > 1e-7:
        return None
    values = eigenvalues(model, x, y, loss)
    # Twins: residuals cancel in pairs, so H is the Gauss-Newton matrix and not negative. The others must be
    # strict: a fit whose weights run away to infinity has no minimum but a plateau.
    if (
        values[0] < (-1e-7 if way.startswith("twins") else 1e-7) * values[-1]
        or mean_loss(model, x, y, loss) < 1e-2
    ):
        return None
    return State(truth=Standstill.MINIMUM, way=way, model=model.float(), data=(x, y), loss=loss)


def strict_saddle(luck: Luck) -> State | None:
    kind = luck.way(3)
    if kind == 0:
        x, y, loss = luck.task(64)
        model = luck.net(luck.pick(SMOOTH), 3, depth=1)
        _all_zero(model, best_constant(y, loss))
        way = "all zero, one hidden layer"
    elif kind == 1:  # a linear network at a product of fewer singular directions (Baldi and Hornik 1989)
        x, loss = torch.randn(64, 8), functional.mse_loss
        y = x @ torch.randn(8, 4)
        model = nn.Sequential(nn.Linear(8, 6, bias=False), nn.Linear(6, 4, bias=False))
        best = torch.linalg.lstsq(x, y).solution
        u, s, v = torch.linalg.svd((x @ best).T @ (x @ best))
        chosen = sorted(torch.randperm(4)[: luck.number(1, 3)].tolist())
        if chosen == list(range(len(chosen))) and len(chosen) == 4:
            return None
        with torch.no_grad():
            for layer in model:
                layer.weight.zero_()
            model[1].weight[:, : len(chosen)] = u[:, chosen]
            model[0].weight[: len(chosen)] = u[:, chosen].T @ best.T
        del s, v
        way = "linear network, missing directions"
    else:  # clones at their common optimum
        x = torch.randn(48, 4)
        y, loss = torch.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:3], functional.mse_loss
        small = mlp([4, 1, 1], nn.Tanh)
        if fit(small, x, y, loss) > 1e-7:
            return None
        h = luck.number(2, 5)
        model = mlp([4, h, 1], nn.Tanh).double()
        shares = torch.rand(h, dtype=torch.float64) + 0.2
        with torch.no_grad():
            model[0].weight.copy_(small[0].weight.expand(h, -1))
            model[0].bias.copy_(small[0].bias.expand(h))
            model[2].weight.copy_(small[2].weight * shares / shares.sum())
            model[2].bias.copy_(small[2].bias)
        way = "clones at their common optimum"
    values = eigenvalues(model.double(), x, y, loss)
    if values[0] > -1e-3 * values[-1]:
        return None
    return State(truth=Standstill.STRICT_SADDLE, way=way, model=model.float(), data=(x, y), loss=loss)


def _all_zero(model: nn.Module, constant: Tensor) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        last(model).bias.copy_(constant)


def degenerate_saddle(luck: Luck) -> State | None:
    x, y, loss = luck.task(64)
    if luck.way(2):
        model, way = luck.net(luck.pick(SMOOTH), 3, depth=luck.number(2, 3)), "all zero, smooth, deep"
    else:
        model, way = luck.net(nn.ReLU, 3, depth=luck.number(1, 3)), "all zero, ReLU"
    _all_zero(model, best_constant(y, loss))
    values = eigenvalues(model.double(), x, y, loss)
    model.float()
    if values[0] < -1e-6 * values[-1]:
        return None
    return State(truth=Standstill.DEGENERATE_SADDLE, way=way, model=model, data=(x, y), loss=loss)


def plateau(luck: Luck) -> State | None:
    x, y, loss = luck.task(96)
    kind = luck.way(4)
    act = luck.pick((nn.Sigmoid, nn.Tanh, nn.Hardtanh))
    if kind == 0:
        model, way = luck.net(act, 3), "first layer saturated"
        first = next(m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
        with torch.no_grad():
            first.weight.mul_(1e6)
            first.bias.mul_(1e6)
    elif kind == 1:
        model, way = luck.net(act, 3, depth=2), "second layer saturated"
        with torch.no_grad():
            model[2].bias.copy_(30 * (torch.randint(2, model[2].bias.shape) * 2.0 - 1))
    elif kind == 2:
        model, way = luck.net(nn.Sigmoid, 3, depth=8, conv=False), "eight sigmoids on end"
    else:
        act = nn.Sigmoid
        model = nn.Sequential(*luck.net(nn.ReLU, 3, depth=1), nn.Sigmoid())
        loss, y, way = functional.mse_loss, (x[:, :3] > 0).float(), "saturated output"
        with torch.no_grad():
            last(model).bias.fill_(luck.pick((-20.0, 20.0)))
    if kind != 3:
        fit(model, x, y, loss, rounds=5, only=last(model))
        model.float()
    return State(truth=Standstill.PLATEAU, way=way, model=model, data=(x, y), loss=loss)


def dead_network(luck: Luck) -> State | None:
    x, y, loss = luck.task(64)
    model = luck.net(luck.pick(KINKED), 3)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))][:-1]
    victim = luck.pick(layers)
    with torch.no_grad():
        victim.bias.fill_(-50.0 * (1 + float(victim.weight.abs().sum()) / 10))
    way = "born dead, first steps"
    if luck.way(2):
        fit(model, x, y, loss, rounds=5)
        way = "dead, the rest fitted"
    return State(truth=Standstill.DEAD_NETWORK, way=way, model=model.float(), data=(x, y), loss=loss)


def batch_cancellation(luck: Luck) -> State | None:
    act = luck.pick((nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU))
    model = luck.net(act, 3)
    if luck.way(2):
        x = luck.inputs(48)
        model.double()
        kept: list[Tensor] = []
        handle = last(model).register_forward_pre_hook(lambda _m, args: kept.append(args[0].detach()))
        answer = model(x.double()).detach()
        handle.remove()
        features = torch.cat([kept[0], torch.ones(48, 1, dtype=torch.float64)], 1)
        # Error signals orthogonal to every feature: the output layer's sums vanish, and only they.
        u, s, _ = torch.linalg.svd(features, full_matrices=True)
        rank = int((s > 1e-9 * s[0]).sum())
        free = u[:, rank:]
        delta = free @ torch.randn(free.shape[1], 3, dtype=torch.float64)
        y = answer - delta
        return State(
            truth=Standstill.BATCH_CANCELLATION, way="output layer cancels", model=model,
            loss=functional.mse_loss, data=(x.double(), y),
        )  # fmt: skip
    x = luck.inputs(16)
    with torch.no_grad():
        answer = model(x)
    gap = torch.randn_like(answer)
    first = (torch.cat([x, x]), torch.cat([answer + gap, answer - gap]))
    other = luck.inputs(32)
    second = (other, other[:, :3] * 2)
    return State(
        truth=Standstill.BATCH_CANCELLATION, way="first batch cancels", model=model, loss=functional.mse_loss,
        data=[first, second],
    )  # fmt: skip


def underflow(luck: Luck) -> State | None:
    x, y, loss = luck.task(64)
    act = luck.pick((nn.Tanh, nn.ReLU, nn.GELU))
    model = luck.net(act, 3)
    if luck.way(2):
        factor, way = 1e-6, "float16, small loss"
        model.half()
        x, y = x.half(), y.half() if y.is_floating_point() else y
    else:
        factor, way = 1e-45, "float32, tiny loss"

    def tiny(a: Tensor, b: Tensor) -> Tensor:
        return loss(a, b) * factor

    return State(truth=Standstill.UNDERFLOW, way=way, model=model, data=(x, y), loss=tiny)


def noise_floor(luck: Luck) -> State | None:
    model = luck.net(luck.pick((nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU)), 3)
    x = luck.inputs(luck.pick((256, 400)))
    with torch.no_grad():
        answer = model(x)
    if luck.number(0, 1):
        y, loss = answer + torch.randn_like(answer), functional.mse_loss
    else:
        y, loss = torch.distributions.Categorical(logits=answer).sample(), functional.cross_entropy
    return State(
        truth=Standstill.NOISE_FLOOR, way="fresh samples at the truth", model=model, data=(x, y), loss=loss
    )


class Between(nn.Module):
    """Something between a trunk and a head."""

    def __init__(self, trunk: nn.Module, head: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.trunk, self.head, self.between = trunk, head, between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.trunk(x)))


def gradient_cut(luck: Luck) -> State | None:
    x, y, loss = luck.task(64)
    kind = luck.way(4)
    act = luck.pick(ALL)
    if kind == 0:
        model: nn.Module = luck.net(act, 3)
        model.requires_grad_(False)
        way = "all frozen"
    else:
        cuts = {1: torch.Tensor.detach, 2: torch.sign, 3: torch.round}
        model = Between(luck.net(act, 8), nn.Linear(8, 3), cuts[kind])
        way = ("", "detached", "behind sign", "behind round")[kind]
        if luck.number(0, 1):
            fit(model, x, y, loss, rounds=5, only=model.head)
            model.float()
    return State(truth=Standstill.GRADIENT_CUT, way=way, model=model, data=(x, y), loss=loss)


def non_finite(luck: Luck) -> State | None:
    x, y, loss = luck.task(32)
    model = luck.net(luck.pick(ALL), 3)
    if luck.number(0, 1):
        x[3, 5] = float("nan")
    else:
        with torch.no_grad():
            last(model).weight[0, 0] = float("inf")
    return State(truth=Standstill.NON_FINITE, way="NaN or infinity", model=model, data=(x, y), loss=loss)


PLANTS: tuple[Callable[[Luck], State | None], ...] = (
    descending, interpolated, zero_loss, minimum, strict_saddle, degenerate_saddle, plateau, dead_network,
    batch_cancellation, underflow, noise_floor, gradient_cut, non_finite,
)  # fmt: skip


def states(each: int, first: int = 0) -> Iterator[tuple[str, int, State]]:
    """``each`` states a plant; a draw that its own proof does not confirm is drawn again."""
    for plant in PLANTS:
        found = 0
        for seed in itertools.count(first * 1000):
            state = plant(Luck(seed))
            if state is not None:
                found += 1
                yield plant.__name__, seed, State(**{**vars(state), "model": copy.deepcopy(state.model)})
            if found == each:
                break
