"""Every treatment's own examples: applied, judged, undone bit for bit, interrupted at every edit."""

import hashlib
import pickle
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from defib.core.errors import Refused
from defib.core.prescription import Dose, Prescription, Safety
from defib.therapy.engine import treat, treatments
from defib.therapy.surgery import Surgery
from defib.therapy.train_state import TrainState
from defib.therapy.treatment import HEADINGS, Case, Treatment

CASES = [(cls, case) for cls in treatments() for case in cls.CASES]
NAMES = [f"{cls.slug}: {case.name}" for cls, case in CASES]
each_case = pytest.mark.parametrize(("cls", "case"), CASES, ids=NAMES)


def prescription(cls: type[Treatment], dose: Dose) -> Prescription:
    return Prescription(
        treatment=cls.slug,
        rule="",
        cause=None,
        layer="",
        safety=cls.safety,
        reason="a test",
        strength=1.0,
        dose=dose,
    )


def fingerprint(state: TrainState) -> str:
    """All bits of model and optimisers, settings and schedules, and of the random generators."""
    total = hashlib.sha256()
    for name, module in state.model.named_modules():
        total.update(f"{name} {type(module).__name__} {module.training} {module.extra_repr()}".encode())
    for name, tensor in state.model.state_dict(keep_vars=True).items():
        total.update(name.encode() + raw(tensor) + str(tensor.requires_grad).encode())
    for optimizer in state.optimizers:
        hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
        total.update(repr([len(h) for h in hooks]).encode())
        for group in optimizer.param_groups:
            settings = {k: v for k, v in group.items() if k != "params"}
            total.update(
                repr([(k, float(v) if torch.is_tensor(v) else v) for k, v in settings.items()]).encode()
            )
            for parameter in group["params"]:
                held = optimizer.state.get(parameter, {})
                for key, value in held.items():
                    total.update(
                        key.encode() + (raw(value) if torch.is_tensor(value) else repr(value).encode())
                    )
    for scheduler in state.schedulers:
        total.update(repr(getattr(scheduler, "base_lrs", None)).encode())
    if state.scaler is not None:
        total.update(repr((state.scaler.get_scale(), state.scaler._init_scale)).encode())
    total.update(raw(torch.get_rng_state()) + repr(random.getstate()).encode())
    total.update(pickle.dumps(np.random.get_state()))
    return total.hexdigest()


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def built(case: Case) -> TrainState:
    torch.manual_seed(0)
    return case.build()


@pytest.mark.parametrize("cls", treatments(), ids=lambda cls: cls.slug)
def test_a_treatment_has_a_page_with_every_heading_in_order(cls: type[Treatment]) -> None:
    text = __import__("sys").modules[cls.__module__].__doc__ or ""
    places = [text.find(f"\n{heading}:\n") for heading in HEADINGS]
    assert -1 not in places, f"missing: {[h for h, p in zip(HEADINGS, places, strict=True) if p < 0]}"
    assert places == sorted(places)


@pytest.mark.parametrize("cls", treatments(), ids=lambda cls: cls.slug)
def test_a_treatment_brings_cases_unless_it_is_only_shown(cls: type[Treatment]) -> None:
    assert cls.CASES or cls.safety is Safety.SOURCE
    assert all(0 < i.strength <= 1 for i in cls.indications)


@each_case
def test_a_treatment_does_what_its_case_says_and_undoes_every_bit(cls: type[Treatment], case: Case) -> None:
    state = built(case)
    before = fingerprint(state)
    outputs = answers(state, case)
    assert fingerprint(state) == before, "the case's own model is not neutral"
    if case.refused:
        with pytest.raises(Refused):
            treat(state, prescription(cls, case.dose))
        assert fingerprint(state) == before
        return
    receipt = treat(state, prescription(cls, case.dose))
    assert case.holds(state)
    if case.preserves:
        for old, new in zip(outputs, answers(state, case), strict=True):
            assert (old - new).abs().max().item() <= case.tolerance
    assert receipt.changed
    receipt.undo()
    assert fingerprint(state) == before


@each_case
def test_an_interruption_at_any_edit_leaves_no_trace(cls: type[Treatment], case: Case) -> None:
    if case.refused:
        return
    edits = len(treat(built(case), prescription(cls, case.dose)).edits)
    for when in range(edits):
        for after in (False, True):
            state = built(case)
            before = fingerprint(state)
            with pytest.raises(KeyboardInterrupt):
                treat(state, prescription(cls, case.dose), surgery=interrupted(when, after))
            assert fingerprint(state) == before, f"edit {when}, {'after' if after else 'before'} it"


def interrupted(when: int, after: bool) -> type[Surgery]:
    """A surgery during which Ctrl-C is pressed right before or right after one edit."""

    class Interrupted(Surgery):
        def _do(
            self,
            what: str,
            act: Callable[[], object],
            undo: Callable[[], None],
            stands: Callable[[], bool],
        ) -> None:
            now = len(self._journal) == when

            def acted() -> None:
                if now and not after:
                    raise KeyboardInterrupt
                act()
                if now:
                    raise KeyboardInterrupt

            super()._do(what, acted, undo, stands)

    return Interrupted


def answers(state: TrainState, case: Case) -> list[torch.Tensor]:
    if case.inputs is None:
        return []
    with torch.no_grad():
        found = state.model(*case.inputs())
    return [found] if torch.is_tensor(found) else list(found)
