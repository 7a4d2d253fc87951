"""Near convergence, does rounding make training oscillate, or stand still?

Claim
-----
Near convergence a system oscillates because of rounding, or finds a static state.

Prediction
----------
Gradient descent on a bowl with largest curvature lambda is stable below the step 2 / lambda.
Well below it the steps shrink until rounding swallows them: a static state, some distance
from the minimum. Just below it the oscillation across the steepest direction dies slowly,
and the errors of rounding feed it as fast as it dies: it goes on, the larger the coarser the
format. So far the claim is right. But most oscillation has nothing to do with rounding:
above 2 / lambda descent oscillates in every format, and Adam with a short memory beta2 of
squared gradients (0.95, usual for language models) keeps on stepping across the minimum at a
constant rate, its steps being about as long as its rate whatever the gradient. With torch's
0.999 it remembers the large gradients of the start, and its steps die out with the gradient.

Method
------
Random quadratic bowls, full gradients, so that there is no other source of noise. What a run
does over its last steps: no bit changes (static), or the largest movement of a coordinate in
them. Plain descent in bfloat16 and in float64; what float64 does as well is not rounding.

References:
----------
Zamirai et al. 2021, Revisiting bfloat16 training; Cohen et al. 2021, Gradient descent on
neural networks typically occurs at the edge of stability.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import MOSTLY, share
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, line

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    bowls: int = dial(500, "random bowls", quick=300, paper=2000)
    size: int = dial(6, "parameters of a bowl")
    spread: float = dial(1.5, "decades between the largest and the smallest curvature")
    steps: int = dial(2000, "steps of a run", quick=600)
    well_below: float = dial(0.5, "a step well below the limit, as a share of 2 / lambda")
    below: float = dial(0.99, "a step just below the limit")
    above: float = dial(1.05, "the step of the runs that oscillate in every format")
    last: int = dial(50, "steps at the end of a run over which it is judged")
    adam_rate: float = dial(0.02, "rate of Adam")
    adam_memory: float = dial(0.95, "Adam's beta2; torch's default is 0.999")
    adam_decay: bool = dial(False, "whether Adam's rate falls to 0 over the run")
    amplitude: float = dial(
        1e-4, "movement, relative to the start's distance of about 1, that is oscillation"
    )
    coarse: str = dial("bfloat16", "the coarse format", choices=DTYPES)


class RoundingAtTheEnd(Experiment[Dials]):
    """Descent into random bowls in a coarse and in a fine format."""

    slug = "rounding-at-the-end"
    title = "Near convergence, does rounding make training oscillate, or stand still?"
    topic = Topic.NUMERICS
    rows = ("S0-23",)
    dials = Dials
    perturbations = (
        Perturbation(
            why="with every step below the limit and Adam's rate falling, only rounding is left to oscillate",
            dials={"above": 0.5, "adam_decay": True},
            changes=("S0-23",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        curvature, minimum = _bowls(dials, run.torch(0))
        coarse = DTYPES[dials.coarse]
        fine = torch.float64

        def swing(dtype: torch.dtype, factor: float) -> Tensor:
            return _descend(dials, curvature.to(dtype), minimum.to(dtype), 2 * factor, dials.steps)

        static = swing(coarse, dials.well_below) == 0
        fed = (swing(coarse, dials.below) > dials.amplitude) & (swing(fine, dials.below) <= dials.amplitude)
        beyond = swing(fine, dials.above) <= dials.amplitude
        adam = _adam(dials, dials.adam_memory, curvature, minimum) <= dials.amplitude
        long = _adam(dials, 0.999, curvature, minimum) <= dials.amplitude
        statements = (
            (f"at {dials.well_below:g} of 2 / lambda a run in {dials.coarse} ends in a static state", static),
            (f"at {dials.below:g} of it a run oscillates that stands still in float64", fed),
            (f"at {dials.above:g} of it there is no oscillation without rounding, in float64", beyond),
            (f"nor is there any of Adam (beta2 {dials.adam_memory:g}), in float64", adam),
        )
        return Measurement(
            parts=tuple(
                Part(
                    row="S0-23",
                    says=says,
                    estimate=share(int(hits.sum()), dials.bowls),
                    region=MOSTLY,
                )
                for says, hits in statements
            ),
            figure=_figure(dials, run, curvature, minimum),
            note=f"With beta2 0.999 {int(long.sum())} of {dials.bowls} runs of Adam stand still in float64.",
        )


def _bowls(dials: Dials, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Curvature matrices with largest eigenvalue 1, and their minima, in float64."""
    shape = (dials.bowls, dials.size)
    frame = torch.linalg.qr(torch.randn(*shape, dials.size, generator=generator, dtype=torch.float64)).Q
    values = 10 ** (-dials.spread * torch.rand(shape, generator=generator, dtype=torch.float64))
    values[:, 0] = 1
    minimum = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (frame * values[:, None]) @ frame.transpose(1, 2), minimum


def _descend(dials: Dials, curvature: Tensor, minimum: Tensor, rate: float, steps: int) -> Tensor:
    """Largest movement of a coordinate over the last steps of each run; inf for divergence."""
    w = torch.zeros_like(minimum)
    seen = []
    for step in range(steps):
        w = w - rate * (curvature @ (w - minimum)[..., None])[..., 0]
        if step >= steps - dials.last:
            seen.append(w)
    return _swing(torch.stack(seen))


def _adam(dials: Dials, memory: float, curvature: Tensor, minimum: Tensor) -> Tensor:
    """The same with torch's Adam, in float64."""
    w = torch.zeros_like(minimum).requires_grad_()
    optimiser = torch.optim.Adam([w], dials.adam_rate, betas=(0.9, memory))
    seen = []
    for step in range(dials.steps):
        if dials.adam_decay:
            optimiser.param_groups[0]["lr"] = dials.adam_rate * (1 - step / dials.steps) ** 4
        w.grad = (curvature @ (w.detach() - minimum)[..., None])[..., 0]
        optimiser.step()
        if step >= dials.steps - dials.last:
            seen.append(w.detach().clone())
    return _swing(torch.stack(seen))


def _swing(seen: Tensor) -> Tensor:
    swing = (seen.double().amax(0) - seen.double().amin(0)).amax(1)
    return swing.nan_to_num(torch.inf)


def _figure(dials: Dials, run: LabRun, curvature: Tensor, minimum: Tensor) -> Figure:
    """Median movement at the end against the step, in three formats."""
    some = slice(0, 100)
    factors = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
    floor = 1e-18
    lines = []
    for dtype in run.track((torch.bfloat16, torch.float16, torch.float32, torch.float64)):
        a, m = curvature[some].to(dtype), minimum[some].to(dtype)
        swings = [_descend(dials, a, m, 2 * f, dials.steps // 2).median() for f in factors]
        lines.append(line(str(dtype).removeprefix("torch."), factors, [max(float(s), floor) for s in swings]))
    return Figure(
        title="What still moves at the end (1e-18: not a bit)",
        x="step, as a share of 2 / lambda",
        y="median movement over the last steps",
        lines=tuple(lines),
        log_y=True,
    )
