"""Asks a solver about the few units that bounds leave open, and runs the model on what it finds."""

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx

from defib.core.certificate import LayerCertificate, Method, UnitCertificate, UnitVerdict
from defib.core.evidence import Unseen
from defib.probe.certificates import paths
from defib.probe.certificates.bounds import Bounds
from defib.probe.certificates.effort import Effort
from defib.probe.certificates.exact import TOLERANCE, NotExact, Program, time_left
from defib.probe.certificates.regions import BoxRegion
from defib.probe.certificates.samples import Sender
from defib.probe.certificates.tracing import Inputs
from defib.probe.certificates.verdicts import Unit

_ASKED = {UnitVerdict.NEVER_SEEN, UnitVerdict.OPEN}


def decided(
    layers: list[LayerCertificate],
    units: list[Unit],
    main: Bounds,
    boxes: Mapping[fx.Node, BoxRegion],
    inputs: Inputs,
    sender: Sender,
    effort: Effort,
) -> tuple[list[LayerCertificate], list[Unseen]]:
    """The layers with some open units decided, and what could not be asked.

    Args:
        layers: As bounds and samples left them.
        units: What belongs to each.
        main: Bounds on the domain.
        boxes: Regions of the inputs that are boxes.
        inputs: The batch.
        sender: Runs the model.
        effort: How many units, how long.

    Returns:
        The layers and what was not decided.
    """
    left, said, found = effort.exact, [], []
    if len(boxes) < sum(inputs.batched):
        return layers, [Unseen(what="exact", why="a solver can only be asked where the domain is a box")]
    asker = _Asker(main, boxes, inputs, sender, effort.exact_seconds)
    for place, (layer, unit) in enumerate(zip(layers, units, strict=True)):
        changed = list(layer.units)
        wanted = [u for u in layer.units if u.verdict in _ASKED][:left]
        if wanted and unit.step.bent.curve.slope == 0.0:
            left -= len(wanted)
            try:
                program = Program(main, unit.argument)
                for each in wanted:
                    changed[each.unit] = asker.ask(program, unit, each, place)
            except NotExact as error:
                said.append(Unseen(what=layer.layer, why=f"not asked exactly: {error}"))
        found.append(replace(layer, units=tuple(changed), collapsible=_collapses(changed)))
    return found, said


class _Asker:
    """Puts one question after another."""

    def __init__(
        self, main: Bounds, boxes: Mapping[fx.Node, BoxRegion], inputs: Inputs, sender: Sender, seconds: float
    ) -> None:
        self._main, self._boxes, self._inputs = main, boxes, inputs
        self._sender, self._seconds = sender, seconds

    def ask(self, program: Program, unit: Unit, certificate: UnitCertificate, place: int) -> UnitCertificate:
        """One unit: proved never to fire, fired by an input that was run, or as it was."""
        entries = unit.rows(torch.arange(self._main.known[unit.argument].low.numel()).reshape(
            self._main.known[unit.argument].low.shape))[certificate.unit]  # fmt: skip
        high = self._main.known[unit.argument].high.reshape(-1)
        lost = self._rounding(unit, entries)
        deadline = time.perf_counter() + self._seconds
        highest = -np.inf
        for entry in entries[high[entries].argsort(descending=True)].tolist():
            if float(high[entry]) <= 0:
                continue
            if time_left(deadline) <= 0:
                return certificate
            answer = program.highest(entry, time_left(deadline))
            point = self._fires(program, unit, certificate.unit, answer.inputs, place)
            if point is not None:
                return replace(
                    certificate, verdict=UnitVerdict.FIRES, method=Method.MILP, witness_input=point,
                    rate_bound=float("nan"),
                )  # fmt: skip
            highest = max(highest, answer.highest + TOLERANCE * (1 + abs(answer.highest)) + lost)
        if highest > 0:
            return certificate
        return replace(
            certificate, verdict=UnitVerdict.NEVER_FIRES, method=Method.MILP, rate_bound=float("nan"),
            high=min(certificate.high, highest), margin=-highest,
        )  # fmt: skip

    def _rounding(self, unit: Unit, entries: Tensor) -> float:
        """How far the model's own arithmetic can move these numbers, from linear bounds."""
        shape = self._main.known[unit.argument].low.shape
        rows = torch.zeros(len(entries), int(np.prod(shape)), dtype=torch.float64)
        rows[torch.arange(len(entries)), entries] = 1.0
        upper = self._main.upper(unit.argument, rows.reshape(len(entries), *shape))
        lost = upper.computed - upper.exact
        return float(torch.nan_to_num(lost, nan=torch.inf).max())

    def _fires(
        self, program: Program, unit: Unit, index: int, found: tuple[np.ndarray, ...], place: int
    ) -> tuple[float, ...] | None:
        """The input in the model's format, if running the model on it fires the unit; else None."""
        if not found:
            return None
        nodes = program.input_nodes()
        by_node = dict(zip(nodes, found, strict=True))
        samples, flat = [], []
        where = [
            (n, x)
            for n, x, b in zip(self._nodes(), self._inputs.leaves, self._inputs.batched, strict=True)
            if b
        ]
        for node, leaf in where:
            if node not in by_node or node not in self._boxes:
                return None
            low, high = self._boxes[node].ends()
            point = torch.from_numpy(by_node[node]).reshape(low.shape).clamp(low, high).to(leaf.dtype)
            down, up = (torch.full_like(point, v) for v in (-torch.inf, torch.inf))
            point = torch.where(point.double() > high, torch.nextafter(point, down), point)
            point = torch.where(point.double() < low, torch.nextafter(point, up), point)
            if not bool(self._boxes[node].holds(point.double()).all()):
                return None  # rounding to the model's format left the box
            samples.append(point.to(leaf.device).expand(self._sender.samples, *leaf.shape[1:]).clone())
            flat += point.reshape(-1).tolist()
        argument = self._sender.send(samples).arguments[place]
        fired = paths.passes(unit.step, argument)
        rows = fired.reshape(self._sender.samples, -1, *argument.shape[1:])[:1]
        one = rows[0, :1] if argument.shape[0] == self._sender.samples else rows[0]
        return tuple(flat) if bool(unit.rows(one)[index].any()) else None

    def _nodes(self) -> tuple[fx.Node | None, ...]:
        entered = iter(n for n in self._main.steps if n in self._boxes)
        return tuple(next(entered) if b else None for b in self._inputs.batched)


def _collapses(units: list[UnitCertificate]) -> bool:
    """Whether every unit of a ReLU layer is proved off or on."""
    return all(u.verdict in {UnitVerdict.NEVER_FIRES, UnitVerdict.ALWAYS_LINEAR} for u in units)
