"""One forward pass of a model before any training, run backward, and what both show."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from defib.core.checkup import Checkup, GainLedger, LayerCheck, Reach
from defib.core.diagnosis import Verdict
from defib.core.errors import UsageError
from defib.core.evidence import Unseen
from defib.core.finding import Finding, Severity
from defib.core.recurrence import Recurrence
from defib.probe import judge
from defib.probe.batch import Loss, divided, loss_of, one_number, prepared
from defib.probe.calls import Calls, Custom, custom_functions, module_raised, told
from defib.probe.gains import Gains
from defib.probe.graph import Graph, named
from defib.probe.layers import LayerWatch, activations_of, is_chain, judged, sloped
from defib.probe.lint import loss_findings
from defib.probe.pairs import reach
from defib.probe.recurrence import RecurrenceWatch
from defib.probe.replay import followed, why_only_once
from defib.probe.state import untouched
from defib.probe.untrue import Alignment, alignment


@dataclass(frozen=True, kw_only=True)
class _Passed:
    """What the two passes left."""

    loss: float
    gradients: Mapping[str, Tensor | None]
    layers: dict[str, LayerCheck]
    ledger: GainLedger | None
    flat_nodes: set[str]
    reach: Reach | None = None
    recurrences: tuple[Recurrence, ...] = ()
    unseen: tuple[Unseen, ...] = ()


def check_up(model: nn.Module, batch: object, loss: Loss | None = None) -> Checkup:
    """Look at a model and its loss on one batch, with one forward pass and no step.

    The loss is run backward once, and the same graph again for a probe and for each attention.
    Model, gradients and random generators are left bit for bit as they were.

    Args:
        model: In the mode in which it is to be trained.
        batch: ``(input, target)``, a dictionary of keyword arguments, or an input alone.
        loss: Called as ``loss(output, target)``; None for the model's own (``output.loss``), else
            cross-entropy for whole-numbered targets and mean squared error for others.

    Returns:
        Layers, gain ledger and findings.

    Raises:
        UsageError: If the model or the loss raises, or the loss is not one number.
    """
    model = prepared(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise UsageError("the model has no parameter that requires a gradient")
    roots = (model, loss) if isinstance(loss, nn.Module) else (model,)
    calls = Calls()
    arguments, options, target = divided(batch)
    with untouched(*roots), custom_functions() as customs, torch.enable_grad():
        passed = _passes(model, loss, arguments, options, target, calls)
        findings = list(loss_findings(calls, target))
        alignments = [] if isinstance(passed, UsageError) else _alignments(customs)
        if isinstance(passed, UsageError):
            if not findings:
                raise passed
            return _stopped(model, findings, str(passed))
        samples = _samples(arguments, options)
        findings += _findings(model, passed, calls, alignments, samples)
        findings += judge.finite_findings(passed.loss, passed.gradients, _tensors(arguments, options))
    return _report(model, passed, findings, alignments, samples)


def _passes(
    model: nn.Module,
    loss: Loss | None,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    target: Any,
    calls: Calls,
) -> _Passed | UsageError:
    """Forward and backward; an exception of the user's code comes back as an error with its place."""
    with LayerWatch(model) as watch, RecurrenceWatch(model) as recurrent:
        try:
            with calls:
                output = model(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - whatever the user's model raises
            return told("the model", error, module_raised(error, model))
        try:
            with calls:
                value = loss_of(loss, output, target)
            value = one_number(value)
        except UsageError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever the user's loss raises
            return told("the loss", error)
        return _backward(model, value, watch, recurrent)


def _backward(
    model: nn.Module, value: Tensor, watch: LayerWatch, recurrent: RecurrenceWatch
) -> _Passed | UsageError:
    """The backward passes, with hooks on the graph; ``autograd.grad`` writes no ``.grad``."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if value.grad_fn is None:
        layers = watch.layers()
        return _Passed(loss=float(value.detach()), gradients={}, layers=layers, ledger=None, flat_nodes=set())
    graph = Graph(value.grad_fn, named(model))
    nodes = activations_of(graph)
    modules = dict(model.named_modules())
    about = {
        path: judged(x, modules[path], graph, nodes.get(path), watch) for path, x in watch.layers().items()
    }
    gains, once = Gains(graph), why_only_once(graph)
    gains.listen()
    try:
        found = torch.autograd.grad(
            value.sum(), list(parameters.values()), allow_unused=True, retain_graph=not once
        )
    except Exception as error:  # noqa: BLE001 - a backward of the user's own
        return told("the backward pass", error)
    finally:
        gains.forget()
    dense = (g if g is None or g.layout is torch.strided else g.to_dense() for g in found)
    gradients = dict(zip(parameters, dense, strict=True))
    seen = watch.layers()
    layers = {
        path: replace(x, gradient=seen[path].gradient, weight_gradient=_size(path, gradients))
        for path, x in about.items()
    }
    flat = {n.name() for n in graph.nodes if n.name().startswith(_FLAT_NODES)}
    ledger, unseen = followed(graph, gains, once)
    if is_chain(ledger):
        layers = sloped(layers, watch)
    return _Passed(
        loss=float(value.detach()),
        gradients=gradients,
        layers=layers,
        ledger=ledger,
        flat_nodes=flat,
        reach=reach([x.slope for x in layers.values()]),
        recurrences=recurrent.recurrences(),
        unseen=tuple(unseen),
    )


_FLAT_NODES = (
    "SignBackward",
    "SgnBackward",
    "RoundBackward",
    "FloorBackward",
    "CeilBackward",
    "TruncBackward",
)


def _size(path: str, gradients: Mapping[str, Tensor | None]) -> float:
    """Norm over a layer's own parameters; NaN if none of them got a gradient."""
    own = [g for n, g in gradients.items() if n.rpartition(".")[0] == path and g is not None]
    return math.sqrt(math.fsum(float(g.double().square().sum()) for g in own)) if own else math.nan


def _alignments(customs: list[Custom]) -> list[Alignment]:
    return [alignment(custom) for custom in list(customs)]


def _findings(
    model: nn.Module, passed: _Passed, calls: Calls, alignments: list[Alignment], samples: int
) -> list[Finding]:
    silent = {x.path for x in passed.layers.values() if _is_silent(x)}
    outputs = {passed.ledger.start_layer} if passed.ledger is not None else set()
    return [
        *judge.path_findings(model, passed.gradients, calls, passed.flat_nodes, silent),
        *judge.backward_findings(alignments),
        *judge.weight_findings(model, passed.gradients, outputs),
        *judge.dead_findings(passed.layers.values(), samples),
        *judge.ledger_findings(passed.ledger, passed.layers.values()),
    ]


def _is_silent(layer: LayerCheck) -> bool:
    """Neither called nor used by somebody else's call (attention takes its last weights itself)."""
    return not layer.calls and math.isnan(layer.weight_gradient)


def _stopped(model: nn.Module, findings: list[Finding], why: str) -> Checkup:
    """The answer where the pass broke and the findings say why."""
    return Checkup(
        facts={"model": type(model).__name__, "stopped": why},
        verdict=Verdict.SICK,
        loss=math.nan,
        layers=(),
        ledger=None,
        depth=math.nan,
        dead_probability=math.nan,
        findings=judge.in_order(findings),
        unseen=(Unseen(what="run", why=why),),
    )


def _report(
    model: nn.Module, passed: _Passed, findings: list[Finding], alignments: list[Alignment], samples: int
) -> Checkup:
    layers = tuple(passed.layers.values())
    unseen = [Unseen(what=a.name, why=a.untested) for a in alignments if a.untested]
    unseen += [Unseen(what=x.path, why="not called") for x in layers if _is_silent(x)]
    unseen += passed.unseen
    blind = [r for r in passed.recurrences if r.unknown]
    unseen += [Unseen(what=r.path, why=f"lags not parted: {r.unknown}") for r in blind]
    if passed.ledger is not None:
        unseen += [
            Unseen(what=s.layer, why=f"gain not attributed: {s.unknown}")
            for s in passed.ledger.stretches
            if s.unknown
        ]
    sick = any(f.severity is not Severity.INFO for f in findings)
    return Checkup(
        facts={
            "model": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "samples": samples,
            "mode": "training" if model.training else "evaluation",
        },
        verdict=Verdict.SICK if sick else Verdict.HEALTHY,
        loss=passed.loss,
        layers=layers,
        ledger=passed.ledger,
        depth=_depth(layers, passed.ledger),
        dead_probability=dead_probability([x.units for x in layers if x.units]),
        findings=judge.in_order(findings),
        unseen=tuple(unseen),
        reach=passed.reach,
        recurrences=passed.recurrences,
    )


def _samples(arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
    tensors = [t for t in _tensors(arguments, options) if t.ndim]
    return int(tensors[0].shape[0]) if tensors else 0


def _tensors(arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Tensor]:
    """The tensors among a model's arguments."""
    return [t for t in (*arguments, *options.values()) if isinstance(t, Tensor)]


def _depth(layers: tuple[LayerCheck, ...], ledger: GainLedger | None) -> float:
    """Harmonic mean: correlation lengths add up by their inverses. The theory is one of plain chains."""
    known = [x.depth for x in layers if not math.isnan(x.depth)]
    if not known or not is_chain(ledger):
        return math.nan
    rate = math.fsum(1 / d if d else math.inf for d in known) / len(known)
    return 1 / rate if rate else math.inf


def dead_probability(widths: Sequence[int]) -> float:
    """P(some layer is wholly off for a given input) = 1 - prod (1 - 2^-N) (Lu et al. 2020).

    Args:
        widths: Units N of each layer whose activation is off on one side, biases zero.

    Returns:
        The probability, 0 for no such layer.
    """
    alive = 1.0
    for width in widths:
        alive *= 1 - 2.0**-width
    return 1 - alive
