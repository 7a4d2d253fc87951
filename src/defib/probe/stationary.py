"""Questions about size: is the gradient small, is it noise, and what kind of stationary point is this?

Letters: ``g_i`` gradient of one sample's loss, ``H`` Hessian of the mean loss.
"""

from defib.core.finding import Confidence
from defib.core.triage import Standstill, TensorState
from defib.probe.answers import Notes, Said
from defib.probe.cancellation import CANCELLED, batch_excess
from defib.probe.descent import WORTH, is_negative
from defib.probe.look import Look

SMALL_STEP = 1e-4
"""A gradient is small if the best step along it lowers the loss by less than this share: it would
take some ten thousand such steps to lower it by a factor e."""
SIGNIFICANT = 0.01
"""Level of the noise test on either side."""
FEWEST = 8
"""Samples from which random signs can tell anything: 2^7 patterns."""
ENOUGH = 256
"""Samples that acquit. The test finds a common gradient whose square is that of the batch's noise
nine times in ten; so what 256 samples do not show needs larger batches than that. Fewer samples at
chance level say nothing: a healthy network's batch of 32 often looks like that."""
SLOW = 0.01
"""Decrease by twenty quasi-Newton iterations, over the loss, that no minimum allows."""


# ------------------------------------------------------------------ is it small, and is it noise?


def moving(look: Look, notes: Notes) -> Said | None:
    """Is the gradient large, and is it more than noise?"""
    notes.add("gradient's norm", float(look.gradient.double().norm()))
    notes.add("decrease by the best gradient step", look.step)
    noise = look.noise
    if noise is not None:
        notes.add("square of the gradient over chance", noise.excess)
        notes.add("random signs that agree at least as well", noise.above)
        notes.add("random signs that cancel at least as well", noise.below)
    if look.step < SMALL_STEP:
        return None
    cancelled = _partly_cancelled(look, notes)
    if cancelled is not None:
        return cancelled
    by_chance = noise is not None and noise.samples >= FEWEST and min(noise.above, noise.below) > SIGNIFICANT
    if by_chance and noise is not None and noise.samples < ENOUGH:
        text = (
            f"The gradient is not small, and that of {noise.samples} samples is at the level of chance: too "
            f"few to tell learning from noise; give {ENOUGH} or more (several batches)."
        )
        return Said(verdict=Standstill.UNDECIDED, confidence=Confidence.INFERRED, sentence=text)
    if by_chance and noise is not None:
        text = (
            f"Noise floor: the gradient of these {noise.samples} samples is what chance leaves of gradients "
            "without a common direction; more samples a step, or a smaller learning rate, would tell."
        )
        return Said(verdict=Standstill.NOISE_FLOOR, confidence=Confidence.INFERRED, sentence=text)
    text = (
        f"Not at a standstill: the best step along the gradient lowers the loss by {100 * look.step:.2g} %. "
        "If it does not fall, look at the optimiser and its learning rate."
    )
    return Said(verdict=Standstill.DESCENDING, confidence=Confidence.MEASURED, sentence=text)


def _partly_cancelled(look: Look, notes: Notes) -> Said | None:
    head = look.census.head
    own = [t for t in look.tensors if head is not None and t.name in head.parameters]
    weights = [t for t in own if t.state is not TensorState.FROZEN]
    if head is not None and weights and all(t.state is TensorState.CANCELLED for t in weights):
        notes.add(f"cancellation index of {weights[0].name}", weights[0].cancellation)
        text = (
            f"Batch cancellation: in the output layer ({head.path}) the samples' gradients cancel each "
            "other; each of them is not zero, and the layers before it still have a gradient."
        )
        return Said(verdict=Standstill.BATCH_CANCELLATION, confidence=Confidence.MEASURED, sentence=text)
    found = [] if look.samples is None or len(look.native.pieces) < 2 else batch_excess(look.samples)
    for index, value in enumerate(found):
        if value <= CANCELLED:
            notes.add(f"square of the gradient over chance in batch {index}", value)
            text = (
                f"Batch cancellation: the samples of batch {index} cancel each other, while all batches "
                "together still have a gradient."
            )
            return Said(verdict=Standstill.BATCH_CANCELLATION, confidence=Confidence.MEASURED, sentence=text)
    return None


# ------------------------------------------------------------------ stationary: of which kind?


def strict(look: Look, notes: Notes) -> Said | None:
    """Does negative curvature lead down?"""
    found = look.spectrum
    if found is None:
        return None
    seen = found.curvature
    notes.add("smallest eigenvalue of the Hessian", seen.lambda_min)
    notes.add("residual bound of the smallest", seen.lambda_min_bound)
    notes.add("largest eigenvalue of the Hessian", seen.lambda_max)
    notes.add("residual bound of the largest", seen.lambda_max_bound)
    notes.add(f"no eigenvalue below, with probability {seen.probability:g}", seen.floor)
    way = look.saddle if is_negative(seen) else None
    if way is not None:
        notes.add("decrease along the smallest eigenvalue's direction", way.escape.relative)
    if way is None or way.escape.relative < WORTH:
        return None
    text = (
        f"Strict saddle: curvature {seen.lambda_min:.3g} (to {seen.lambda_min_bound:.1g}) leads down; "
        f"following it lowered the loss by {100 * way.escape.relative:.2g} %."
    )
    return Said(verdict=Standstill.STRICT_SADDLE, confidence=Confidence.MEASURED, sentence=text, way=way)


def degenerate(look: Look, notes: Notes) -> Said | None:
    """Is there a way down that curvature does not show?"""
    if look.spectrum is None:
        return None
    way = look.degenerate
    notes.add("best decrease along directions without curvature", way.escape.relative if way else 0.0)
    if way is None or way.escape.relative < WORTH:
        return None
    text = (
        f"Degenerate saddle: no curvature leads down, and yet the loss fell by "
        f"{100 * way.escape.relative:.2g} % along a direction of order {way.escape.order:.1f}; curvature "
        "cannot find the way, noise can."
    )
    return Said(verdict=Standstill.DEGENERATE_SADDLE, confidence=Confidence.MEASURED, sentence=text, way=way)


def bottom(look: Look, notes: Notes) -> Said:
    """What is left: a narrow valley, a flat place, a minimum."""
    found = look.spectrum
    if found is None:
        text = "The gradient is small; whether this is a minimum or a saddle could not be measured."
        return Said(verdict=Standstill.UNDECIDED, confidence=Confidence.INFERRED, sentence=text)
    seen = found.curvature
    notes.add("decrease by twenty quasi-Newton iterations", look.valley)
    if look.valley > SLOW:
        text = (
            "Not at a standstill: plain gradient steps hardly move it, and yet twenty quasi-Newton "
            f"iterations lower the loss by {100 * look.valley:.2g} %: a narrow valley."
        )
        return Said(verdict=Standstill.DESCENDING, confidence=Confidence.MEASURED, sentence=text)
    if not seen.active and not bool(look.gradient.any()):
        text = "Plateau: near by, the loss does not depend on the parameters at all."
        return Said(verdict=Standstill.PLATEAU, confidence=Confidence.MEASURED, sentence=text)
    exact = seen.probability == 1.0
    text = (
        f"Minimum: the loss {look.loss:.4g} is left because the samples pull against each other; no "
        f"eigenvalue lies below {seen.floor:.2g} (largest {seen.lambda_max:.3g}) and no way down was found."
    )
    return Said(
        verdict=Standstill.MINIMUM,
        confidence=Confidence.MEASURED if exact else Confidence.INFERRED,
        sentence=text,
    )
