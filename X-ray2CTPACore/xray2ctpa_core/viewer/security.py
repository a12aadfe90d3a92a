"""Who may come in, and what a browser may do with the page.

Whoever holds the token may come in, on the loopback address too, which every user of a machine reaches. The
own browser is sent in with a ticket for one visit, as others can read with which address it is started. A
visitor is then known by a cookie that is signed, so that no visit costs memory.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field

from aiohttp import web

from xray2ctpa_core.constants import LOOPBACK

TOKEN_FIELD = "token"
#: The page loads nothing from elsewhere, is shown in no other page and kept in no cache.
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
    """Whether only this machine reaches a server that listens at ``host``."""
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
        host: address that it listens at.
        port: known once it listens.
        token: that a first visit must bring.
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
        """What to type into a browser.

        Args:
            name: the machine's, where the address it listens at is none ("0.0.0.0").
        """
        return self._address(self.token, name)

    def ticket_address(self, name: str = "") -> str:
        """The same for one visit, to start a browser with."""
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
        """Whether a visitor without a key may have one; the ticket is good for the first who brings it."""
        given = request.query.get(TOKEN_FIELD, "").encode()
        if hmac.compare_digest(given, self.token.encode()):
            return True
        if not self._ticket or not hmac.compare_digest(given, self._ticket.encode()):
            return False
        self._ticket = ""
        return True

    def new_key(self) -> str:
        """A visitor's key, to be kept in the cookie."""
        name = secrets.token_hex(16)
        return f"{name}.{self._sign(name)}"

    def key_of(self, request: web.Request) -> str | None:
        """The key that a visitor brings, if it is one of this door's."""
        key = request.cookies.get(self.cookie, "")
        name, _, signature = key.partition(".")
        is_own = hmac.compare_digest(signature.encode(), self._sign(name).encode())
        return key if is_own else None

    def _sign(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), "sha256").hexdigest()
