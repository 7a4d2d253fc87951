"""Whether the weights that a run began with suit their activations.

The Euclidean norm of a unit's weights, averaged over a layer, is
|W|_F / sqrt(U) = rms(w) sqrt(fan-in): the factor by which the layer scales a
signal of independent inputs. Signal and gradient stay level where it equals the
activation's small-signal gain 1 / sqrt(E f'^2) (He et al. 2015): sqrt(2) for
ReLU, 1 for tanh or no activation.

Letters: ``U`` units of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from defib.core.activation_index import activation_named
from defib.core.run import RunView
from defib.core.wiring import Layer, Wiring
from defib.diagnosis.measures.ledger import backward_ledger, forward_ledger
from defib.diagnosis.measures.wires import Wires

_TRAINED = ("Linear", "Conv1d", "Conv2d", "Conv3d")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The first weights of one layer.

    Attributes:
        path: The layer.
        norm: Mean norm of a unit's weights before the first step.
        factor: That norm over the one that keeps the signal level; 0 for weights that are all zero.
        hidden: An activation that is not the model's output comes after it, or other layers do.
        normalised: A normalisation makes the scale of these weights irrelevant.
    """

    path: str
    norm: float
    factor: float
    hidden: bool
    normalised: bool


def first_gains(run: RunView, wires: Wires) -> tuple[Gain, ...]:
    """The first weights of every plain layer, in the model's order; empty if step 0 was not read."""
    if run.norms is None or not len(run.norms.steps) or run.norms.steps[0] != 0:
        return ()
    columns = {name: i for i, name in enumerate(run.norms.parameters)}
    output = run.objective.output_layer if run.objective is not None else None
    plain = [layer for layer in run.layers if layer.kind in _TRAINED and layer.units and not layer.frozen]
    last = output if output is not None else (plain[-1].path if plain else "")
    found = []
    for layer in plain:
        name = next((n for n in layer.parameters if n.rpartition(".")[2] == "weight"), None)
        if name is None or name not in columns:
            continue
        norm = float(run.norms.weight[0, columns[name]]) / layer.units**0.5
        if np.isfinite(norm):
            found.append(_gain(layer, norm, wires, hidden=layer.path != last))
    return tuple(found)


def _gain(layer: Layer, norm: float, wires: Wires, *, hidden: bool) -> Gain:
    """One layer's weights against its activation."""
    uses = [w for path in wires.wirings for w in wires.wirings[path] if layer.path in (path, *w.modules)]
    needed = max((small_signal_gain(w.activation) for w in uses if not w.output), default=1.0)
    return Gain(
        path=layer.path,
        norm=norm,
        factor=norm / needed,
        hidden=hidden,
        normalised=any(w.normalised for w in uses),
    )


def growth(gains: tuple[Gain, ...], path: Sequence[Wiring]) -> float:
    """Decades by which the first weights multiply a signal from the first activation of a path to its last.

    A layer that is used several times on the way counts as often; one before a normalisation does not.

    Args:
        gains: The first weights.
        path: Hidden activations, nearest to the input first.

    Returns:
        The sum of log10 of their factors; NaN for a path of one, or if a layer on it began with zeros.
    """
    known = {gain.path: gain for gain in gains}
    if len(path) < 2:
        return float("nan")
    total = 0.0
    for use in path[1:]:
        gain = next((known[p] for p in (use.site.path, *use.modules) if p in known), None)
        if gain is not None and not gain.normalised:
            total += float(np.log10(gain.factor)) if gain.factor > 0 else float("nan")
    return total


def first_growth(run: RunView, path: tuple[Wiring, ...]) -> float:
    """Decades by which signal or gradient, whichever more, grew along a path on the first reading.

    Returns:
        The growth; NaN if neither was read at step 0.
    """
    ledgers = (forward_ledger(run, path), backward_ledger(run, path))
    found = [float(x.total[0]) for x in ledgers if x is not None and x.steps[0] == 0]
    return max(found, default=float("nan"))


def small_signal_gain(name: str) -> float:
    """1 / sqrt(mean of f'^2 on both sides of 0); 1 for what is not known, and above 2.

    No weights are drawn to make up for a slope of 1/4 (sigmoid): there the activation is to blame.

    Args:
        name: The activation's slug.

    Returns:
        The gain.
    """
    activation = activation_named(name)
    if activation is None or not np.isfinite(activation.backward_gain):
        return 1.0
    slope = activation.derivative(np.array([-1e-3, 1e-3]))
    size = float(np.sqrt(np.mean(slope**2)))
    return 1 / size if size >= 0.49 else 1.0
