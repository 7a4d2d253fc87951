"""What an enum value means, in the words that stand below it in the source.

The sentence below ``DIED_AT_STEP = "died-at-step"`` is the only place where that
cause is put into words; the terminal and ``defib explain`` read it from there.
"""

import ast
import inspect
from enum import StrEnum
from functools import cache


def meaning(member: StrEnum) -> str:
    """The sentence documented below an enum member; "" if there is none."""
    return _documented(type(member)).get(member.name, "")


@cache
def _documented(cls: type[StrEnum]) -> dict[str, str]:
    """For each documented member its sentence, on one line."""
    try:
        body = ast.parse(inspect.getsource(cls)).body[0]
    except (OSError, SyntaxError):  # a frozen or zipped application ships no source
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for above, below in zip(body.body, body.body[1:], strict=False):
        text = _text(below)
        if text and isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
            found[above.targets[0].id] = text
    return found


def _text(node: ast.stmt) -> str:
    """The string of a bare string statement."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        value = node.value.value
        return " ".join(value.split()) if isinstance(value, str) else ""
    return ""
