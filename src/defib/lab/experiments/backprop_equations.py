"""Are the equations of back-propagation right as they were printed?

Claim
-----
(1) dL/dw_jk = dL/dx_k f'(s) x_j, with f' at the unit that sends. (2) The error of a layer
is d_i = W_(i+1) (d_(i+1) * f'(s_i)). (3) By the chain rule a weight's update is a product
of factors. (4) Along a path of ReLU units the update is nothing, or it comes from the other
weights and biases.

Prediction
----------
(1) f' must be taken at the receiving unit k, at s_k. (2) The weights must be transposed,
and f' multiplies last: d_i = (W_(i+1)^T d_(i+1)) * f'(s_i). For layers of different sizes
the printed form cannot even be computed. (3) A weight's derivative is a sum over paths,
each a product: the product of the layers' Jacobian matrices gives it exactly. (4) In a ReLU
net each path contributes the product of its weights if all its units are on, else 0. No
bias is a factor: as long as no unit changes between on and off, biases change nothing.

Method
------
Random nets of equal layers in 64 bits. Relative difference between each formula and
autograd; for (4) all paths of a net of two hidden layers are listed one by one, and the
gradient is taken again after a change of all biases too small to switch a unit.

References:
----------
Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defib.lab.dials import dial
from defib.lab.estimate import at_least, at_most, exact
from defib.lab.experiment import Experiment, LabRun, Measurement, Part, Perturbation, Topic
from defib.lab.figure import Figure, Kind, bars
from defib.lab.gauss import slope_of
from defib.lab.nets import ACTIVATIONS


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What can be changed."""

    nets: int = dial(200, "random networks", quick=30)
    width: int = dial(6, "units of every layer")
    activation: str = dial("tanh", "activation of the nets of (1) to (3)")
    symmetric: bool = dial(False, "whether weight matrices are symmetric")
    path_activation: str = dial("relu", "activation of the nets whose paths are listed")
    nudge: float = dial(1e-4, "change of the biases, as a share of the smallest |pre-activation|")
    tolerance: float = dial(1e-9, "relative difference that rounding may make")


class BackpropEquations(Experiment[Dials]):
    """Printed formulas against autograd."""

    slug = "backprop-equations"
    title = "Does the printed recurrence of back-propagation give the gradient?"
    topic = Topic.GRADIENTS
    rows = ("S1-9", "S2-33", "S2-36", "S2-41", "S4-9")
    dials = Dials
    perturbations = (
        Perturbation(
            why="with f' = 1 and symmetric weights the slips do not show",
            dials={"activation": "linear", "symmetric": True},
            changes=("S1-9", "S2-41"),
        ),
        Perturbation(
            why="a linear unit is never off: no path gives nothing",
            dials={"path_activation": "linear"},
            changes=("S2-36",),
        ),
    )

    def measure(self, dials: Dials, run: LabRun) -> Measurement:
        rows = [_errors(dials, run.torch(k)) for k in run.track(range(dials.nets))]
        found = {name: [row[name] for row in rows] for name in rows[0]}
        n = dials.nets

        def part(row: str, says: str, name: str) -> Part:
            # A formula is right on every net or wrong: its largest error decides.
            return Part(
                row=row,
                says=f"{says}: largest relative difference from autograd",
                estimate=exact(max(found[name]), n=n),
                region=at_most(dials.tolerance),
            )

        return Measurement(
            parts=(
                part("S1-9", "the gradient is dL/dx_k f' x_j with f' of the receiving unit", "receiving"),
                part("S1-9", "it is that with f' of the sending unit, as the index is printed", "sending"),
                part("S2-41", "d_i = W (d * f'), as printed", "printed"),
                part("S2-33", "an update is a product of factors: the layers' Jacobians", "product"),
                part("S4-9", "the chain rule multiplies all factors up to the cost", "product"),
                part("S2-36", "each ReLU path gives nothing or the product of its other weights", "paths"),
                Part(
                    row="S2-36",
                    says="and biases are among the factors: a change of all biases changes the gradient",
                    estimate=exact(max(found["biases"]), n=n),
                    region=at_least(dials.tolerance),
                ),
            ),
            figure=Figure(
                title="Relative difference from autograd, mean over networks",
                x="formula",
                y="relative difference",
                lines=(bars("mean", [max(sum(found[k]) / n, 1e-17) for k in found]),),
                kind=Kind.BAR,
                labels=(
                    "receiving f'",
                    "sending f'",
                    "as printed",
                    "corrected",
                    "Jacobians",
                    "paths",
                    "biases moved",
                ),
                log_y=True,
            ),
            note="The printed recurrence types only for layers of equal size; these have equal sizes.",
        )


def _relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def _errors(dials: Dials, generator: torch.Generator) -> dict[str, float]:
    """Each formula's relative error on one random net of three layers."""
    n = dials.width
    w = torch.randn(3, n, n, generator=generator, dtype=torch.float64) / n**0.5
    if dials.symmetric:
        w = w + w.transpose(1, 2)
    w.requires_grad_()
    f = ACTIVATIONS[dials.activation]
    h = [torch.randn(n, generator=generator, dtype=torch.float64)]
    s: list[Tensor] = []
    for weight in w:
        s.append(weight @ h[-1])
        h.append(f(s[-1]))
    cost = (torch.randn(n, generator=generator, dtype=torch.float64) * h[-1]).sum()
    grads = torch.autograd.grad(cost, [w, s[1], s[2], h[2], h[3]])
    true, d1, d2, g2, g3 = grads
    paths, biases = _paths(dials, generator)
    with torch.no_grad():
        slopes = [slope_of(f)(one) for one in s]
        late = [slopes[k].diag() @ w[k] for k in (1, 2)]
        first = torch.outer(slopes[0] * ((late[1] @ late[0]).T @ g3), h[0])
        return {
            "receiving": _relative(torch.outer(g2 * slopes[1], h[1]), true[1]),
            "sending": _relative(torch.outer(g2, slopes[0] * h[1]), true[1]),
            "printed": _relative(w[2] @ (d2 * slopes[1]), d1),
            "corrected": _relative((w[2].T @ d2) * slopes[1], d1),
            "product": _relative(first, true[0]),
            "paths": paths,
            "biases": biases,
        }


def _paths(dials: Dials, generator: torch.Generator) -> tuple[float, float]:
    """Two relative differences for the gradient of first-layer weights.

    Args:
        dials: Settings.
        generator: Of the net.

    Returns:
        That of the sum over paths of the products of their weights from autograd, and that which a
        small change of all biases makes.
    """
    n = dials.width
    shapes = ((n, n), (n, n), (1, n))
    a, b, c = (torch.randn(*s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    biases = torch.randn(2, n, generator=generator, dtype=torch.float64)
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    f = ACTIVATIONS[dials.path_activation]

    def gradient(biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s1 = a @ x + biases[0]
        s2 = b @ f(s1) + biases[1]
        return s1.detach(), s2.detach(), torch.autograd.grad((c @ f(s2)).sum(), a)[0]

    s1, s2, true = gradient(biases)
    *_, moved = gradient(biases + dials.nudge * torch.cat((s1, s2)).abs().min())
    with torch.no_grad():
        # path (input i) -> j -> k -> output: x_i b_kj c_k if units j and k are on
        on = torch.einsum("i,j,kj,k,ok->jik", x, (s1 > 0).double(), b, (s2 > 0).double(), c)
        size = true.norm().clamp_min(1e-300)
        return ((on.sum(2) - true).norm() / size).item(), ((moved - true).norm() / size).item()
