"""What lets a browser in: one token, and the names that follow from it.

Everything else is derived from the token with HMAC-SHA256, so that knowing a derived name (a
cookie that another program on this machine got to see, an address in a browser's history) does
not give the token. A server that is started again with the same token has the same names, so
that pages that are still open go on.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from defib.core.errors import UsageError

TOKEN_VARIABLE = "DEFIB_SERVE_TOKEN"
"""Environment variable with a token of the user's own; without it each start makes a new one."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,128}\Z")


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The token of one server.

    Attributes:
        token: What stands in the address that is printed: 256 bits, unless it is the user's own.
    """

    token: str

    @classmethod
    def make(cls, own: str | None = None) -> "Keys":
        """A new token, or the user's own.

        Args:
            own: 32 to 128 letters, digits, ``-`` and ``_``; None to make one.

        Returns:
            The keys.

        Raises:
            UsageError: If the user's own is no such text; it is not repeated in the message.
        """
        if own is not None and not _TOKEN.match(own):
            raise UsageError(f"{TOKEN_VARIABLE} must be 32 to 128 letters, digits, - and _; or unset it")
        return cls(token=own or secrets.token_urlsafe(32))

    @property
    def prefix(self) -> str:
        """First part of every path. Cookies know no ports: this keeps ours from other servers here."""
        return self._derived("prefix")[:22]

    @property
    def session(self) -> str:
        """The cookie's value."""
        return self._derived("session")

    def run_id(self, path: Path) -> str:
        """The name of a record in addresses: it tells nothing, and is only ever looked up."""
        return self._derived(f"run {path}")[:16]

    def is_token(self, offered: str) -> bool:
        """Whether that is the token; takes the same time however much of it is right."""
        return same(offered, self.token)

    def _derived(self, what: str) -> str:
        code = hmac.new(self.token.encode(), what.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return code.hexdigest()


def same(offered: str, wanted: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(offered.encode("utf-8", "replace"), wanted.encode())
