"""Two runs side by side as one self-contained page, the curves laid over each other."""

import os
from typing import Any

from defib.core.comparison import RunComparison
from defib.report import assets
from defib.report.html import embedded, page
from defib.report.json import to_plain
from defib.report.meaning import meaning


def comparison_page(comparison: RunComparison, *, home: str = "") -> str:
    """The page.

    Args:
        comparison: What changed.
        home: Address of the list of runs, if the page is one of a server's; "" for none.

    Returns:
        HTML of printable characters; nothing in it asks a network for anything.
    """
    data: dict[str, Any] = to_plain(comparison)
    for plain, change in zip(data["findings"], comparison.findings, strict=True):
        plain["cause_means"] = meaning(change.cause)
    names = [os.path.basename(side.path) or side.path for side in (comparison.before, comparison.after)]
    if names[0] == names[1]:
        names = ["before", "after"]
    script = f"{assets.text('compare.js')}\ndefib.compare({embedded(data)});"
    if home:
        back = f'defib.el("a", {{ href: {embedded(home)} }}, "All runs")'
        script += f'\ndocument.getElementById("live-nav").append({back});'
    return page(None, scripts=[script], title=f"{names[0]} and {names[1]} - defib compare")
