"""Who may come in: this machine only, or whoever holds the token; and what a browser may do with the page."""

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
        token: that a first visit must bring; None on the loopback address.
    """

    host: str
    port: int = 0
    token: str | None = field(default=None)

    @classmethod
    def at(cls, host: str) -> "Door":
        """A door at ``host``, with a new token unless it is a loopback address."""
        return cls(host, token=None if is_loopback(host) else secrets.token_urlsafe(32))

    @property
    def cookie(self) -> str:
        """Name of the cookie; browsers send cookies of one host to all its ports, hence the port."""
        return f"xray2ctpa-{self.port}"

    def address(self, name: str = "") -> str:
        """What to type into a browser.

        Args:
            name: the machine's, where the address it listens at is none ("0.0.0.0").
        """
        host = name or self.host
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}/" + (f"?{TOKEN_FIELD}={self.token}" if self.token else "")

    def refuse_strangers(self, request: web.Request) -> None:
        """Raises HTTPForbidden for another site's page or another name of this machine (DNS rebinding)."""
        own = {f"{name}:{self.port}" for name in (LOOPBACK, "localhost", "[::1]", self.host)}
        if self.token is None and request.host not in own:
            raise web.HTTPForbidden(text="This page is served to this machine only.")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            raise web.HTTPForbidden(text="This page answers no other page.")
        embedded = request.headers.get("Sec-Fetch-Dest", "document") != "document"
        if embedded and request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="This page is part of no other page.")

    def holds_token(self, request: web.Request) -> bool:
        """Whether a visitor without a session may have one."""
        if self.token is None:
            return True
        given = request.query.get(TOKEN_FIELD, "")
        return hmac.compare_digest(given.encode(), self.token.encode())
