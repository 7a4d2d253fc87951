"""All that a triage measures before it judges, from cheap to expensive, each once.

Letters: ``n`` samples, ``delta`` gradient of the loss at the network's output.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from defib.core.errors import UsageError
from defib.core.evidence import Unseen
from defib.core.triage import NoiseTest, TensorGradient, TensorState
from defib.probe.batch import Piece
from defib.probe.calls import told
from defib.probe.cancellation import CANCELLED, Samples, noise_test, samples
from defib.probe.census import Census, census
from defib.probe.curvature import Spectrum, spectrum
from defib.probe.descent import Way, degenerate_way, gradient_step, quasi_newton, saddle_way
from defib.probe.objective import Objective, wider

WIDE = 200_000
"""Parameters up to which everything is done in float64; beyond, only gradient and structure are."""
LOST = 0.5
"""Share of a tensor's gradient that is zero in the model's format only, from which it counts as lost."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """How far each sample is from its own optimum.

    Attributes:
        ratio: RMS of delta over its RMS for wrong targets; NaN if it cannot be had.
        wrong_loss: Mean loss for wrong targets.
        how: What the wrong targets were.
    """

    ratio: float
    wrong_loss: float
    how: str


class Look:
    """The measurements on one model; each is made when it is first asked for.

    Attributes:
        native: The mean loss in the model's own formats.
        wide: The same in float64, or ``native`` where the model cannot be run so.
        work: In which samples, curvature and line searches are done.
        unseen: What could not be measured.
    """

    def __init__(self, native: Objective, memory: float | None, seed: int) -> None:
        self.native, self.memory, self._seed = native, memory, seed
        self.unseen: list[Unseen] = []
        self.native_loss = self._told(lambda: native.value(native.theta))
        self.wide, why = wider(native)
        if why:
            self.unseen.append(Unseen(what="float64", why=f"the model does not run in it: {why}"))
        self.work = self.wide if native.count <= WIDE else native
        if self.work is native and native.theta.dtype != torch.float64 and self._is_half():
            self.work = self.wide

    def _is_half(self) -> bool:
        return any(p.dtype in {torch.float16, torch.bfloat16} for p in self.native.model.parameters())

    def _told(self, ask: "Callable[[], float]") -> float:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 - whatever the user's model or loss raises
            raise told("the model or the loss", error) from None

    @cached_property
    def loss(self) -> float:
        """Mean loss in the working precision."""
        return self.work.value(self.work.theta)

    @cached_property
    def native_gradient(self) -> Tensor:
        """In the model's own formats."""
        return self.native.gradient()

    @cached_property
    def gradient(self) -> Tensor:
        """In float64 where possible."""
        return self.wide.gradient()

    @cached_property
    def census(self) -> Census:
        """The network's structure, in float64 where possible."""
        return census(self.wide)

    @cached_property
    def signal(self) -> Signal:
        """How far each sample is from its own optimum."""
        try:
            return signal(self.work)
        except Exception as error:  # noqa: BLE001 - a loss that takes no wrong targets
            said = (str(error).strip().splitlines() or [""])[0]
            self.unseen.append(Unseen(what="wrong targets", why=said))
            return Signal(ratio=math.nan, wrong_loss=math.nan, how="")

    @cached_property
    def samples(self) -> Samples | None:
        """Gradients of single samples."""
        found, why = samples(self.work, self.memory)
        if found is None:
            self.unseen.append(Unseen(what="gradients of single samples", why=why))
        return found

    @cached_property
    def noise(self) -> NoiseTest | None:
        """Whether they have a common direction."""
        return (
            None if self.samples is None else noise_test(self.samples.gram, self.samples.method, self._seed)
        )

    @cached_property
    def step(self) -> float:
        """Decrease by the best gradient step, over the loss."""
        decrease = gradient_step(self.work, self.gradient.to(self.work.theta), self.loss)
        return decrease / abs(self.loss) if self.loss else 0.0

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """Extreme eigenvalues; None if memory does not suffice."""
        try:
            found = spectrum(self.work, memory=self.memory, seed=self._seed)
        except (UsageError, RuntimeError) as error:
            self.unseen.append(Unseen(what="curvature", why=str(error).splitlines()[0]))
            return None
        if not math.isfinite(found.curvature.lambda_max):
            self.unseen.append(Unseen(what="curvature", why="the Hessian is not finite"))
            return None
        return found

    @cached_property
    def saddle(self) -> Way | None:
        """The way down along the smallest eigenvalue's direction."""
        return None if self.spectrum is None else saddle_way(self.work, self.spectrum, self.loss)

    @cached_property
    def degenerate(self) -> Way | None:
        """A way down of higher order."""
        found = self.spectrum
        return None if found is None else degenerate_way(self.work, found, self.loss, self._seed)

    @cached_property
    def valley(self) -> float:
        """Decrease by twenty quasi-Newton iterations, over the loss."""
        return quasi_newton(self.work, self.loss) / abs(self.loss) if self.loss else 0.0

    @cached_property
    def tensors(self) -> tuple[TensorGradient, ...]:
        """The gradient of each parameter tensor, frozen ones included."""
        model = self.native.model
        learning = set(self.native.names)
        own = {t.name: t for t in self._learning()}
        frozen = TensorState.FROZEN
        return tuple(
            own[name] if name in learning else TensorGradient(name=name, size=p.numel(), state=frozen)
            for name, p in model.named_parameters()
        )

    def _learning(self) -> Iterator[TensorGradient]:
        wide, native = (self.native.by_name(g) for g in (self.gradient, self.native_gradient))
        unreached = set(self.census.unreached)
        for name in self.native.names:
            norm = float(wide[name].double().norm())
            single = excess = math.nan
            if self.samples is not None:
                each = self.samples.norms[name]
                single, square = float(each.mean()), float(each.square().mean())
                # Of the whole batches' sum, also where only some samples' gradients were made.
                excess = self.native.samples * norm**2 / square if square > 0 else math.nan
            state = _state(name in unreached, norm, single, excess, lost_share(native[name], wide[name]))
            reached = state is not TensorState.UNREACHED
            yield TensorGradient(
                name=name,
                size=wide[name].numel(),
                state=state,
                norm=norm if reached else math.nan,
                sample_norm=single if reached else math.nan,
                cancellation=norm / single if reached and single > 0 else math.nan,
                excess=excess if reached and self.native.samples > 1 else math.nan,
            )

    @cached_property
    def lost(self) -> tuple[str, ...]:
        """Weight tensors whose gradient the model's own format rounds to zero."""
        chosen = {n for n, s in zip(self.native.names, self.native.shapes, strict=True) if len(s) > 1}
        return tuple(t.name for t in self.tensors if t.state is TensorState.LOST and t.name in chosen)


