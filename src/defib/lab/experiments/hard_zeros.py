"""Do ReLU's hard zeros hurt, and does a ranking of activations hold on digits?

Claim
-----
Hard zeros hurt optimisation by blocking gradients, compared with a softplus. In a study on
ImageNet ELU, PReLU and maxout beat ReLU, and ReLU beats tanh and sigmoid, on the same net;
ELU was one of the best. The absolute value works worse than ReLU on images.

Prediction
----------
Half of ReLU's derivatives are exactly 0, yet Glorot, Bordes and Bengio found ReLU nets no
worse than softplus nets. The rest comes from large image nets. Here is another data set,
the 8 x 8 digits, with small fully connected nets, which most activations learn almost
equally well: what is confirmed here is not thereby confirmed there, and what is refuted
here may still hold there. Maxout is left out: it doubles the weights.

Method
------
Nets with three hidden layers, each activation with weights that keep its gradients' norm,
SGD with momentum, the same starts, the best of several learning rates (by test accuracy, for
all alike). Few digits are learned from, so that the test is large and differences show; the
absolute value is tried with many too. Test accuracies, paired differences. To beat is to lead
by more than a hundredth (a dial); the study's lead, on its own data, stands beside it.

References:
----------
Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks; Mishkin, Sergievskiy,
Matas 2017, Systematic evaluation of CNN advances on the ImageNet, and its benchmark of
activations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from defib.lab.crowd import Crowd, MemberPReLU, train_crowd
from defib.lab.data import digits
from defib.lab.dials import dial
from defib.lab.estimate import (
    CONFIDENCE,
    Estimate,
    at_least,
    at_most,
    mean,
    paired_difference,
)
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Published, Topic
from defib.lab.figure import Figure, Kind, line
from defib.lab.gauss import expect, slope_of
from defib.lab.nets import ACTIVATIONS, relu

STUDY = {
    "relu": 0.471,
    "prelu": 0.485,
    "elu": 0.488,
    "selu": 0.470,
    "shifted softplus": 0.486,
    "very leaky": 0.469,
    "arcsinh": 0.417,
    "scaled tanh": 0.423,
    "tanh": 0.401,
    "linear": 0.035,
}
"""Accuracies on ImageNet that the study printed (caffenet-benchmark, Activations)."""


_FIRST_SLOPE = 0.25
"""PReLU's slope for negative inputs before it learns (He et al. 2015)."""


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    members: int = dial(32, "nets of each activation", quick=16)
    learned: int = dial(300, "digits that are learned from; the rest is the test")
    width: int = dial(48, "units of each of three hidden layers", quick=32)
    steps: int = dial(250, "steps of SGD", quick=80)
    rates: tuple[float, ...] = dial(
        (0.02, 0.06), "learning rates, of which each takes its best", quick=(0.02,)
    )
    batch: int = dial(32, "samples of a step")
    threshold: float = dial(0.0, "pre-activation above which a ReLU fires")
    many: int = dial(1397, "digits that the absolute value is tried with besides")
    many_steps: int = dial(600, "steps of SGD with them", quick=80)
    lead: float = dial(0.01, "accuracy by which one must differ to be called better or worse")
    blocked: float = dial(0.25, "share of derivatives that are 0 which counts as blocking")
    resamples: int = dial(4000, "resampled sets of nets for the interval of the rank correlation", quick=1000)


