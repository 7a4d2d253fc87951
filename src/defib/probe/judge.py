"""From what one forward and one backward pass showed to findings."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from defib.core.cause import Cause, Fault
from defib.core.checkup import GainLedger, LayerCheck
from defib.core.evidence import Evidence
from defib.core.finding import Confidence, Finding, Severity
from defib.probe.calls import Call, Calls
from defib.probe.untrue import Alignment

DECADES = 3.0
"""Loss or growth along the depth that is a warning; the limit of the vanishing-gradient rule."""
RECURRENT = 2
"""A weight used more often than this in one pass is a recurrence; twice, it is tied or a siamese net's."""
DECADES_HOPELESS = 6.0
"""About the rounding error of float32."""
FEW_SAMPLES = 16
"""Below this many samples a unit that never fired may still fire for a fifth of the data (rule of three)."""
MOSTLY_OFF = 0.5
"""Share of born-dead units in a layer that is a warning: more are off than on."""


def ledger_findings(ledger: GainLedger | None, layers: Iterable[LayerCheck]) -> Iterator[Finding]:
    """Vanishing and exploding at the start, blamed on derivative or weights."""
    if ledger is None:
        return
    gain = ledger.gain
    # Forgetting over time is what a recurrent cell does; only what is lost along the depth is judged.
    total = gain.total - math.fsum(s.gain.total for s in ledger.stretches if s.uses > RECURRENT)
    if not abs(total) >= DECADES or math.isinf(total):
        return
    needed = {x.path: x.needed for x in layers}
    surplus = sum(
        s.gain.weights - math.log10(n)
        for s in ledger.stretches
        if s.uses <= RECURRENT and s.gain.weights and math.isfinite(n := needed.get(s.layer, math.nan))
    )
    share = surplus / total
    vanishing = total < 0
    weights = share > 0.5
    yield Finding(
        rule="initialisation" if weights else ("vanishing-gradient" if vanishing else "exploding-gradient"),
        fault=Fault.BAD_INIT if weights else (Fault.VANISHING if vanishing else Fault.EXPLODING),
        severity=Severity.ERROR if abs(total) >= DECADES_HOPELESS else Severity.WARNING,
        confidence=Confidence.MEASURED,
        layer=ledger.end_layer,
        cause=_blamed(weights=weights, vanishing=vanishing),
        message=f"Before any training the gradient {'loses' if vanishing else 'gains'} "
        f"{abs(total):.1f} decades between the last layer and the first"
        + (", because of the weights' first size." if weights else "."),
        evidence=(
            Evidence(name="in all", value=total, unit="decades"),
            Evidence(name="activation derivatives", value=gain.derivative, unit="decades"),
            Evidence(name="weights", value=gain.weights, unit="decades"),
            Evidence(name="weights against level ones", value=surplus, unit="decades"),
            Evidence(name="normalisation", value=gain.norms, unit="decades"),
            Evidence(name="skips", value=gain.skips, unit="decades"),
            Evidence(name="attention", value=gain.attention, unit="decades"),
            Evidence(name="not attributed", value=gain.unattributed, unit="decades"),
        ),
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; layers that are partly off under weights that are too small are explained by those.

    Weights that shrink the signal leave little of it beside the biases, so that all samples look the
    same to a unit, and half of the units are off for all of them.

    Args:
        findings: As they were found.

    Returns:
        One for each cause.
    """
    found = sorted(findings, key=lambda f: f.severity.rank)
    partly = tuple(f for f in found if f.rule == "dead-unit" and f.severity is not Severity.ERROR)
    if not any(f.cause is Cause.WEIGHTS_TOO_SMALL for f in found):
        return tuple(found)
    rest = [f for f in found if f not in partly]
    return tuple(replace(f, explains=partly) if f.cause is Cause.WEIGHTS_TOO_SMALL else f for f in rest)


def _blamed(*, weights: bool, vanishing: bool) -> Cause:
    if weights:
        return Cause.WEIGHTS_TOO_SMALL if vanishing else Cause.WEIGHTS_TOO_LARGE
    return Cause.ACTIVATION_DERIVATIVE


def dead_findings(layers: Iterable[LayerCheck], samples: int) -> Iterator[Finding]:
    """Layers of which many units are off for the whole batch; a small batch proves little."""
    for layer in layers:
        if not layer.units or layer.off <= MOSTLY_OFF * layer.units:
            continue
        whole = layer.off == layer.units
        yield Finding(
            rule="dead-unit",
            fault=Fault.DEAD_UNITS,
            severity=_harm(whole=whole, few=samples < FEW_SAMPLES),
            confidence=Confidence.MEASURED,
            layer=layer.path,
            cause=Cause.BORN_DEAD,
            message=f"{layer.off} of {layer.units} units are off for every sample of the batch "
            "before any training.",
            units_total=layer.units,
            evidence=(
                Evidence(name="off units", value=layer.off, unit="units"),
                Evidence(name="expected share of such units", value=layer.expected_off),
            ),
        )


def _harm(*, whole: bool, few: bool) -> Severity:
    if whole:
        return Severity.WARNING if few else Severity.ERROR
    return Severity.INFO if few else Severity.WARNING


def weight_findings(
    model: nn.Module, gradients: Mapping[str, Tensor | None], outputs: set[str]
) -> Iterator[Finding]:
    """Hidden layers of zeros that get no gradient, and layers whose units are all alike; one for each."""
    zero, cloned = [], []
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        grad = gradients.get(f"{path}.weight" if path else "weight")
        if weight is None or weight.ndim < 2 or weight.shape[0] < 2 or grad is None or path in outputs:
            continue
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        if not weight.any() and not grad.any():
            zero.append(path)
        elif grad.any() and _alike(weight) and _alike(grad):
            cloned.append(path)
    if zero:
        yield _start(zero, Cause.ZERO_WEIGHTS, "All its weights are zero, and so is their gradient")
    if cloned:
        yield _start(cloned, Cause.CLONED_UNITS, "All its units have equal weights and equal gradients")


def _alike(rows: Tensor) -> bool:
    """Whether all rows are equal up to rounding."""
    flat = rows.detach().double().flatten(1)
    spread, size = (flat - flat[:1]).abs().max(), flat.abs().max()
    return bool(spread <= 1e-5 * size)


def _start(paths: list[str], cause: Cause, message: str) -> Finding:
    more = f"; so it is in {len(paths) - 1} more layers" if len(paths) > 1 else ""
    return Finding(
        rule="initialisation",
        fault=Fault.BAD_INIT,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer=paths[0],
        cause=cause,
        message=f"{message}{more}.",
        evidence=(Evidence(name="layers", value=len(paths), unit="layers"),),
    )


def path_findings(
    model: nn.Module,
    gradients: Mapping[str, Tensor | None],
    calls: Calls,
    flat_nodes: set[str],
    silent: set[str],
) -> Iterator[Finding]:
    """Parameters that no gradient reaches, with what may have cut the way.

    Args:
        model: The model.
        gradients: By parameter; None where autograd found no way.
        calls: What was called.
        flat_nodes: Names of nodes in the graph whose derivative is zero wherever it exists.
        silent: Paths of layers that were not called: no gradient is to be expected there.

    Yields:
        One finding for each cause.
    """
    learning = {
        n for n, p in model.named_parameters() if p.requires_grad and n.rpartition(".")[0] not in silent
    }
    cut = [n for n in learning if gradients.get(n) is None]
    if cut:
        yield _unreached(sorted(cut), len(learning), calls.cuts, Cause.GRAPH_CUT)
    zero = [n for n in learning if (g := gradients.get(n)) is not None and not g.any()]
    flats = calls.flats
    if zero and (flats or flat_nodes):
        yield _unreached(sorted(zero), len(learning), flats, Cause.ZERO_DERIVATIVE)


def _unreached(names: list[str], total: int, calls: list[Call], cause: Cause) -> Finding:
    """One finding for all of them."""
    all_of_them = len(names) == total
    blamed = list(dict.fromkeys(f"{c.name} at {c.where}" for c in calls if c.where))[:4]
    severity = Severity.ERROR if all_of_them else (Severity.WARNING if blamed else Severity.INFO)
    reason = "no way leads to them" if cause is Cause.GRAPH_CUT else "their gradient is exactly zero"
    tail = f"; suspect: {', '.join(blamed)}" if blamed else ""
    return Finding(
        rule="gradient-path",
        fault=Fault.VANISHING,
        severity=severity,
        confidence=Confidence.EXACT,
        layer=names[0].rpartition(".")[0],
        cause=cause,
        message=f"{len(names)} of {total} parameters get no gradient from this loss: {reason}{tail}.",
        evidence=(
            Evidence(name="parameters without gradient", value=len(names), unit="tensors"),
            Evidence(name="first of them", value=names[0], unit=""),
        ),
    )


def backward_findings(found: Iterable[Alignment]) -> Iterator[Finding]:
    """Hand-written backwards that give another gradient than their forward has."""
    for each in found:
        exact = each.cosine > 0.999 and abs(each.scale - 1) < 0.01
        reversal = each.identity and each.cosine < -0.999
        if each.untested or exact or (math.isnan(each.scale) and math.isnan(each.cosine)):
            continue
        flat = math.isinf(each.scale)
        mild = flat or reversal or each.cosine > 0.5
        yield Finding(
            rule="untrue-backward",
            fault=Fault.VANISHING,
            severity=Severity.INFO if mild else (Severity.ERROR if each.cosine < 0 else Severity.WARNING),
            confidence=Confidence.MEASURED,
            layer="",
            cause=Cause.UNTRUE_DERIVATIVE,
            message=_verdict_on(each, flat=flat, reversal=reversal),
            evidence=(
                Evidence(name="cosine with the true gradient", value=each.cosine),
                Evidence(name="size against the true gradient", value=each.scale),
                Evidence(name="random directions", value=each.directions, unit="directions"),
                Evidence(name="called at", value=each.where, unit=""),
            ),
        )


def _verdict_on(each: Alignment, *, flat: bool, reversal: bool) -> str:
    if flat:
        return f"{each.name} is flat and its backward is a surrogate: a straight-through estimator."
    if reversal:
        return f"{each.name} is the identity and reverses the gradient."
    return (
        f"The backward of {each.name} is not its forward's derivative: cosine {each.cosine:.2f} with the "
        f"true gradient, {each.scale:.3g} times its size."
    )


def finite_findings(
    loss: float, gradients: Mapping[str, Tensor | None], inputs: Iterable[Tensor]
) -> Iterator[Finding]:
    """A loss or a gradient that is not a number, and whether the data was already."""
    bad = [n for n, g in gradients.items() if g is not None and not bool(torch.isfinite(g).all())]
    if math.isfinite(loss) and not bad:
        return
    cause = Cause.NON_FINITE_BACKWARD if math.isfinite(loss) else Cause.NON_FINITE_LOSS
    if any(not bool(torch.isfinite(x).all()) for x in inputs):
        cause = Cause.NON_FINITE_DATA
    yield Finding(
        rule="non-finite",
        fault=Fault.NON_FINITE,
        severity=Severity.ERROR,
        confidence=Confidence.EXACT,
        layer=bad[0].rpartition(".")[0] if bad else "",
        cause=cause,
        message=f"The loss is {loss:.4g} and {len(bad)} gradients are not finite before any training.",
        evidence=(
            Evidence(name="loss", value=loss),
            Evidence(name="tensors", value=len(bad), unit="tensors"),
        ),
    )