def _state(cut: bool, norm: float, single: float, excess: float, lost: float) -> TensorState:
    if cut:
        return TensorState.UNREACHED
    if lost >= LOST:
        return TensorState.LOST
    if single == 0 or (math.isnan(single) and norm == 0):
        return TensorState.ZERO
    if excess <= CANCELLED:
        return TensorState.CANCELLED
    return TensorState.ALIVE


def lost_share(native: Tensor, wide: Tensor) -> float:
    """Of the entries that are not zero in float64, the share that is exactly zero in the model's format."""
    there = wide != 0
    count = int(there.sum())
    return float(((native == 0) & there).sum()) / count if count and native.dtype != torch.float64 else 0.0


def signal(objective: Objective) -> Signal:
    """Compares delta with what wrong targets give: the same batch, targets moved on by some samples.

    Where there is one sample, or all targets are the same, the outputs are made wrong instead: by
    normal noise of their own size plus 1.

    Returns:
        The ratio, and the loss for wrong targets.
    """
    right = wrong = wrong_loss = 0.0
    how = "targets of other samples"
    for weight, piece in objective.weighted():
        square, _ = _delta(objective, piece)
        right += weight * square
        shifts = sorted({1, piece.samples // 3, piece.samples // 2} - {0})
        moved = [m for by in shifts if (m := _moved(piece, by)) is not None]
        if moved:
            each = [_delta(objective, m) for m in moved]
        else:
            how = "outputs off by their own size"
            each = [_noisy(objective, piece)]
        wrong += weight * sum(s for s, _ in each) / len(each)
        wrong_loss += weight * sum(v for _, v in each) / len(each)
    ratio = math.sqrt(right / wrong) if wrong > 0 else math.nan
    return Signal(ratio=ratio, wrong_loss=wrong_loss, how=how)


def _delta(objective: Objective, piece: Piece) -> tuple[float, float]:
    """Squared norm of delta, times the samples, and the loss."""
    output, value = objective.call(objective.leaves(), piece)
    return _square(_main(output), value, piece), float(value.detach())


def _square(output: Tensor, value: Tensor, piece: Piece) -> float:
    delta = torch.autograd.grad(value, output, allow_unused=True)[0] if value.grad_fn is not None else None
    return 0.0 if delta is None else float(delta.double().square().sum()) * piece.samples


def _main(output: object) -> Tensor:
    output = getattr(output, "logits", output)
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise UsageError("the model's output is not one tensor")
    return output


def _moved(piece: Piece, by: int) -> Piece | None:
    """The batch with every target replaced by that of another sample; None if that changes nothing."""
    target = piece.target
    if not isinstance(target, Tensor) or not target.ndim or target.shape[0] != piece.samples:
        return None
    rolled = target.roll(by, 0)
    if torch.equal(rolled, target):
        return None
    options = {k: rolled if v is target and k == "labels" else v for k, v in piece.options.items()}
    return Piece(arguments=piece.arguments, options=options, target=rolled, samples=piece.samples)


def _noisy(objective: Objective, piece: Piece) -> tuple[float, float]:
    output, _ = objective.call(objective.leaves(), piece)
    clean = _main(output).detach()
    drawn = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    off = (clean + (1 + clean.abs().max()) * drawn.to(clean)).requires_grad_()
    value = objective.compare(off, piece.target)
    return _square(off, value, piece), float(value.detach())


def finite(values: Sequence[Tensor]) -> bool:
    """Whether every entry is."""
    return all(bool(v.isfinite().all()) for v in values)


def called(names: Sequence[str], paths: frozenset[str]) -> list[str]:
    """Those parameters whose module was called; a parameter of the model itself counts as used."""
    return [n for n in names if n.rpartition(".")[0] in paths or "." not in n]


def frozen(model: nn.Module) -> float:
    """Share of the parameters that do not require a gradient."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    whole = sum(n for n, _ in sizes)
    return sum(n for n, learns in sizes if not learns) / whole if whole else 1.0
