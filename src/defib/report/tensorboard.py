"""A run as TensorBoard's own event files: curves, sizes of signals and tensors, the findings as text.

Needs the package tensorboard, not torch.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defib.core.diagnosis import Diagnosis
from defib.core.errors import EnvironmentProblem
from defib.core.run import RunView
from defib.core.series import Series
from defib.report.text import to_text
from defib.report.whole import fresh_folder
from defib.report.wording import shown

_LONGEST_TAG = 160


def write_tensorboard(run: RunView, diagnosis: Diagnosis, folder: Path) -> None:
    """Writes one event file into a fresh folder, whole or not at all.

    Args:
        run: The run.
        diagnosis: What is wrong with it.
        folder: Where; nothing may be there yet. ``tensorboard --logdir FOLDER`` shows it.

    Raises:
        EnvironmentProblem: If tensorboard is not installed.
        OutputError: If the folder is taken, or cannot be written.
    """  # noqa: DOC502 - what is called raises it
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        hint = "pip install 'defib[tensorboard]'"
        raise EnvironmentProblem(
            f"its event files need tensorboard, which is not installed: {hint}"
        ) from None
    now = time.time()
    with (
        fresh_folder(folder) as part,
        open(part / f"events.out.tfevents.{int(now):010d}.defib", "wb") as file,
    ):
        writer = RecordWriter(file)
        writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        for tag, series in scalars(run):
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                point = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                # The time of each step is not in a record: all points get that of the export.
                writer.write(Event(wall_time=now, step=step, summary=point).SerializeToString())
        writer.write(Event(wall_time=now, summary=_words(diagnosis, Summary)).SerializeToString())
        writer.flush()


def scalars(run: RunView) -> Iterator[tuple[str, Series]]:
    """Everything that is a number over steps, by its tag.

    Args:
        run: The run.

    Yields:
        Tag and numbers; tags differ from each other.
    """
    used: set[str] = set()
    for words, series in _series(run):
        if len(series):
            yield _tag(words, used), series


def _series(run: RunView) -> Iterator[tuple[tuple[str, ...], Series]]:
    several = len(run.optimizers) > 1
    for optimizer in run.optimizers:
        for name in ("loss", "lr", "scale", "displacement"):
            own = (str(optimizer.index),) if several else ()
            yield ("train", name, *own), getattr(optimizer, name)
    for name, series in run.logged.items():
        yield ("logged", name), series
    for index, measured in run.sharpness.items():
        for name in ("largest", "product", "bound"):
            own = (str(index),) if several else ()
            yield ("curvature", name, *own), _known(measured.steps, getattr(measured, name))
    for (site, signal), values in run.flow.items():
        yield ("rms", signal.value, str(site)), _known(run.flow_steps, values)
    norms = run.norms
    if norms is not None:
        for column, parameter in enumerate(norms.parameters):
            for name in ("gradient", "weight", "update"):
                yield ("norm", name, parameter), _known(norms.steps, getattr(norms, name)[:, column])


def _known(steps: Any, values: Any) -> Series:
    """Without the steps on which it was not read."""
    there = ~np.isnan(values)
    return Series(steps=steps[there], values=np.asarray(values[there], np.float64))


def _tag(words: tuple[str, ...], used: set[str]) -> str:
    """A tag that TensorBoard shows whole and that no other has; slashes make its groups."""
    tag = "/".join(re.sub(r"[/\\]", "_", shown(word, _LONGEST_TAG)) for word in words)
    free, number = tag, 2
    while free in used:
        free, number = f"{tag}_{number}", number + 1
    used.add(free)
    return free


def _words(diagnosis: Diagnosis, summary: Any) -> Any:
    """The diagnosis for the Text tab, as a code block of Markdown."""
    from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    block = "\n".join(f"    {line}" for line in to_text(diagnosis).splitlines())
    tensor = TensorProto(dtype=DT_STRING, string_val=[block.encode("utf-8", "backslashreplace")])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return summary(value=[summary.Value(tag="diagnosis", metadata=metadata, tensor=tensor)])