class HardZeros(Experiment[Dials]):
    """Activations compared on digits."""

    slug = "hard-zeros"
    title = "Do hard zeros hurt, and does a study's ranking of activations hold on digits?"
    topic = Topic.ACTIVATIONS
    rows = ("S2-13", "S2-18", "S2-21", "S2-29")
    dials = Dials
    perturbations = (
        Perturbation(
            why="ReLUs that fire for few samples block nearly every gradient: such zeros do hurt",
            dials={"threshold": 4.0},
            changes=("S2-13",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        names = (*STUDY, "softplus", "sigmoid", "abs")
        found = {name: _best(dials, name, dials.learned, dials.steps, run) for name in run.track(names)}
        scores = {name: accuracies for name, (accuracies, _) in found.items()}
        many = {name: _best(dials, name, dials.many, dials.many_steps, run)[0] for name in ("abs", "relu")}
        ranking = _ranking(dials, scores, run)
        rival = max((name for name in STUDY if name != "elu"), key=lambda name: float(scores[name].mean()))
        ours = [float(scores[name].mean()) for name in STUDY]
        leads = (("elu", "relu"), ("prelu", "relu"), ("relu", "tanh"), ("relu", "sigmoid"))
        return Measurement(
            parts=(
                Part(
                    row="S2-13",
                    says="hard zeros block gradients: share of derivatives that are 0 in trained ReLU nets",
                    estimate=mean(found["relu"][1]),
                    region=at_least(dials.blocked),
                ),
                Part(
                    row="S2-13",
                    says="and that hurts: softplus's accuracy minus ReLU's",
                    estimate=paired_difference(scores["softplus"], scores["relu"]),
                    region=at_least(dials.lead),
                ),
                *(
                    Part(
                        row="S2-18",
                        says=f"{first} beats {second}: difference in accuracy",
                        estimate=paired_difference(scores[first], scores[second]),
                        region=at_least(dials.lead),
                        published=_printed(first, second),
                    )
                    for first, second in leads
                ),
                Part(
                    row="S2-29",
                    says="ELU is among the best: its accuracy minus the best other's of the study",
                    estimate=paired_difference(scores["elu"], scores[rival]),
                    region=at_least(-dials.lead),
                    published=_printed("elu", "shifted softplus"),
                ),
                *(
                    Part(
                        row="S2-21",
                        says=f"the absolute value is worse than ReLU, {count} digits: difference in accuracy",
                        estimate=paired_difference(values["abs"], values["relu"]),
                        region=at_most(-dials.lead),
                    )
                    for count, values in ((dials.learned, scores), (dials.many, many))
                ),
            ),
            figure=Figure(
                title="Accuracy here and in the study",
                x="the study's accuracy on ImageNet",
                y="test accuracy on digits",
                lines=tuple(
                    line(name, (STUDY[name],), (mine,)) for name, mine in zip(STUDY, ours, strict=True)
                ),
                kind=Kind.POINTS,
            ),
            note="Another data set than the study's. Rank correlation with its accuracies: "
            f"{ranking.value:.2f} ({ranking.low:.2f} to {ranking.high:.2f}). Accuracies here: "
            + ", ".join(f"{name} {values.mean():.3f}" for name, values in scores.items()),
        )


def _activation(dials: Dials, name: str) -> Callable[[Tensor], Tensor]:
    special: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": lambda x: torch.where(x > dials.threshold, x, 0.0),
        "very leaky": relu(1 / 3),
        "prelu": MemberPReLU(dials.members, _FIRST_SLOPE),
        "arcsinh": torch.asinh,
        "scaled tanh": lambda x: 1.73 * torch.tanh(2 * x / 3),
        "shifted softplus": lambda x: torch.nn.functional.softplus(x) - math.log(2),
    }
    return special.get(name) or ACTIVATIONS[name]


def _printed(first: str, second: str) -> Published | None:
    """The study's lead of one activation over another, where it printed both."""
    if not {first, second} <= set(STUDY):
        return None
    lead = round(STUDY[first] - STUDY[second], 3)
    return Published(value=lead, source="caffenet-benchmark, on ImageNet")


Scores = tuple["np.ndarray", "np.ndarray"]


def _gain(f: Callable[[Tensor], Tensor]) -> float:
    """The gain of weights that keeps gradients' norm."""
    return 1 / math.sqrt(expect(lambda z: slope_of(f)(z).square(), 1.0))


def _best(dials: Dials, name: str, learned: int, count: int, run: LabRun) -> Scores:
    """Test accuracies and shares of zero derivatives of its nets, at the learning rate with the best mean."""
    data = digits(test=1797 - learned)
    found: list[Scores] = []
    for rate in dials.rates:
        f = _activation(dials, name)
        sizes = (data.x.shape[1], *[dials.width] * 3, 10)
        gain = math.sqrt(2 / (1 + _FIRST_SLOPE**2)) if name == "prelu" else _gain(f)
        crowd = Crowd(dials.members, sizes, f, run.torch(0), init="lecun", gain=gain)
        optimiser = torch.optim.SGD(crowd.parameters(), lr=rate, momentum=0.9)
        steps = range(count)
        train_crowd(crowd, optimiser, data.x, data.y, run.torch(1), steps=steps, size=dials.batch)
        with torch.no_grad():
            states = crowd.states(data.x)[:-1]
        zeros = torch.stack([(slope_of(f)(s) == 0).double().mean((1, 2)) for s in states]).mean(0)
        found.append((crowd.accuracies(data.x_test, data.y_test).numpy(), zeros.numpy()))
    return max(found, key=lambda pair: float(pair[0].mean()))


def _ranking(dials: Dials, scores: dict[str, "np.ndarray"], run: LabRun) -> Estimate:
    """Spearman's correlation with the study, and its interval over resampled nets."""
    from scipy.stats import rankdata

    table = np.array([scores[name] for name in STUDY])
    theirs = rankdata(list(STUDY.values()))
    chosen = run.numpy(2).integers(0, dials.members, (dials.resamples, dials.members))
    means = np.vstack((table.mean(1), table[:, chosen].mean(2).T))
    ranks = rankdata(means, axis=1)
    values = [float(np.corrcoef(row, theirs)[0, 1]) for row in ranks]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values[1:], (tail, 100 - tail))
    return Estimate(value=values[0], low=float(low), high=float(high), n=dials.members)
