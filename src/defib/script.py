"""The two ends of `defib run`, inside the process that it became: after torch's import, and at exit."""

import sys
from dataclasses import replace
from pathlib import Path

from defib.api import diagnose
from defib.care import Care, parse_order
from defib.core.config import Settings, load_settings
from defib.core.errors import DefibError
from defib.live import LiveRun, adopt, ending
from defib.watcher import prober, rank, surveyor


def launched(carried: str) -> LiveRun:
    """Called in a process that ``defib run`` became, right after torch has been imported.

    Args:
        carried: What ``capture.launch.exec_script`` sent ahead.

    Returns:
        The watch of everything that trains in this process.
    """
    from defib.capture import session as capture
    from defib.capture.launch import Launched
    from defib.record.writer import Writer

    launch = Launched.from_text(carried)
    writer = Writer.create(launch.output, rank=rank(), force=launch.force)
    writer.facts({"target": launch.target, "arguments": list(launch.arguments)})
    if launch.seed_shift is not None:
        from defib.trials.seeds import shift

        shift(launch.seed_shift)
    order = parse_order(launch.treat, launch.treat_at)
    care = None if order is None else Care(order)
    inquire, memory = prober(launch.autopsy)
    session = capture.start(
        sink=writer,
        budget=launch.budget,
        every=launch.every,
        inquire=inquire,
        memory=memory,
        keep_inputs=launch.keep_inputs,
        survey=surveyor(launch.curvature),
    )
    live = LiveRun(session, writer, launch.output)
    adopt(live)
    if care is not None:
        live.attend(care)
    if launch.stop_at is not None:
        from defib.trials.end import end_after

        end_after(launch.stop_at)
    if launch.race is not None:
        from defib.trials.end import race
        from defib.trials.race import from_file

        race(
            from_file(Path(launch.race)),
            lambda: live.view,
            lambda step, data: writer.event(step, "trial", data),
        )
    return live


def concluded(carried: str, live: LiveRun | None) -> None:
    """Called last thing in that process, if it comes to its end by itself.

    Args:
        carried: As for :func:`launched`.
        live: What that returned; None if it was never called.

    Raises:
        OutputError: If no record could be made of a script that never trained.
    """  # noqa: DOC502 - the writer raises it
    from defib.capture.launch import Launched

    launch = Launched.from_text(carried)
    if live is None:
        # A record that says why there is nothing in it: silence would look like health.
        from defib.record.writer import Writer

        seen = "imported, unseen by defib" if "torch" in sys.modules else "never imported"
        writer = Writer.create(launch.output, rank=rank(), force=launch.force)
        writer.facts({"target": launch.target, "arguments": list(launch.arguments), "torch": seen})
        writer.close(ending())
    else:
        live.close(ending())
        writer = live._writer
    if writer.fault is not None:
        print(f"defib: the record {launch.output} is not complete: {writer.fault}", file=sys.stderr)
    conclude(launch.output, launch.quiet, load_settings(launch.folder), is_whole=writer.fault is None)


def conclude(
    path: Path, quiet: bool = False, settings: Settings | None = None, *, is_whole: bool = True
) -> None:
    """Says at a script's end what was found, as one block on stderr. Never raises.

    Only the first rank of a job speaks. A record that cannot be read is one line.

    Args:
        path: The record.
        quiet: Say nothing.
        settings: Limits of rules; None for those of the nearest pyproject.toml.
        is_whole: False if the end of the run could not be written (a full disk).
    """
    try:
        if quiet or rank() != 0:
            return
        from defib.report.terminal import encoding_of, say, style_of
        from defib.report.text import to_text
        from defib.report.wording import escaped, spelt_in

        try:
            with spelt_in(encoding_of(sys.stderr)):
                found = diagnose(path, settings)
                if not is_whole:
                    found = replace(found, run={**found.run, "status": "cut short"})
                text = to_text(found, style_of(sys.stderr))
        except DefibError as error:
            text = escaped(f"defib: {error}")
        except Exception as error:  # noqa: BLE001 - the script's own end must not be spoilt
            said = f"{type(error).__name__}: {error}"
            text = escaped(f"defib: no diagnosis: {said} (try `defib diagnose {path}`)")
        say("\n" + text, sys.stderr)
    except (Exception, KeyboardInterrupt):  # noqa: BLE001 - a closed stderr, an impatient user
        return
