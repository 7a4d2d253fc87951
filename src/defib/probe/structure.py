"""Questions about structure: cut, done, dead, saturated, rounded away; each explains a small gradient.

Letters: ``n`` samples, ``g_i`` gradient of one sample's loss.
"""

import math

import torch

from defib.core.finding import Confidence
from defib.core.triage import Standstill
from defib.probe.answers import Notes, Said
from defib.probe.census import ActivationLayer, census
from defib.probe.look import Look, called, finite, frozen

FINISHED = 0.01
"""Error signals under 1 % of those of wrong targets: nothing is left to learn from these samples."""
SATURATED = -2.0
"""Decades that one activation keeps back: 99 % of the gradient. No unsaturated one keeps back more
than 0.61 (sigmoid), nor a ReLU with a tenth of its entries on more than 0.5."""
VANISHED = -3.0
"""Decades that all bounded activations on the way keep back together."""
MAJORITY = 0.5
"""Share of the parameters that has to be cut off before that is the cause; a head that a loss does
not use is none."""


# ------------------------------------------------------------------ can it be judged at all?


def frozen_all(look: Look, notes: Notes) -> Said | None:
    """Does any parameter learn at all?"""
    notes.add("frozen parameters", frozen(look.native.model))
    if look.native.count:
        return None
    text = "No parameter requires a gradient: everything is frozen."
    return Said(verdict=Standstill.GRADIENT_CUT, confidence=Confidence.EXACT, sentence=text)


def non_finite(look: Look, notes: Notes) -> Said | None:
    """Are the loss and its gradient numbers?"""
    notes.add("loss", look.native_loss)
    what = "loss" if not math.isfinite(look.native_loss) else "gradient"
    if what == "gradient" and finite([look.native_gradient]):
        return None
    text = f"The {what} is not finite: there is nothing to judge (`defib check` finds where it starts)."
    return Said(verdict=Standstill.NON_FINITE, confidence=Confidence.EXACT, sentence=text)


def cut(look: Look, notes: Notes) -> Said | None:
    """Does a way lead from the loss to the parameters?"""
    seen = look.census
    cut = (
        called(seen.unreached, seen.called)
        if len(seen.unreached) < len(look.native.names)
        else seen.unreached
    )
    sizes = {n: int(s.numel()) for n, s in zip(look.native.names, look.native.shapes, strict=True)}
    share = sum(sizes[n] for n in cut) / max(sum(sizes.values()), 1)
    notes.add("parameters that no gradient reaches", share)
    exact = Confidence.EXACT
    if share >= MAJORITY:
        text = (
            f"No way leads from the loss to {len(cut)} of {len(sizes)} parameter tensors ({cut[0]} first): "
            "something on it was detached or is no number."
        )
        return Said(verdict=Standstill.GRADIENT_CUT, confidence=exact, sentence=text)
    if seen.flat:
        name = seen.flat[0].partition("Backward")[0].lower()
        text = f"The only way to the first layer leads through {name}, whose derivative is zero everywhere."
        return Said(verdict=Standstill.GRADIENT_CUT, confidence=exact, sentence=text)
    return None


# ------------------------------------------------------------------ is it done?


def done(look: Look, notes: Notes) -> Said | None:
    """Is every sample at its own optimum?"""
    signal = look.signal
    notes.add("error signal over that of wrong targets", signal.ratio)
    notes.add("loss for wrong targets", signal.wrong_loss)
    near = signal.ratio <= FINISHED
    if (
        look.native_loss == 0
        and not bool(look.native_gradient.any())
        and (near or look.wide.value(look.wide.theta) == 0)
    ):
        return _zero_loss(look, notes)
    if not near:
        return None
    head = look.census.head
    text = (
        f"Finished: the error signals are {100 * signal.ratio:.2g} % of what wrong targets give, so each "
        "sample is at its own optimum and nothing is left to learn from this data."
    )
    if head is not None and head.has_bias and head.rank == look.native.samples:
        text += " The features of the samples are linearly independent: for a convex loss it is global."
        notes.add("rank of [features, 1]", head.rank)
    return Said(verdict=Standstill.INTERPOLATED, confidence=Confidence.MEASURED, sentence=text)


def _zero_loss(look: Look, notes: Notes) -> Said:
    generator = torch.Generator().manual_seed(0)
    theta = look.native.theta
    worst = 0.0
    for _ in range(3):
        drawn = torch.randn(len(theta), generator=generator, dtype=torch.float64).to(theta)
        worst = max(worst, abs(look.native.value(theta + drawn * look.native.scale())))
    notes.add("loss after large random changes of the weights", worst)
    text = "The loss is exactly zero, and so is its gradient: nothing is left to learn."
    if worst == 0:
        text = (
            "The loss is exactly zero whatever the weights are: look for a mask, a weight of zero, or "
            "targets that are all ignored."
        )
    return Said(verdict=Standstill.ZERO_LOSS, confidence=Confidence.EXACT, sentence=text)


