"""What an optimiser does to a parameter whose gradient is exactly zero. One file a family in ``families``.

Letters: ``U`` units, ``D`` entries of the parameter of one unit; j steps ahead; p parameter.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from defib.core.prognosis import Mechanism
from defib.core.remains import Part
from defib.diagnosis.prognosis.arithmetic import Arithmetic, Array, Exact


@dataclass(kw_only=True)
class Body:
    """One parameter of the units on its way: what a family's ``step`` changes.

    Attributes:
        values: The parameter, shape (U, D).
        state: The optimiser's state by torch's names: arrays of shape (U, D), numbers, or None.
        settings: The group's settings.
        kind: The optimiser's class name.
        arithmetic: How numbers are computed.
    """

    values: Array
    state: dict[str, Any]
    settings: Mapping[str, Any]
    kind: str
    arithmetic: Arithmetic

    @classmethod
    def of(cls, part: Part) -> "Body":
        """A copy of the part, ready to be moved."""
        arithmetic = Arithmetic(part.dtype)
        state = {
            name: arithmetic.take(value) if np.ndim(value) == 2 else value
            for name, value in part.state.items()
        }
        return cls(
            values=arithmetic.take(part.values),
            state=state,
            settings=part.settings,
            kind=part.kind,
            arithmetic=arithmetic,
        )

    @property
    def decay(self) -> float:
        """The weight decay."""
        return float(self.settings.get("weight_decay", 0.0) or 0.0)

    @property
    def decoupled(self) -> bool:
        """The decay shrinks the parameter itself; otherwise it is added to the gradient."""
        return bool(self.settings.get("decoupled_weight_decay", self.kind == "AdamW"))

    @property
    def betas(self) -> tuple[float, float]:
        """Decay rates of the two running means."""
        first, second = self.settings.get("betas", (0.9, 0.999))
        return float(first), float(second)

    def number(self, name: str, default: float) -> float:
        """A setting."""
        return float(self.settings.get(name, default))

    def array(self, name: str) -> Array:
        """A state's array, zeros if there is none yet."""
        if self.state.get(name) is None:
            self.state[name] = np.zeros_like(self.values)
        return np.asarray(self.state[name])

    def count(self) -> float:
        """Adds one to the optimiser's own count of steps and returns it."""
        self.state["step"] = self.steps + 1.0
        return self.steps

    @property
    def steps(self) -> float:
        """The optimiser's own count of steps."""
        return float(np.asarray(self.state.get("step") or 0.0).reshape(-1)[0])

    def pull(self) -> Array | None:
        """The gradient as the optimiser sees it: 0 plus coupled decay; None where that is 0."""
        if self.decay == 0.0 or self.decoupled:
            return None
        return self.arithmetic.scale(self.values, self.decay)

    def shrink(self, lr: float) -> None:
        """Decoupled decay: p becomes (1 - lr * decay) p."""
        if self.decay and self.decoupled:
            self.values = self.arithmetic.scale(self.values, 1 - lr * self.decay)

    def moments(self, pull: Array | None) -> tuple[Array, Array]:
        """Adam's running means of the gradient and of its square, after one more step and kept.

        Args:
            pull: The gradient; None for zero.

        Returns:
            Both, shape (U, D).
        """
        do, (beta1, beta2) = self.arithmetic, self.betas
        mean = do.lerp(self.array("exp_avg"), pull if pull is not None else do.kind(0.0), 1 - beta1)
        square = do.scale(self.array("exp_avg_sq"), beta2)
        if pull is not None:
            square = do.add_product(square, pull, pull, 1 - beta2)
        self.state["exp_avg"], self.state["exp_avg_sq"] = mean, square
        return mean, square

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """The arrays of the state, by name."""
        for name, value in self.state.items():
            if np.ndim(value) == 2:
                yield name, value

    def keep(self, units: NDArray[np.bool_]) -> "Body":
        """A copy with these units only; ``units`` has shape (U,)."""
        state = {name: value[units] if np.ndim(value) == 2 else value for name, value in self.state.items()}
        return Body(
            values=self.values[units],
            state=state,
            settings=self.settings,
            kind=self.kind,
            arithmetic=self.arithmetic,
        )


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A share of the parameter that is multiplied by the same number at every step.

    Attributes:
        values: The share now, shape (U, D).
        rate: What one step multiplies it by, in (0, 1].
    """

    values: Exact
    rate: float


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The whole future of a parameter: p_j = sum over modes of rate^j values + e_j.

    Attributes:
        modes: The shares.
        rest: Bound of |e_j| / (largest rate)^j over all j, entry by entry, shape (U, D).
    """

    modes: tuple[Mode, ...]
    rest: Exact = field(default_factory=lambda: np.zeros((1, 1)))

    @classmethod
    def single(cls, values: Array, rate: float = 1.0, rest: Exact | None = None) -> "Tail":
        """All of the parameter as one share; without a rate it stays, without ``rest`` it does so exactly."""
        modes = (Mode(values=values.astype(np.float64), rate=rate),)
        return cls(modes=modes) if rest is None else cls(modes=modes, rest=rest)


