"""Do numbers stop carrying signal near overflow and in saturation?

Claim
-----
Near overflow and in saturation, numbers stop carrying signal.

Prediction
----------
A number carries signal if another input gives another output, and a gradient passes back.
(1) Beyond the largest number of the format (65504 in float16) everything is infinite: one
output for all inputs, and gradients of inf or nan. (2) Near it numbers lie far apart: 32 from
32768 on in float16, so a signal of size 1 that is added there vanishes. (3) A saturated tanh
is 1 for all inputs beyond ln(8 / eps) / 2, with gradient 0. (4) The opposite end: Adam divides
by sqrt(v) + eps, and in pure float16 an eps of 1e-8 is 0. A gradient of 0 gives 0 / 0, and the
weight is nan, from which nothing comes back.

Method
------
Random inputs in the region in question, and the same inputs moved by a signal; the share of
them whose output changes to another finite number, and the share whose gradient is finite and
not 0. Adam: one step with gradient 0 on random weights; the share that is finite afterwards.

References:
----------
Goldberg 1991, What every computer scientist should know about floating-point arithmetic;
Micikevicius et al. 2018, Mixed precision training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defib.core.errors import UsageError
from defib.lab.dials import dial
from defib.lab.estimate import at_most, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    numbers: int = dial(5000, "numbers tried in each region")
    overflow: tuple[float, ...] = dial((12.0, 80.0), "from where to where exp is tried")
    sum: float = dial(32768.0, "number near overflow to which small ones are added")
    added: tuple[float, ...] = dial((0.0, 4.0), "the small ones, from and to")
    saturated: tuple[float, ...] = dial((5.0, 15.0), "from where to where tanh is tried")
    signal: float = dial(1.0, "by how much an input is moved")
    dtype: str = dial("float16", "format", choices=DTYPES)
    eps: float = dial(1e-8, "Adam's eps")
    least: float = dial(0.01, "largest share that still responds")


class LostSignal(Experiment[Dials]):
    """What responds to a signal at the ends of a format."""

    slug = "lost-signal"
    title = "Do numbers stop carrying signal near overflow and in saturation?"
    topic = Topic.NUMERICS
    rows = ("S0-41",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="float64 reaches further and lies closer: the same numbers respond",
            dials={"dtype": "float64"},
            changes=("S0-41",),
        ),
        Perturbation(
            why="an eps that float16 can hold leaves the weights as they are",
            dials={"eps": 1e-4},
            changes=("S0-41",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        regions: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, ...]]] = {
            "exp overflows": (torch.exp, dials.overflow),
            "a sum near overflow": (lambda s: (s + dials.sum) - dials.sum, dials.added),
            "tanh saturates": (torch.tanh, dials.saturated),
        }
        heard = {
            name: _responds(dials, function, region, run.torch(number))
            for number, (name, (function, region)) in enumerate(regions.items())
        }
        kept = _kept_by_adam(dials, run.torch(9))
        # A sum passes its gradient on whatever it rounds: there only the output is asked.
        counts = {
            "exp overflows: outputs": heard["exp overflows"][0],
            "exp overflows: gradients": heard["exp overflows"][1],
            "a sum near overflow: outputs": heard["a sum near overflow"][0],
            "tanh saturates: outputs": heard["tanh saturates"][0],
            "tanh saturates: gradients": heard["tanh saturates"][1],
            "weights after Adam's 0 / 0": kept,
        }
        return Measurement(
            parts=tuple(
                Part(
                    row="S0-41",
                    says=f"in {dials.dtype}, {name}: none carries signal",
                    estimate=share(count, dials.numbers),
                    region=at_most(dials.least),
                )
                for name, count in counts.items()
            ),
            figure=Figure(
                title="Numbers that still carry signal",
                x="where",
                y="share",
                lines=(bars(dials.dtype, [count / dials.numbers for count in counts.values()]),),
                kind=Kind.BAR,
                labels=tuple(counts),
            ),
        )


def _responds(
    dials: Dials, function: Callable[[Tensor], Tensor], ends: tuple[float, ...], generator: torch.Generator
) -> tuple[int, int]:
    """Inputs between two ends whose output a signal changes, and whose gradient is finite and not 0."""
    if len(ends) != 2:
        raise UsageError(f"a region has two ends, not {len(ends)}")
    low, high = ends
    draw = torch.rand(dials.numbers, generator=generator, dtype=torch.float64)
    s = (low + (high - low) * draw).to(DTYPES[dials.dtype]).requires_grad_()
    here, moved = function(s), function(s.detach() + dials.signal)
    (gradient,) = torch.autograd.grad(here.sum(), s)
    changed = (here != moved) & here.isfinite() & moved.isfinite()
    return int(changed.sum()), int((gradient.isfinite() & (gradient != 0)).sum())


def _kept_by_adam(dials: Dials, generator: torch.Generator) -> int:
    """Weights that are finite after a step of Adam with gradient 0."""
    w = torch.randn(dials.numbers, generator=generator).to(DTYPES[dials.dtype]).requires_grad_()
    w.grad = torch.zeros_like(w)
    torch.optim.Adam([w], 1e-3, eps=dials.eps, foreach=False).step()
    return int(w.detach().isfinite().sum())