# ------------------------------------------------------------------ is it the structure?


def dead(look: Look, notes: Notes) -> Said | None:
    """Is a whole layer off for every sample, and not merely on its kink?"""
    seen = look.census
    off = [a for a in seen.activations if a.is_off]
    notes.add("layers that are off for every sample", len(off), "layers")
    if not off or seen.is_constant is False:
        return None
    # On the kink itself (all weights zero) the smallest change brings it back: that is a saddle.
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        drawn = torch.randn(look.wide.count, generator=generator, dtype=torch.float64).to(look.wide.theta)
        moved = census(look.wide, look.wide.theta + 1e-6 * drawn * look.wide.scale())
        if not any(a.is_off for a in moved.activations):
            notes.add("off layers after a change of 1e-6", 0, "layers")
            return None
    notes.add("off layers after a change of 1e-6", len(off), "layers")
    first = off[-1]
    text = (
        f"Dead: {first.name} behind {first.layer or 'the first layer'} is off for every sample, so the "
        "output does not depend on the input and only what stands after it can learn: a constant."
    )
    return Said(verdict=Standstill.DEAD_NETWORK, confidence=Confidence.EXACT, sentence=text)


def plateau(look: Look, notes: Notes) -> Said | None:
    """Does saturation keep the gradient from the lower layers?"""
    passed = [a for a in look.census.activations if not a.is_output or a.signal <= FINISHED * abs(look.loss)]
    known = [a for a in passed if not math.isnan(a.decades) and not a.is_off]
    worst = min(known, key=lambda a: a.decades, default=None)
    bounded = math.fsum(a.decades for a in known if a.bounded)
    notes.add("most that one activation keeps back", worst.decades if worst else 0.0, "decades")
    notes.add("kept back by bounded activations together", bounded, "decades")
    if worst is not None and worst.decades <= SATURATED:
        return Said(
            verdict=Standstill.PLATEAU,
            confidence=Confidence.MEASURED,
            sentence=_saturated(worst, look, notes),
        )
    if bounded <= VANISHED and not look.lost:
        text = (
            f"Plateau: the bounded activations pass on 1 part in 10^{-bounded:.1f} of the gradient together; "
            "the lower layers stand still while the loss is not at its best."
        )
        return Said(verdict=Standstill.PLATEAU, confidence=Confidence.MEASURED, sentence=text)
    return None


def _saturated(worst: ActivationLayer, look: Look, notes: Notes) -> str:
    notes.add(f"saturated entries of {worst.name} behind {worst.layer}", worst.saturated)
    parts = look.native.by_name(look.gradient)
    sizes = look.native.by_name(look.native.theta)
    name = next((n for n in parts if n.startswith(f"{worst.layer}.") and parts[n].ndim > 1), None)
    if name is not None and float(parts[name].norm()) > 0:
        needed = float(sizes[name].double().norm()) / float(parts[name].double().norm())
        notes.add(f"learning rate times steps until {name} has moved by its own size", needed)
    part = "none" if math.isinf(worst.decades) else f"1 part in 10^{-worst.decades:.1f}"
    return (
        f"Plateau: {worst.name} behind {worst.layer or 'the first layer'} is saturated and passes {part} "
        "of the gradient to the layers below it."
    )


def underflow(look: Look, notes: Notes) -> Said | None:
    """Is there a gradient in float64 that the model's own format loses?"""
    lost = look.lost
    notes.add("weight tensors whose gradient is rounded to zero", len(lost), "tensors")
    tiny = min(torch.finfo(p.dtype).tiny for p in look.native.leaves())
    if not lost and 0 < abs(look.native_loss) < tiny:
        text = (
            f"Underflow: the loss {look.native_loss:.2g} is below the smallest normal number of its format."
        )
        return Said(verdict=Standstill.UNDERFLOW, confidence=Confidence.EXACT, sentence=text)
    if not lost:
        return None
    size = float(look.wide.by_name(look.gradient)[lost[0]].norm())
    kind = str(next(p for n, p in look.native.model.named_parameters() if n == lost[0]).dtype)
    text = (
        f"Underflow: {lost[0]} has a gradient of {size:.2g} in float64, and {kind.removeprefix('torch.')} "
        "rounds it to zero; scale the loss up or compute it wider."
    )
    return Said(verdict=Standstill.UNDERFLOW, confidence=Confidence.MEASURED, sentence=text)