class Family(ABC):
    """Optimisers that share an update rule. A subclass is one file in ``families``.

    Attributes:
        kinds: Class names of the optimisers.
        momenta: Names of the state that carries movement on.
        needs: Names of the state without which the future cannot be known once steps were taken.
        scaled: The gradient is divided by its own running size, and with it what coupled decay adds.
    """

    kinds: ClassVar[tuple[str, ...]]
    momenta: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    scaled: ClassVar[bool] = False

    @abstractmethod
    def step(self, body: Body, lr: float) -> None:
        """One optimiser step with a gradient of exactly zero, in the order of torch's single-tensor form."""

    def tail(self, body: Body, lr: float) -> Tail | None:
        """The whole future at a learning rate that does not exceed ``lr``.

        Where the rate varies, modes need only be ordered as their rates are, in [0, 1] and
        never rising (see :mod:`defib.diagnosis.prognosis.proof`).

        Args:
            body: Where the parameter stands.
            lr: The learning rate, or its upper bound.

        Returns:
            None where nothing is known for all time.
        """
        del body, lr
        return None

    def steady(self, body: Body, lr: float) -> bool:
        """Whether :meth:`tail` needs a learning rate that stays exactly ``lr``."""
        del body, lr
        return False

    def coast(self, body: Body, lr: float) -> Exact | None:
        """How far the stored momentum alone carries each entry from here on, shape (U, D).

        Returns:
            Without decay and with eps next to nothing; None where that is not known.
        """
        del body, lr
        return None

    def decay_mechanism(self, body: Body, lr: float) -> Mechanism:
        """How the decay acts."""
        del lr
        if body.decay == 0.0:
            return Mechanism.NOTHING
        return Mechanism.NORMALISED_DECAY if self.scaled and not body.decoupled else Mechanism.DECAY

    def lacking(self, body: Body) -> str | None:
        """The state that is missing, by name; None if all is there."""
        if body.steps == 0:
            return None
        return next((name for name in self.needs if body.state.get(name) is None), None)

    def fixed(self, body: Body) -> NDArray[np.bool_]:
        """Units whose next step changes nothing if the last changed nothing, shape (U,)."""
        still = np.ones(len(body.values), dtype=np.bool_)
        for name in self.momenta:
            if body.state.get(name) is not None:
                still &= ~np.any(body.state[name], axis=1)
        return still

    def forget(self, body: Body) -> None:
        """Removes the stored momentum."""
        for name in self.momenta:
            if body.state.get(name) is not None:
                body.state[name] = np.zeros_like(body.values)


def spent(momentum: Array, scale: Array, rate: float, eps_rate: float, eps: float) -> Exact:
    """Bound of the travel that is left in a momentum over a decaying scale.

    A step j ahead moves by at most ``rate^j |m| / scale`` (the scale decays more slowly than the
    momentum), and by at most ``eps_rate^j |m| / eps``; the smaller of the two sums counts.

    Args:
        momentum: m, any shape.
        scale: What it is divided by, now.
        rate: Ratio of two steps where the scale counts.
        eps_rate: Ratio of two steps where eps counts.
        eps: What is added to the scale.

    Returns:
        Shape of ``momentum``; infinite where nothing bounds it.
    """
    size = np.abs(momentum, dtype=np.float64)
    bound = np.full(size.shape, np.inf)
    if rate < 1.0:
        np.divide(size * (rate / (1 - rate)), scale, out=bound, where=scale > 0)
    if eps > 0.0 and eps_rate < 1.0:
        bound = np.minimum(bound, size * (eps_rate / (1 - eps_rate) / eps))
    return np.where(size == 0.0, 0.0, bound)


def shrinking(body: Body, lr: float) -> float | None:
    """What decay multiplies the parameter by at each step, in (0, 1]; None if it does anything else."""
    rate = 1 - lr * body.decay
    return None if (body.decay and not body.decoupled) or not 0 < rate <= 1 else rate


def spent_moments(body: Body, rate: float, *, largest: bool = False) -> Exact:
    """:func:`spent` of Adam's moments, relative to a parameter that shrinks meanwhile.

    Args:
        body: Where the parameter stands.
        rate: What one step multiplies it by.
        largest: It is divided by the largest running square so far (AMSGrad), which does not decay.

    Returns:
        Shape (U, D), over the learning rate.
    """
    beta1, beta2 = body.betas
    scale = body.array("max_exp_avg_sq" if largest else "exp_avg_sq").astype(np.float64)
    kept = 1.0 if largest else math.sqrt(beta2)
    eps = body.number("eps", 1e-8)
    return spent(body.array("exp_avg"), np.sqrt(scale), beta1 / (kept * rate), beta1 / rate, eps)
