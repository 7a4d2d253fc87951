"""For an autopsy: sees a unit fall silent, and has its killing step looked into while it can still be had.

On every step the gradients that liveness reads anyway are looked at once more. A unit that lived on
most steps and then gets none for some steps is a suspect; the state of the parameters before and after
its last living step, and the batch of that step, are still in the album (``capture.album``). What is
asked of them is the business of ``probe``, of which capture knows nothing: it is given a function.

Nothing here raises into training. What cannot be done is said once, and the run goes on without.
"""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from defib.capture import listening
from defib.capture.album import Album, Refusal
from defib.capture.border import Transfer
from defib.capture.camera import Camera
from defib.capture.clock import Clock
from defib.capture.crossing import Scene
from defib.capture.naming import Names
from defib.capture.pulse import Pulse, Suspects
from defib.capture.vitals import SILENCE
from defib.core.kill import EXHIBIT, LayerKill, OwnStep, Prober
from defib.core.ports import Sink

CHANCE = 1e-3
"""A silence at least this likely, given how often the unit lived before, makes no suspect."""

STEPS_A_LAYER = 16
"""Killing steps that are looked into, for each layer."""

SECONDS, SHARE = 2.0, 0.05
"""Time for looking into them: so much at once, and that share of the run."""

SPARE = 3
"""Frames beyond the silent steps: before the kill, after it, and one because numbers come a step late."""

FEWEST = SPARE + 1

_MOST_FAULTS = 3
_MOMENTA = ("momentum_buffer", "exp_avg")
MIB = 1 << 20


