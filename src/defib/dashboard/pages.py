"""The pages that the server gives: one for a run, one for the list of runs. They hold no data.

A page is made once and is the same for everybody; what it shows it fetches itself.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from defib.report import assets, html

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_OUTSIDE = "frame-ancestors 'none'"
"""What a policy in the page itself cannot say."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page and the content security policy that is sent with it."""

    body: bytes
    policy: str


@cache
def run_page(listed: bool) -> Page:
    """The page of one run: the report's own, which is told what is new.

    Args:
        listed: There is a list of runs to go back to.

    Returns:
        The page, empty.
    """
    scripts = (_text("stream.js"), _text("live.js").replace("LISTED", "true" if listed else "false"))
    text = html.page(None, live=True, scripts=scripts, title="defib serve")
    policy = f"{html.policy(live=True, scripts=scripts)}; {_OUTSIDE}"
    return Page(body=text.encode(), policy=policy)


@cache
def list_page() -> Page:
    """The list of runs."""
    scripts = (assets.text("base.js"), _text("stream.js"), _text("list.js"))
    parts = {
        "style": f"{assets.text('page.css')}\n{_text('list.css')}",
        "scripts": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    return sealed(Template(_text("list.html")).substitute(parts), network=True)


def sealed(text: str, network: bool = False) -> Page:
    """A page with the policy that lets exactly its own scripts and styles run.

    Args:
        text: A page that we made; names in it are escaped already.
        network: It may ask this server.

    Returns:
        Both.
    """
    asks = "'self'" if network else "'none'"
    rules = (
        "default-src 'none'",
        f"script-src {_hashes(_SCRIPT.findall(text))}",
        f"style-src {_hashes(_STYLE.findall(text))}",
        "img-src data:",
        f"connect-src {asks}",
        "base-uri 'none'",
        "form-action 'none'",
        _OUTSIDE,
    )
    return Page(body=text.encode("utf-8", "backslashreplace"), policy="; ".join(rules))


def _hashes(texts: list[str]) -> str:
    digests = (hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest() for text in texts)
    names = [base64.b64encode(digest).decode("ascii") for digest in digests]
    return " ".join(f"'sha256-{name}'" for name in names) or "'none'"


@cache
def _text(name: str) -> str:
    return files("defib.dashboard").joinpath("static", name).read_text(encoding="utf-8")
