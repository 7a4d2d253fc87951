"""One self-contained page: style, scripts and data inside, and a policy that lets nothing else in.

Whatever comes from a record is put into the page as JSON and shown by ``textContent``; no markup is
ever made of it. The policy names our scripts by their hashes, so that nothing else would run either.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from string import Template
from typing import Any

from defib.report import assets
from defib.report.wording import escaped, shown

MARK = '<meta name="generator" content="defib report">'
"""By this a page is known as ours: it may be replaced by a newer one."""

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def page(
    payload: dict[str, Any] | None, *, live: bool = False, scripts: Sequence[str] = (), title: str = ""
) -> str:
    """The page that shows a run.

    Args:
        payload: What ``defib.views.portray`` gives; None for a page that shows nothing yet.
        live: The page may ask its own server for more.
        scripts: Further scripts, run after ours.
        title: The page's title; "" for the run's name.

    Returns:
        HTML of printable characters, ready to be encoded as UTF-8.
    """
    verdict = (payload or {}).get("verdict", {})
    name = title or f"{(payload or {}).get('title', 'run')} - defib"
    parts = {
        "policy": escape(policy(live=live, scripts=scripts), quote=False),
        "mark": MARK,
        "title": escape(shown(name, 120)),
        "style": assets.style(),
        "sentence": escape(escaped(str(verdict.get("sentence", "")))),
        "portrait": embedded(payload),
        "scripts": "\n".join(f"<script>{text}</script>" for text in _scripts(scripts)),
    }
    return Template(assets.text("page.html")).substitute(parts)


def policy(*, live: bool = False, scripts: Sequence[str] = ()) -> str:
    """The content security policy of a page: its own scripts and style by their hashes, nothing else.

    Args:
        live: As in :func:`page`.
        scripts: As in :func:`page`.

    Returns:
        The policy, for the page itself or for a header.
    """
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(text) for text in _scripts(scripts)),
        "style-src": _hash(assets.style()),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: pure ASCII without a character that ends or opens markup.

    Args:
        data: Anything JSON-able; NaN and infinity are not.

    Returns:
        The text.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, safe in _UNSAFE.items():  # they can only stand inside of JSON's strings
        text = text.replace(character, safe)
    return text


def _scripts(more: Sequence[str]) -> tuple[str, ...]:
    return (*assets.scripts(), *more)


def _hash(text: str) -> str:
    """A text as the policy names it; browsers see line ends as single newlines."""
    digest = hashlib.sha256(text.replace("\r\n", "\n").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
