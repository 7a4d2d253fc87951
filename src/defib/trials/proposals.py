"""What a trial tries: treatments that a run's diagnosis prescribes, and treatments that chance draws."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from defib import api, care
from defib.core.prescription import Prescription, Safety
from defib.trials.design import CONTROL, RANDOM, Arm
from defib.trials.outcomes import as_treated

FIRST = 6
"""First treatments that are tried at most."""

FURTHER = 3
"""Treatments that are tried at most in addition to a course."""


def prescriptions_of(record: Path) -> tuple[Prescription, ...]:
    """What could help a run as it is since its last treatment.

    Args:
        record: Its record.

    Returns:
        For each finding of warning or worse its treatments, in their order.
    """
    from defib.therapy import engine

    view = as_treated(api.open_run(record).view)
    return engine.prescribe(api.diagnose(view), view)


def additions(arm: Arm, prescriptions: Sequence[Prescription]) -> list[Arm]:
    """Arms with one treatment more, a different one each.

    Args:
        arm: What they add to: the control arm, or a course.
        prescriptions: What its run's diagnosis brings, in order.

    Returns:
        The first few that can be given to a running network and are not part of the course yet.
    """
    known = {_same(p) for p in arm.given}
    live = [p for p in prescriptions if p.safety is not Safety.SOURCE and _same(p) not in known]
    different = list({_same(p): p for p in reversed(live)}.values())[::-1]
    names = _names(different)
    prefix = f"{arm.name}+" if arm.given else ""
    longer = [arm.then(p, f"{prefix}{name}") for p, name in zip(different, names, strict=True)]
    return longer[: FURTHER if arm.given else FIRST]


def _same(prescription: Prescription) -> tuple[str, str]:
    """What makes two prescriptions the same treatment."""
    return prescription.treatment, str(sorted(prescription.dose.items()))


def _names(prescriptions: Sequence[Prescription]) -> list[str]:
    """The treatments' slugs; with layer and number where two would be called alike."""
    slugs = Counter(p.treatment for p in prescriptions)
    placed = [
        p.treatment if slugs[p.treatment] == 1 or not p.layer else f"{p.treatment}@{p.layer}"
        for p in prescriptions
    ]
    earlier = [placed[:i].count(name) for i, name in enumerate(placed)]
    return [name if not n else f"{name}@{n + 1}" for name, n in zip(placed, earlier, strict=True)]


def draws(
    arm: Arm | None, number: int, *, script: str, seed: int, attempt: int, layers: Sequence[str]
) -> list[Arm]:
    """Random repairs, or random additions to one.

    Args:
        arm: What they add to; None for the control arm.
        number: How many.
        script: Name of the script: of each its own draws, or several trials would be one draw.
        seed: Seed of the runs.
        attempt: Which of the random arms ``arm`` is.
        layers: Paths of the script's layers.

    Returns:
        Arms that are all called "random".
    """
    from defib.therapy.engine import treatments

    live = sorted((t for t in treatments() if t.safety is not Safety.SOURCE), key=lambda t: t.slug)
    found = []
    for i in range(number):
        # A first treatment is drawn by its number alone, an addition also by what it adds to.
        chance = Random(f"random repair {script} {seed} {i if arm is None else f'{attempt}+{i}'}")
        drawn = chance.choice(live)
        wanted = care.named(drawn.slug, drawn().drawn(chance, layers))
        found.append((arm or Arm(name=CONTROL)).then(wanted, RANDOM))
    return found
