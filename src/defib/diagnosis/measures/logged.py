"""What the script itself logged with ``defib.log``: which of it is a loss on data held out."""

import re

from defib.core.run import RunView
from defib.core.series import Series

_HELD_OUT = re.compile(r"(?<![a-z])(val|valid|validation|dev|eval|test|held[ _-]?out)(?![a-z])", re.I)
_LOSS = re.compile(r"(?<![a-z])(loss|nll|r?mse|mae|cross[ _-]?entropy|perplexity|ppl)(?![a-z])", re.I)


def validation_loss(run: RunView) -> tuple[str, Series] | None:
    """The first logged series whose name says that it is a loss on data held out.

    Returns:
        Name and numbers; None if nothing of the kind was logged.
    """
    for name, series in run.logged.items():
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
        if _HELD_OUT.search(words) and _LOSS.search(words):
            return name, series
    return None
