"""Starts and stops a watch; the only door into ``capture`` for the rest of defib."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from platform import python_version

import torch
from torch import nn

from defib.capture import taps
from defib.capture.autopsy import Autopsies
from defib.capture.curvature import Curvatures
from defib.capture.recorder import Recorder
from defib.core.kill import Prober
from defib.core.ports import Sink
from defib.core.precision import single
from defib.core.sharpness import Surveyor


class Session:
    """A watch under way.

    Args:
        recorder: Does the looking.
        sink: Where the numbers go.
    """

    def __init__(self, recorder: Recorder, sink: Sink) -> None:
        self._recorder = recorder
        self._sink = sink
        self._closed = False
        self._watch = taps.Watch(recorder, self._fault)
        taps.engage(self._watch)
        if recorder.autopsies is not None:
            recorder.autopsies.engage()
        if recorder.curvatures is not None:
            recorder.curvatures.engage()

    @property
    def faults(self) -> int:
        """Faults of defib's own that were caught; 0 in a sound run."""
        return self._watch.faults

    @property
    def readings(self) -> int:
        """Steps on which activations were read so far."""
        return self._recorder.governor.readings

    @property
    def steps(self) -> int:
        """Steps of the optimiser that took most."""
        return self._recorder.steps

    def flush(self) -> None:
        """Hand everything seen so far to the sink."""
        if self._closed:
            return
        try:
            self._recorder.flush(wait=True)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._watch.failed(error)

    def log(self, name: str, value: float) -> None:
        """Keep a number of the user's own, beside the step taken last."""
        if self._closed:
            return
        try:
            step = self._recorder.steps - 1
            self._sink.stream(-1, step, {f"log.{name}": single([value])})
        except Exception as error:  # noqa: BLE001 - training goes on
            self._watch.failed(error)

    def renew(self) -> None:
        """The network was changed on purpose: it is looked at anew from here on."""
        if self._closed:
            return
        try:
            self._recorder.renew()
        except Exception as error:  # noqa: BLE001 - training goes on
            self._watch.failed(error)

    def close(self, status: str = "finished") -> None:
        """Stop watching and finish the record; again is harmless."""
        if self._closed:
            return
        taps.release(self._watch)
        if self._recorder.autopsies is not None:
            self._recorder.autopsies.close()
        if self._recorder.curvatures is not None:
            self._recorder.curvatures.close()
        try:
            self._recorder.close()
        except Exception as error:  # noqa: BLE001
            self._watch.failed(error)
        self._closed = True
        self._sink.close(status)

    def _fault(self, error: Exception, last: bool) -> None:
        data = {"error": f"{type(error).__name__}: {error}", "off": last}
        self._sink.event(-1, "watcher-fault", data)
        for extra in (self._recorder.autopsies, self._recorder.curvatures):
            if last and extra is not None:
                extra.stop("the watcher switched itself off")


def start(
    model: nn.Module | Sequence[nn.Module] | None = None,
    optimizers: Iterable[torch.optim.Optimizer] = (),
    *,
    sink: Sink,
    budget: float = 0.01,
    every: int | None = None,
    inquire: Prober | None = None,
    memory: int = 0,
    keep_inputs: bool = True,
    survey: Surveyor | None = None,
) -> Session:
    """Watch a model, or whatever is trained.

    Args:
        model: The model, several, or None to find them when they are trained.
        optimizers: Count these only; empty for every one that steps a parameter of the model.
        sink: Takes what is seen.
        budget: Share of the run's time that may be spent (0.01 for 1 %).
        every: Read every N-th step whatever it costs; None to let the budget decide.
        inquire: Looks into killing steps; None for no autopsies.
        memory: Bytes that an autopsy may keep of the last steps.
        keep_inputs: Keep samples of what feeds a layer in the record.
        survey: Measures the largest curvature of a batch's loss; None to leave that alone.

    Returns:
        The watch under way.
    """
    roots = [] if model is None else [model] if isinstance(model, nn.Module) else list(model)
    sink.facts({"torch": torch.__version__, "python": python_version(), "defib": version("defib")})
    if not keep_inputs:
        sink.facts({"keep_inputs": False})  # the prognosis will say by name why it cannot tell
    recorder = Recorder(sink, roots, optimizers, budget, every, keep_inputs)
    if inquire is not None:
        recorder.autopsies = Autopsies(
            sink, recorder.names, inquire, memory, given=bool(recorder.names.layers())
        )
    if survey is not None:
        recorder.curvatures = Curvatures(sink, survey)
    return Session(recorder, sink)