class Autopsies:
    """All of it for one watch.

    Args:
        sink: Takes the exhibits.
        names: Names of parameters.
        inquire: Looks into a step.
        memory: Bytes that frames may take.
        given: The models to watch were named: others do not count.

    Attributes:
        why_off: Why there are no more autopsies; "" while there are.
        chance: Less likely than this a silence must be to make a suspect.
    """

    def __init__(self, sink: Sink, names: Names, inquire: Prober, memory: int, given: bool) -> None:
        self.why_off = ""
        self.chance = CHANCE
        self._sink, self._names, self._inquire, self._memory, self._given = (
            sink,
            names,
            inquire,
            memory,
            given,
        )
        self._camera = Camera(SILENCE + SPARE, self._concerns, self.stop)
        self._pulses: dict[int, Pulse] = {}
        self._looked: dict[str, int] = {}
        self._unseen: dict[str, str] = {}
        self._faults = self._unlike = self._steps = self._lost = 0
        self._seconds = 0.0
        self._began = perf_counter()

    def engage(self) -> None:
        """Begin."""
        listening.engage(self)
        self._tell()

    def close(self) -> None:
        """Let go of everything; again is harmless."""
        listening.release(self)
        self._camera.clear()
        self._pulses.clear()

    def renew(self) -> None:
        """The network was changed on purpose: what was kept of it is of no use."""
        self._camera.clear()
        self._pulses.clear()

    def stop(self, why: str) -> None:
        """No autopsies from here on, and why."""
        if not self.why_off:
            self.why_off = why
            self._sink.event(-1, "autopsy-off", {"why": why})
            self._tell()
        self.close()

    # -- called by the hooks ------------------------------------------------

    def entered(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A module is called."""
        try:
            self._camera.enter(module, arguments)
        except Refusal as refusal:
            self.stop(str(refusal))
        except Exception as error:  # noqa: BLE001 - training goes on
            self._failed(error)

    def left(self, module: nn.Module, options: Mapping[str, Any], output: Any) -> None:
        """It has returned."""
        try:
            self._camera.leave(module, options, output)
        except Refusal as refusal:
            self.stop(str(refusal))
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def _concerns(self, module: nn.Module) -> bool:
        """Whether a module has something to learn, and is one of those that are watched."""
        learning = (p for p in module.parameters() if p.requires_grad)
        return any(not self._given or self._names.owner(p) is not None for p in learning)

    def _failed(self, error: Exception) -> None:
        self._faults += 1
        self._sink.event(-1, "autopsy-fault", {"error": f"{type(error).__name__}: {error}"})
        if self._faults >= _MOST_FAULTS:
            self.stop(f"{self._faults} faults, the last one {type(error).__name__}: {error}")

    # -- called on every step -------------------------------------------------

    def forget(self, index: int) -> None:
        """An optimiser is gone."""
        self._pulses.pop(index, None)

    def step(self, clock: Clock, optimizer: torch.optim.Optimizer) -> float:
        """An optimiser is about to step, and its gradients have been read.

        Returns:
            Seconds that autopsies took since the last call.
        """
        start = perf_counter()
        if not self.why_off:
            try:
                self._step(clock, optimizer)
            except Exception as error:  # noqa: BLE001
                self._failed(error)
        taken = perf_counter() - start + self._camera.seconds
        self._camera.seconds = 0.0
        return taken

    @np.errstate(all="ignore")  # whatever the script has asked numpy to do
    def _step(self, clock: Clock, optimizer: torch.optim.Optimizer) -> None:
        self._camera.settle()
        step = clock.vitals.step - 1
        owned = {id(p) for p in clock.parameters()}
        touched = [a for a in self._camera.albums.values() if not owned.isdisjoint(a.parameters)]
        for album in touched:
            album.stale = True
            if album.frames and clock.index not in album.frames[-1].steps:
                album.frames[-1].steps[clock.index] = step
                self._keep_momentum(album, optimizer)
        self._make_room()
        pulse = self._pulses.get(clock.index)
        if pulse is None or pulse.aim != clock.vitals.aims:
            pulse = Pulse(clock.vitals.targets, step, clock.vitals.aims)
            self._pulses[clock.index] = pulse
        pending, row = pulse.pending, clock.vitals.latest
        if row is not None and len(row) == pulse.units:
            with torch.no_grad():
                pulse.pending = (step, Transfer(row.detach() != 0), clock.vitals.missing)
        if pending is not None:
            at, transfer, missing = pending
            alive = np.array(transfer.array(), np.bool_)
            suspects = pulse.see(at, alive, missing, self._camera.slots - SPARE, self.chance)
            if suspects:
                self._look_into(clock, at - (self._camera.slots - SPARE), suspects)

    def _keep_momentum(self, album: Album, optimizer: torch.optim.Optimizer) -> None:
        frame = album.frames[-1]
        for group in optimizer.param_groups:
            settings = {k: _now(v) for k, v in group.items() if k != "params"}
            for parameter in group["params"]:
                name = album.parameters.get(id(parameter))
                if name is None:
                    continue
                state = optimizer.state.get(parameter, {})
                held = next((state[m] for m in _MOMENTA if isinstance(state.get(m), torch.Tensor)), None)
                copy = None if held is None else held.detach().clone()
                frame.size += 0 if copy is None else copy.numel() * copy.element_size()
                kind = type(optimizer).__name__
                frame.own[name] = OwnStep(kind=kind, settings=settings, before=copy)

    def _make_room(self) -> None:
        """Keep fewer steps where all of them would take too much memory; too few are no use."""
        albums = self._camera.albums
        for key in [k for k, a in albums.items() if a.module is None]:
            del albums[key]
        while sum(a.size for a in albums.values()) > self._memory:
            largest = max(albums.values(), key=lambda a: a.size)
            if len(largest.frames) <= FEWEST:
                have = sum(a.size for a in albums.values()) / MIB
                self.stop(
                    f"{len(largest.frames)} steps of parameters, momentum and batches take {have:.0f} MiB, "
                    f"autopsy_memory is {self._memory / MIB:.0f} MiB"
                )
                return
            largest.drop()
            self._camera.slots = min(self._camera.slots, len(largest.frames))
            for album in albums.values():
                album.slots = self._camera.slots

    # -- a kill ---------------------------------------------------------------

    def _look_into(self, clock: Clock, step: int, suspects: Suspects) -> None:
        by_album: dict[int, Suspects] = {}
        for path, (parameter, units) in suspects.items():
            homes = (key for key, album in self._camera.albums.items() if parameter in album.parameters)
            key = next(homes, None)
            self._lost += key is None
            if key is not None and self._looked.get(path, 0) < STEPS_A_LAYER and path not in self._unseen:
                by_album.setdefault(key, {})[path] = (parameter, units)
        for key, chosen in by_album.items():
            start = perf_counter()
            left = SECONDS + SHARE * (start - self._began) - self._seconds
            if left <= 0:
                self._lost += len(chosen)
                continue
            self._camera.blind = True  # our own passes are no part of the training
            try:
                self._kill(clock, step, self._camera.albums[key], chosen, left)
            finally:
                self._camera.blind = False
                self._seconds += perf_counter() - start
                self._steps += 1
                self._tell()

    def _kill(self, clock: Clock, step: int, album: Album, suspects: Suspects, seconds: float) -> None:
        """Look into one killing step of one module, and write what was found."""
        kept = list(album.frames)
        first = max((i for i, f in enumerate(kept) if f.steps.get(clock.index) == step), default=-1)
        if first < 0 or first + 1 >= len(kept) or not kept[first].calls:
            self._lost += len(suspects)
            return
        users = {album.parameters[key].rpartition(".")[0]: path for path, (key, _) in suspects.items()}
        asked = {raw: suspects[path][1] for raw, path in users.items()}
        scene = Scene(album, kept, first, self._inquire)
        found: dict[str, LayerKill] = {}
        for place, some in scene.crossings(asked).items():
            # The passes are those of the first frame: what ended it may not be what killed.
            for kill in self._inquire(scene.inquest(place, place + 1, some, seconds / 2)).layers:
                at = np.full(len(kill.units), kept[place].steps.get(clock.index, step), np.int64)
                layer = replace(kill, path=users[kill.path], crossing=at)
                known = found.get(layer.path)
                found[layer.path] = layer if known is None else known.joined(layer)
        self._unlike += "run" in scene.unseen
        if self._unlike >= _MOST_FAULTS:
            self.stop(scene.unseen["run"])
        self._unseen |= {users[raw]: why for raw, why in scene.unseen.items() if raw in users}
        self._lost += len(suspects) - len(found)
        for path, kill in found.items():
            self._looked[path] = self._looked.get(path, 0) + 1
            facts, arrays = kill.to_exhibit()
            facts |= {"optimizer": clock.index, "asked": len(suspects[path][1])}
            self._sink.exhibit(EXHIBIT, path, step, facts, arrays)

    def _tell(self) -> None:
        """What can be known of autopsies as a whole, for the record."""
        facts = {
            "on": not self.why_off,
            "why_off": self.why_off,
            "steps": self._steps,
            "seconds": round(self._seconds, 6),
            "silence": self._camera.slots - SPARE,
            "not_attributed": self._lost,
            "unseen": self._unseen,
        }
        self._sink.facts({"autopsy": facts})


def _now(value: Any) -> Any:
    """A setting as it is now: a learning rate may be a tensor that a scheduler writes to."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
