"""``defib.trial``: the library's door to a controlled comparison."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from defib.core.errors import NotFound, UsageError
from defib.core.trial import Verdict
from defib.trials.design import Script, parse_measure
from defib.trials.runner import Request, conduct


def trial(
    script: str | os.PathLike[str] | None = None,
    *arguments: str,
    arms: Sequence[str] = (),
    seeds: int = 3,
    budget: float = 2.0,
    metric: str | None = None,
    goal: str | None = None,
    on: str = "local",
    jobs: int = 1,
    random: bool = True,
    output: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Runs a script under a control arm and under each treatment, and compares.

    Args:
        script: The training script; None for the one that is running.
        *arguments: Its arguments.
        arms: Treatments as ``--treat`` takes them; empty to choose by diagnosis.
        seeds: Seeds of each arm, at least 1.
        budget: Treated runs with one seed, in plain runs.
        metric: A regular expression with one group for its standard output, or a name that it logs
            with ``defib.log``; None for the training loss.
        goal: "lower" or "higher"; None to tell by the metric's name.
        on: "local", "ray" or "ray://host:port".
        jobs: Runs at a time.
        random: Also run an arm of randomly drawn treatments.
        output: The trial's folder, gone on with if it is there; None for ``defib-trial-<script>``.

    Returns:
        For each arm better, worse or undecided, with its interval.

    Raises:
        NotFound: If there is no such script.
        UsageError: If an argument cannot be understood.
    """
    target = Path(script if script is not None else sys.argv[0])
    if not target.exists():
        raise NotFound(f"no such script: {target}")
    if seeds < 1 or jobs < 1 or not 0 < budget < float("inf"):
        raise UsageError("seeds and jobs are at least 1, and a budget is a positive number")
    request = Request(
        script=Script(target=str(target), is_module=False, arguments=arguments, folder=os.getcwd()),
        measure=parse_measure(metric, goal),
        arms=tuple(arms),
        seeds=seeds,
        budget=budget,
        random=random,
    )
    return conduct(request, Path(output or f"defib-trial-{target.stem}"), on=on, jobs=jobs)
