"""Are the derivatives that text books print the ones that the computer uses?

Claim
-----
S(x) = 1 / (1 + e^-x) has the derivative S (1 - S), and that is never more than 1/4. h =
tanh x has the derivative 1 - h^2. ReLU is max(0, x), its derivative is 1 for positive x and
0 for negative x, and at 0 it has none. At the last layer sigmoid and softmax are
unproblematic: they make probabilities.

Prediction
----------
All but the last. d/dx S = e^-x / (1 + e^-x)^2 = S (1 - S), a parabola in S with its top 1/4
at S = 1/2, x = 0. ReLU's difference quotients at 0 are 0 from the left and 1 from the
right, so there is no limit; a program must choose a value (torch chooses 0 for relu, 1/2
for maximum(x, 0), 1 for clamp). At the last layer the logarithm of a cross-entropy takes
the sigmoid's derivative back: the gradient is S - y, of size near 1 for a wrong output
however saturated. With a squared error it is (S - y) S (1 - S): gone with e^-|x|.

Method
------
Autograd's derivative against the printed formula at many points, in 64 bits. For ReLU the
difference quotients on both sides of 0. For softmax the largest distance of a sum of
probabilities from 1 and the smallest probability, for random outputs. The gradient of a
wrong output under both losses.

References:
----------
Rohan Kapur 2016, Rohan #4: The vanishing gradient problem.
"""

from dataclasses import dataclass

import torch

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, between, exact, near
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, line
from defib.lab.gauss import slope_of


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    points: int = dial(4001, "places at which derivatives are compared")
    reach: float = dial(8.0, "largest |x| among them")
    steepness: float = dial(1.0, "a in S(a x) and tanh(a x); 1 is the text books'")
    slope: float = dial(0.0, "slope of the activation for negative inputs; 0 is ReLU")
    step: float = dial(1e-3, "distance from 0 of the difference quotients")
    wrong: float = dial(10.0, "logit of a wrong class over the right one, in a last layer of two classes")
    alive: float = dial(0.1, "gradient of an output that counts as not vanished (at most 1)")
    tolerance: float = dial(1e-12, "what rounding in 64 bits is allowed")


class DerivativesByHand(Experiment[Dials]):
    """Printed derivatives against autograd's."""

    slug = "derivatives-by-hand"
    title = "Are S(1 - S), 1 - tanh^2 and ReLU's 0 or 1 the true derivatives?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-42", "S4-7", "S4-8", "S4-20", "S4-37")
    dials = Dials
    perturbations = (
        Perturbation(
            why="S(2x) has twice the derivative: the formula and the bound of 1/4 are lost",
            dials={"steepness": 2.0},
            changes=("S2-42", "S4-7", "S4-8"),
        ),
        Perturbation(why="a leaky slope is not 0", dials={"slope": 0.1}, changes=("S4-20",)),
        Perturbation(
            why="an output that is not saturated gets gradient under either loss",
            dials={"wrong": 0.0},
            changes=("S4-37",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        x = torch.linspace(-dials.reach, dials.reach, dials.points, dtype=torch.float64)

        def sigmoid(s: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(dials.steepness * s)

        def tanh(s: torch.Tensor) -> torch.Tensor:
            return torch.tanh(dials.steepness * s)

        taken, value, height = slope_of(sigmoid)(x), sigmoid(x), tanh(x)
        by_hand = value * (1 - value)
        other = slope_of(tanh)(x) - (1 - height * height)
        n = dials.points
        return Measurement(
            parts=(
                Part(
                    row="S4-7",
                    says="the sigmoid's derivative is S (1 - S): largest difference",
                    estimate=exact((taken - by_hand).abs().max().item(), n=n),
                    region=at_most(dials.tolerance),
                ),
                Part(
                    row="S4-8",
                    says="the sigmoid's derivative is at most 1/4",
                    estimate=exact(taken.max().item(), n=n),
                    region=near(0.25, dials.tolerance),
                    published=Published(value=0.25, source="Rohan Kapur 2016, Rohan #4"),
                ),
                Part(
                    row="S2-42",
                    says="tanh's derivative is 1 - h^2: largest difference",
                    estimate=exact(other.abs().max().item(), n=n),
                    region=at_most(dials.tolerance),
                ),
                *_relu(dials, x),
                *_probabilities(dials, run),
            ),
            figure=Figure(
                title="The sigmoid's derivative",
                x="x",
                y="derivative",
                lines=(
                    line("autograd", x[::20], taken[::20]),
                    line("S (1 - S)", x[::20], by_hand[::20], dashed=True),
                    line("1/4", (-dials.reach, dials.reach), (0.25, 0.25), dashed=True),
                ),
            ),
        )


def _relu(dials: Dials, x: torch.Tensor) -> tuple[Part, ...]:
    """What is said about ReLU: slopes on both sides, and none at 0."""

    def f(s: torch.Tensor) -> torch.Tensor:
        return torch.where(s > 0, s, dials.slope * s)

    slope = slope_of(f)(x)
    sides = torch.tensor([dials.step, -dials.step], dtype=torch.float64)
    right, left = (f(sides) / sides).tolist()
    error = torch.where(x > 0, slope - 1, slope)[x != 0].abs().max().item()
    return (
        Part(
            row="S4-20",
            says="ReLU's derivative is 1 for positive x and 0 for negative x: largest difference",
            estimate=exact(error, n=len(x) - 1),
            region=at_most(dials.tolerance),
        ),
        Part(
            row="S4-20",
            says="at 0 it has none: slope from the right minus slope from the left",
            estimate=exact(right - left),
            region=at_least(1 - dials.tolerance),
        ),
    )


def _probabilities(dials: Dials, run: LabRun) -> tuple[Part, ...]:
    """Whether a last layer's outputs become probabilities."""
    outputs = torch.randn(dials.points, 10, generator=run.torch(0), dtype=torch.float64)
    raised = outputs.softmax(1)
    logit = torch.tensor(-dials.wrong, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    functional = torch.nn.functional
    crossed = slope_of(lambda s: functional.binary_cross_entropy_with_logits(s, one))(logit)
    squared = slope_of(lambda s: (torch.sigmoid(s) - one).square() / 2)(logit)
    return (
        Part(
            row="S4-37",
            says="a wrong, saturated sigmoid output still gets gradient from a cross-entropy",
            estimate=exact(crossed.abs().item()),
            region=at_least(dials.alive),
        ),
        Part(
            row="S4-37",
            says="and from a squared error",
            estimate=exact(squared.abs().item()),
            region=at_least(dials.alive),
        ),
        Part(
            row="S4-37",
            says="softmax gives probabilities: the sum of a sample's that is farthest from 1",
            estimate=exact((raised.sum(1) - 1).abs().max().item(), n=dials.points),
            region=at_most(dials.tolerance),
        ),
        Part(
            row="S4-37",
            says="softmax gives probabilities: the smallest of all",
            estimate=exact(raised.min().item(), n=dials.points),
            region=between(0.0, 1.0),
        ),
    )
