"""Everything that can be proved about a model on a set of inputs."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from defib.core.certificate import BatchNormCertificate, Certificate, PathCertificate
from defib.core.domain import Box, DataRange, Domain, Everything, range_of
from defib.core.errors import UsageError
from defib.core.site import Site
from defib.probe.batch import divided
from defib.probe.certificates import paths
from defib.probe.certificates.batch_norm import batch_norm_certificate
from defib.probe.certificates.bends import Activated
from defib.probe.certificates.bounds import Bounds, bounded
from defib.probe.certificates.deciding import decided
from defib.probe.certificates.effort import Effort
from defib.probe.certificates.naming import layer_of, unit_axis
from defib.probe.certificates.norms import Embedded, Normalised, Softmaxed
from defib.probe.certificates.ranking import ranked
from defib.probe.certificates.regions import BoxRegion, Region, in_words, region_of
from defib.probe.certificates.samples import Sender, pieces
from defib.probe.certificates.tracing import Inputs, Traced, named, traced, unfused
from defib.probe.certificates.verdicts import UNJUDGED, Looked, Unit, inside, layer_certificate
from defib.probe.state import untouched

_AT_ONCE = 256


def certified(
    model: nn.Module,
    batch: object,
    domain: Domain,
    loss: Callable[..., Any] | None = None,
    effort: Effort | None = None,
) -> Certificate:
    """Proves what can be proved of a model in evaluation mode, on a set of inputs.

    Model, gradients, training mode and random generators are left bit for bit as they were.

    Args:
        model: The model.
        batch: ``(input, target)``, a dictionary of keyword arguments, or an input alone.
        domain: The set of inputs.
        loss: For the rank certificate; None for cross-entropy or mean squared error.
        effort: How much may be done; None for the defaults.

    Returns:
        The certificate.

    Raises:
        UsageError: If the model cannot be traced, mixes samples, or the domain does not fit.
    """
    model = getattr(model, "_orig_mod", model)
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise UsageError("the model has lazy parameters; call it once on a batch first")
    begun = time.perf_counter()
    with untouched(model), unfused(), torch.no_grad():
        model.eval()
        return _Work(model, batch, domain, loss, effort or Effort(), begun).certificate()


class _Work:
    """One run of all proofs."""

    def __init__(
        self,
        model: nn.Module,
        batch: object,
        domain: Domain,
        loss: Callable[..., Any] | None,
        effort: Effort,
        begun: float,
    ) -> None:
        arguments, options, self.target = divided(batch)
        self.has_target = not isinstance(batch, Tensor)
        self.model, self.loss, self.effort, self.begun = model, loss, effort, begun
        self.asked = domain
        self.inputs = Inputs.of(arguments, options)
        self.dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self.one = traced(model, self.inputs, self.inputs.rows(torch.tensor([0])))
        size = max(2, min(_AT_ONCE, self.inputs.samples))
        first = next(iter(pieces(self.inputs.samples, size)))[0]
        self.many = traced(model, self.inputs, self.inputs.rows(first))
        self.sender = Sender(self.many, size, self.dtype)
        self._check_batch(first)
        self.regions = self._regions()

    def _check_batch(self, first: Tensor) -> None:
        """What is proved for one sample must hold for each sample of a batch, and for the model itself."""
        leaves = self.inputs.rows(first)
        samples = [x for x, b in zip(leaves, self.inputs.batched, strict=True) if b]
        if (node := self.sender.mixes(samples)) != "":
            raise UsageError(
                f"samples of a batch are mixed before {node}: nothing can be proved of one sample alone"
            )

    def _regions(self) -> dict[fx.Node, Region]:
        """What the samples at each input can be."""
        found: dict[fx.Node, Region] = {}
        for node, leaf, is_batch in zip(
            self.one.inputs, self.inputs.leaves, self.inputs.batched, strict=True
        ):
            if node is None or not is_batch:
                continue
            domain = self.asked
            if isinstance(domain, DataRange) or not (
                leaf.is_floating_point() or isinstance(domain, (Box, Everything))
            ):
                margin = domain.margin if isinstance(domain, DataRange) and leaf.is_floating_point() else 0.0
                domain = range_of(leaf.detach().double().cpu().numpy(), margin)
            found[node] = region_of(domain, leaf[:1].detach().cpu())
        return found

    def certificate(self) -> Certificate:
        """All of it."""
        deadline = self.begun + self.effort.seconds
        main = bounded(self.one, self.regions, self.dtype, deadline)
        every = self._every(deadline, main)
        units = self._units(main)
        looked, path, outside = self._look(units)
        layers = [layer_certificate(u, main, every, seen) for u, seen in zip(units, looked, strict=True)]
        unsupported = list(main.unsupported)
        if self.effort.exact:
            boxes = {n: r for n, r in self.regions.items() if isinstance(r, BoxRegion)}
            layers, said = decided(layers, units, main, boxes, self.inputs, self.sender, self.effort)
            unsupported += said
        return Certificate(
            facts={
                "model": type(self.model).__name__,
                "parameters": sum(p.numel() for p in self.model.parameters()),
                "dtype": str(self.dtype).removeprefix("torch."),
                "samples": self.inputs.samples,
                "outside": outside,
            },
            domain=in_words(self.asked),
            layers=tuple(layers),
            batch_norms=self._batch_norms(main),
            paths=path,
            rank=ranked(self.model, self.many, self.sender, self.inputs, self.target, self.loss)
            if self.has_target
            else None,
            constant_output=self._is_constant(main),
            collapsible=tuple(str(Site(path=c.layer, call=c.call)) for c in layers if c.collapsible),
            unsupported=tuple(unsupported),
            seconds=time.perf_counter() - self.begun,
        )

    def _every(self, deadline: float, main: Bounds) -> Bounds | None:
        """Bounds that hold for every input; linear ones only where something bounds whatever enters it."""
        if isinstance(self.asked, Everything):
            return main
        regions = {}
        for node, leaf in zip(self.one.inputs, self.inputs.leaves, strict=True):
            if node is not None:
                regions[node] = region_of(Everything(), leaf[:1].detach().cpu())
        helps = any(isinstance(s, (Normalised, Softmaxed, Embedded)) for s in main.steps.values())
        return bounded(self.one, regions, self.dtype, deadline, linear=helps)

    def _units(self, main: Bounds) -> list[Unit]:
        """Every activation that has units, in order."""
        found, calls = [], dict[str, int]()
        for node, step in main.steps.items():
            if isinstance(step, Activated) and step.bent.activation.name not in UNJUDGED:
                layer = layer_of(step.parents[0], self.one)
                call = calls.get(layer, 0)
                calls[layer] = call + 1
                axis = unit_axis(step.parents[0], main.steps)
                found.append(Unit(node=node, step=step, layer=layer, call=call, axis=axis))
        return found

    def _look(self, units: list[Unit]) -> tuple[list[Looked], PathCertificate | None, int]:
        """What the batch shows: witnesses, samples without a path, samples outside of the domain."""
        where = [
            i for i, (_, s) in enumerate(self.sender.activations) if s.bent.activation.name not in UNJUDGED
        ]
        kinds = [s.bent.activation.name for _, s in self.sender.activations]
        if [kinds[i] for i in where] != [u.step.bent.activation.name for u in units]:
            raise UsageError("the model's code does different things for one sample and for several")
        witness: list[Tensor | None] = [None] * len(units)
        counted, lost, cuts, skipped = 0, list[int](), list[str](), set[str]()
        for rows, own in pieces(self.inputs.samples, self.sender.samples):
            leaves = self.inputs.rows(rows)
            samples = [x for x, b in zip(leaves, self.inputs.batched, strict=True) if b]
            holds = self._holds(samples)
            holds[own:] = False
            sent = self.sender.send(samples, follow=self.effort.paths)
            counted += int(holds.sum())
            for j, (i, unit) in enumerate(zip(where, units, strict=True)):
                fired = _fired(unit, self.sender.activations[i][1], sent.arguments[i], holds)
                new = torch.where(fired.any(0), rows[fired.long().argmax(0)], -1)
                old = witness[j]
                witness[j] = new if old is None else torch.where(old >= 0, old, new)
            skipped |= sent.not_followed
            if self.effort.paths:
                for sample in (sent.live[-1][:own].amax(1) == 0).nonzero().reshape(-1).tolist():
                    lost.append(int(rows[sample]))
                    cuts.append(self._cut(units, where, sent.live, sample))
        looked = [Looked(samples=counted, witness=w if w is not None else torch.empty(0)) for w in witness]
        path = None
        if self.effort.paths:
            path = PathCertificate(
                samples=self.inputs.samples, without_path=tuple(lost), cuts=tuple(cuts),
                not_followed=tuple(sorted(skipped)),
            )  # fmt: skip
        return looked, path, self.inputs.samples - counted

    def _holds(self, samples: list[Tensor]) -> Tensor:
        """Which samples lie in the domain, at every input."""
        found = torch.ones(self.sender.samples, dtype=torch.bool)
        nodes = [n for n in self.one.inputs if n is not None]
        for node, x in zip(nodes, samples, strict=True):
            found &= self.regions[node].holds(x.detach().cpu().double())
        return found

    @staticmethod
    def _cut(units: list[Unit], where: list[int], live: list[Tensor], sample: int) -> str:
        """The first layer behind whose activation nothing of a sample is left."""
        for i, unit in zip(where, units, strict=True):
            if float(live[i][sample].amax()) == 0:
                return unit.layer
        return ""

    def _batch_norms(self, main: Bounds) -> tuple[BatchNormCertificate, ...]:
        """Every BatchNorm with a ReLU right behind it, for the size of this batch."""
        modules = dict(self.model.named_modules())
        found = []
        for step in main.steps.values():
            if not isinstance(step, Activated) or step.bent.curve.slope != 0.0:
                continue
            source = step.parents[0]
            norm = source.args[0] if named(source) == "getitem" else None
            if not isinstance(norm, fx.Node) or "batch_norm" not in named(norm):
                continue
            path = _norm_path(norm, self.one)
            module = modules.get(path)
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                positions = main.known[source].low[0, 0].numel()
                values = self.inputs.samples * positions
                scale, shift = module.weight.double().tolist(), module.bias.double().tolist()
                found.append(batch_norm_certificate(path, scale, shift, values, module.eps))
        return tuple(found)

    def _is_constant(self, main: Bounds) -> bool:
        """Whether units that are proved constant cut every way from the input to the output."""
        live: dict[fx.Node, Tensor] = {}
        for node, step in main.steps.items():
            shape = main.known[node].low.shape
            above = [live[n] for n in node.all_input_nodes if n in live]
            above += [live[n] for n in step.parents if n in live]
            if node in self.regions or not above:
                live[node] = torch.ones(shape, dtype=torch.float64)
                continue
            if isinstance(step, Activated):
                live[node] = live[step.parents[0]] * _varies(step, main)
                continue
            follow = bool(step.parents) and not isinstance(step, paths.NEEDS_VALUES)
            found = paths.reached(step, [live[p] for p in step.parents], [], shape) if follow else None
            live[node] = paths.everything(above, shape, 1) if found is None else found
        return all(n not in live or float(live[n].amax()) == 0 for n in self.one.outputs)


def _varies(step: Activated, main: Bounds) -> Tensor:
    """Where an activation is not proved to be constant."""
    known = main.known[step.parents[0]]
    if step.bent.curve.tail != 0:
        return torch.ones_like(known.low)
    ends = known.low.reshape(-1, 1), known.high.reshape(-1, 1)
    return (~inside(*ends, step.off())).double().reshape(known.low.shape)


def _fired(unit: Unit, step: Activated, argument: Tensor, holds: Tensor) -> Tensor:
    """Which samples of the domain fire which units: shape (B, U)."""
    passed = paths.passes(step, argument)
    if argument.dim() < 2 or len(argument) != len(holds):  # samples and positions lie in one dimension
        passed = passed.reshape(len(holds), -1, *argument.shape[1:])
        by_unit = passed.movedim(unit.axis + 1, 1) if argument.dim() > 1 else passed
    else:
        by_unit = passed.movedim(unit.axis, 1)
    return by_unit.reshape(len(holds), by_unit.shape[1], -1).any(2) & holds[:, None]


def _norm_path(norm: fx.Node, trace: Traced) -> str:
    """Path of a BatchNorm by its scale."""
    scale = norm.args[1]
    name = trace.names.get(scale, "") if isinstance(scale, fx.Node) else ""
    return name.rpartition(".")[0]
