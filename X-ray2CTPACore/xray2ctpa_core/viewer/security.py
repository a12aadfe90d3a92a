"""Admission of visitors, and restrictions of the page in a browser.

A visitor needs the token, also on the loopback address, which all users of a machine can reach. The user's
own browser is started with a ticket for one visit, because other users can read the address with which it is
started. A visitor is then recognised by a signed cookie, so that visits need no memory.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field

from aiohttp import web

from xray2ctpa_core.constants import LOOPBACK

TOKEN_FIELD = "token"
#: The page loads nothing from other sites, is not shown inside other pages and not cached.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a server that listens at ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Door:
    """The rules for one server.

    Attributes:
        host: address at which it listens.
        port: known when it listens.
        token: required at the first visit.
    """

    host: str
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _ticket: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers send cookies of one host to all its ports, hence the port."""
        return f"xray2ctpa-{self.port}"

    def address(self, name: str = "") -> str:
        """The page's address for a browser.

        Args:
            name: of the machine, if it listens at all addresses ("0.0.0.0").
        """
        return self._address(self.token, name)

    def ticket_address(self, name: str = "") -> str:
        """The page's address with a ticket for one visit, to start a browser."""
        return self._address(self._ticket, name)

    def _address(self, token: str, name: str) -> str:
        host = name or self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/?{TOKEN_FIELD}={token}"

    def refuse_strangers(self, request: web.Request) -> None:
        """Raises HTTPForbidden for another site's page or another name of this machine (DNS rebinding)."""
        own = {f"{name}:{self.port}" for name in (LOOPBACK, "localhost", "[::1]", self.host)}
        if is_loopback(self.host) and request.host not in own:
            raise web.HTTPForbidden(text="This page is served to this machine only.")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="This page answers no other page.")
        embedded = request.headers.get("Sec-Fetch-Dest", "document") != "document"
        if embedded and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="This page is part of no other page.")

    def admits(self, request: web.Request) -> bool:
        """Whether a visitor without a key may get one; a ticket is valid once."""
        given = request.query.get(TOKEN_FIELD, "").encode()
        if hmac.compare_digest(given, self.token.encode()):
            return True
        if not self._ticket or not hmac.compare_digest(given, self._ticket.encode()):
            return False
        self._ticket = ""
        return True

    def new_key(self) -> str:
        """A new visitor's key for the cookie."""
        name = secrets.token_hex(16)
        return f"{name}.{self._sign(name)}"

    def key_of(self, request: web.Request) -> str | None:
        """A visitor's key, if this server has issued it."""
        key = request.cookies.get(self.cookie, "")
        name, _, signature = key.partition(".")
        is_own = hmac.compare_digest(signature.encode(), self._sign(name).encode())
        return key if is_own else None

    def _sign(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), "sha256").hexdigest()
