"""Treats what trains in this process: at a safe point, on all ranks alike, and written into the record.

A treatment asked for from the start is given right before an optimiser's first
step: by then the network is built and has been seen once, and nothing has been
learnt. The gradients of that step belong to the untreated network and are
dropped, unless only settings change. Later treatments are given right after a
step, when no graph of the stepping parameters is waiting for its backward pass.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from defib.core.errors import DefibError, Refused, UsageError
from defib.core.finding import Cause, Diagnosis, Verdict
from defib.core.prescription import PLAN, Dose, Prescription, Safety, Value

if TYPE_CHECKING:
    import torch

    from defib.core.run import RunView
    from defib.therapy.surgery import Receipt
    from defib.therapy.train_state import TrainState

FIRST_CHECK = 25
"""Steps before ``--treat auto`` looks for the first time; then whenever that number has doubled."""

MOST_TREATMENTS = 8
"""Treatments that ``--treat auto`` gives in one run."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What ``defib run --treat`` asks for.

    Attributes:
        auto: Diagnose now and then, and treat what is found.
        given: These, whatever is found.
        at: Optimiser step at which ``given`` are applied; 0 for right before the first.
    """

    auto: bool = False
    given: tuple[Prescription, ...] = ()
    at: int = 0


def parse_order(words: Iterable[str], at: int = 0) -> Order | None:
    """Understands ``--treat``.

    Args:
        words: Each "auto", "SLUG", "SLUG:key=value,key=value" or "@file.json": a list of objects
            with "treatment" and "dose", all of which are given; or what ``defib prescribe --json``
            prints, of which the first that can be given is, for each finding.
        at: Optimiser step for those that are named.

    Returns:
        The order; None if there are no words.

    Raises:
        UsageError: If a word cannot be understood.
        NotFound: If there is no treatment of that name.
    """  # noqa: DOC502 - the engine raises it
    from defib.therapy.engine import treatment

    auto, given = False, list[Prescription]()
    for word in words:
        if word == "auto":
            auto = True
        elif word.startswith("@"):
            given += _from_file(Path(word[1:]))
        else:
            slug, _, text = word.partition(":")
            given.append(named(slug, _parse_dose(word, text)))
    for each in given:
        if treatment(each.treatment).safety is Safety.SOURCE:
            raise UsageError(f"--treat {each.treatment}: only the source can be changed; see defib prescribe")
    return Order(auto=auto, given=tuple(given), at=at) if auto or given else None


def named(slug: str, dose: Dose) -> Prescription:
    """A treatment that a person asked for, without a finding."""
    from defib.therapy.engine import treatment

    found = treatment(slug)
    layer = dose.get("layer", "")
    return Prescription(
        treatment=slug,
        rule="",
        cause=None,
        layer=str(layer) if isinstance(layer, (str, int)) else "",
        safety=found.safety,
        reason="asked for",
        strength=1.0,
        dose=dose,
    )


def _parse_dose(word: str, text: str) -> dict[str, Value]:
    """``factor=0.1,layer=fc1,units=[1,2]``; values are JSON, and words where they are not."""
    dose: dict[str, Value] = {}
    rest = text
    while rest:
        name, equals, rest = rest.partition("=")
        if not equals or not name:
            raise UsageError(f"--treat {word}: expected key=value after the colon")
        if rest.startswith("["):
            value, _, rest = rest.partition("]")
            dose[name] = tuple(json.loads(f"{value}]"))
            rest = rest.removeprefix(",")
            continue
        value, _, rest = rest.partition(",")
        try:
            dose[name] = json.loads(value)
        except ValueError:
            dose[name] = value
    return dose


def _from_file(path: Path) -> list[Prescription]:
    """Treatments from a file; of a plan the first for each finding that can be given live."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        is_plan = isinstance(entries, dict) and entries.get("schema") == PLAN
        if isinstance(entries, dict):
            entries = entries["prescriptions"]
        if is_plan:
            live = [e for e in entries if e["safety"] != Safety.SOURCE]
            entries = list({(e["rule"], e["layer"], e["cause"]): e for e in reversed(live)}.values())[::-1]
        return [_read(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--treat @{path}: not a list of treatments ({error})") from None


def _read(entry: Mapping[str, Any]) -> Prescription:
    """One treatment as it was written down, with the finding that it is for, if it says so."""
    dose = {name: tuple(v) if isinstance(v, list) else v for name, v in entry["dose"].items()}
    found = named(str(entry["treatment"]), dose)
    cause = entry.get("cause")
    return replace(
        found,
        rule=str(entry.get("rule", "")),
        layer=str(entry.get("layer", found.layer)),
        cause=Cause(cause) if cause else None,
    )


def give(
    states: "tuple[TrainState, ...]", prescription: Prescription, tell: "Callable[[dict[str, Any]], None]"
) -> "Receipt":
    """Applies one prescription to the model that it is about, and says so before and after.

    Args:
        states: The models that are trained here.
        prescription: What to do.
        tell: Writes an event's data into the record.

    Returns:
        The receipt.

    Raises:
        Refused: If it cannot be done safely; nothing is changed then, and that too is told.
    """
    from defib.therapy.agreement import agree
    from defib.therapy.engine import treat

    state, local = _addressed(states, prescription)
    words: dict[str, Any] = {
        "treatment": prescription.treatment,
        "rule": prescription.rule,
        "layer": prescription.layer,
        "cause": str(prescription.cause or ""),
        "dose": _plain(prescription.dose),
    }
    tell({**words, "stage": "planned"})
    try:
        agree(local)
        receipt = treat(state, local)
    except Refused as refused:
        tell({**words, "stage": "refused", "why": str(refused)})
        raise
    except BaseException as error:
        tell({**words, "stage": "rolled-back", "why": f"{type(error).__name__}: {error}"})
        raise
    tell({**words, "stage": "done", "changed": list(receipt.changed)})
    return receipt


def _addressed(
    states: "tuple[TrainState, ...]", prescription: Prescription
) -> "tuple[TrainState, Prescription]":
    """The model that a layer is in, and the prescription as that model knows its layers."""
    if len(states) == 1 or not prescription.layer:
        return states[0], prescription
    for state in states:
        try:
            state.module(prescription.layer)
        except Refused:
            continue
        return state, prescription
    raise Refused(f"no model that is trained here has a module {prescription.layer!r}")


def _plain(dose: Mapping[str, Value]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dose.items()}


class Ward(Protocol):
    """The run that a :class:`Care` treats."""

    def diagnosed(self) -> "tuple[Diagnosis, RunView]":
        """The findings since the last treatment, and what they rest on."""

    def tell(self, step: int, data: dict[str, Any]) -> None:
        """Writes an event into the record."""

    def treated(self) -> None:
        """The network was changed: what is known of it has to be looked up anew."""


class Care:
    """Carries out an order while a script trains, without its knowledge.

    Make it before the watch begins and :meth:`attend` after: a treatment before the first step
    must come before that step is looked at, one after a step when it has been looked at.

    Args:
        order: What to do.
    """

    def __init__(self, order: Order) -> None:
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        from defib.therapy.vault import Vault

        self._order = order
        self._ward: Ward | None = None
        self._steps: dict[int, int] = {}
        self._next_check = FIRST_CHECK
        self._given: set[tuple[str, str, str]] = set()
        self._done = 0
        self._vault = Vault()
        self._handles: list[Any] = [register_optimizer_step_pre_hook(self._before)]

    def attend(self, ward: Ward) -> None:
        """From now on, treat this run."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._ward = ward
        self._handles.append(register_optimizer_step_post_hook(self._after))

    def release(self) -> None:
        """Treat no more."""
        self._ward = None
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before(self, optimizer: "torch.optim.Optimizer", _args: Any, _kwargs: Any) -> None:
        ward = self._ward
        if ward is not None and self._order.at == 0 and not self._steps.get(id(optimizer)):
            self._safely(ward, lambda: self._give_all(ward, optimizer, 0, dropping=True))

    def _after(self, optimizer: "torch.optim.Optimizer", _args: Any, _kwargs: Any) -> None:
        step = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        ward = self._ward
        if ward is None:
            return
        if step == self._order.at:
            self._safely(ward, lambda: self._give_all(ward, optimizer, step, dropping=False))
        if self._order.auto and step == max(self._steps.values()) and step >= self._next_check:
            self._next_check = 2 * step
            self._safely(ward, lambda: self._check(ward, optimizer, step))

    def _give_all(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int, dropping: bool) -> None:
        for prescription in self._order.given:
            try:
                self._give(ward, optimizer, prescription, step)
            except Refused:
                continue  # it is in the record
            if dropping and prescription.safety is not Safety.SETTINGS:
                optimizer.zero_grad(set_to_none=True)

    def _check(self, ward: Ward, optimizer: "torch.optim.Optimizer", step: int) -> None:
        """Diagnose, and give the most promising treatment that has not been tried there."""
        from defib.therapy.engine import prescribe
        from defib.therapy.gather import gather

        if self._done >= MOST_TREATMENTS:
            return
        diagnosis, view = ward.diagnosed()
        if diagnosis.verdict is Verdict.HEALTHY:
            self._vault.keep(gather(optimizers=(optimizer,)), step)
        for prescription in prescribe(diagnosis, view):
            key = prescription.treatment, prescription.rule, prescription.layer
            if prescription.safety is Safety.SOURCE or key in self._given:
                continue
            self._given.add(key)
            try:
                self._give(ward, optimizer, prescription, step)
            except Refused:
                continue
            self._done += 1
            return

    def _give(
        self, ward: Ward, optimizer: "torch.optim.Optimizer", prescription: Prescription, step: int
    ) -> None:
        from defib.therapy.gather import gather

        states = self._vault.lend(gather(optimizers=(optimizer,)))
        give(states, prescription, lambda data: ward.tell(step, data))
        ward.treated()

    def _safely(self, ward: Ward, act: Callable[[], None]) -> None:
        """Whatever goes wrong in defib's own code, training goes on, untreated from there."""
        try:
            act()
        except Exception as error:  # noqa: BLE001
            ward.tell(-1, {"stage": "failed", "why": f"{type(error).__name__}: {error}"})
            if not isinstance(error, DefibError):
                self.release()


def as_data(prescription: Prescription) -> dict[str, Any]:
    """A prescription as JSON-able data."""
    return {**asdict(prescription), "dose": _plain(prescription.dose)}
