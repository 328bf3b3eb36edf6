"""Pages and what they ask for, served to browsers of this machine that know the token."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping

from insitu.errors import InsituError
from insitu.views.loopback import LOOPBACK, Answer, LoopbackServer

__all__ = ["Answer", "PageServer"]


class PageServer:
    """Serves on the loopback interface until close(). ``address`` is what a browser opens."""

    def __init__(self, port: int, page: bytes, files: Mapping[str, Callable[[str], Answer | None]]) -> None:
        """``files``: what gives the content of a name beside the page, for the query of its address.

        ``port`` 0: a free one. Raises InsituError if it cannot be had.
        """
        self._files: dict[str, Callable[[str], Answer | None]] = {
            "": lambda _: ("text/html; charset=utf-8", page),
            **files,
        }
        self._closed = False
        self._token = secrets.token_urlsafe(24)
        try:
            self._server = LoopbackServer(port, self)
        except (OSError, OverflowError) as error:
            raise InsituError(
                f"cannot listen on {LOOPBACK}:{port}: {error}", remedy="choose another --port"
            ) from None
        self.address = f"http://{LOOPBACK}:{self._server.port}/{self._token}/"

    def close(self) -> None:
        """End the server. Idempotent."""
        self._closed = True
        self._server.close()

    def admits(self, host: str, origin: str | None) -> bool:
        """Whether a request is meant for this server, and not sent by another site's page (DNS rebinding, CSRF)."""
        hosts = (f"{LOOPBACK}:{self._server.port}", f"localhost:{self._server.port}")
        return host in hosts and (origin is None or origin in [f"http://{each}" for each in hosts])

    def route(self, path: str) -> Callable[[str], Answer | None] | None:
        """Returns what gives the content of a path; None for all without the token, and once it is closed."""
        if self._closed:
            return None
        for name, content in self._files.items():
            if hmac.compare_digest(path.encode(errors="replace"), f"/{self._token}/{name}".encode()):
                return content
        return None
