"""How a server is connected to: with a key, through proxies, and so that all can be broken off."""

import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import httpx2

from ...errors import ServerError, first_line
from .settings import ServerSettings

_LONGEST_CONNECT = 30.0  # seconds; nothing can break that off


class Sockets:
    """The open connections of a client, which may be shut while other threads wait for answers."""

    def __init__(self) -> None:
        self._open: WeakSet[socket.socket] = WeakSet()
        self._shut, self._changing = False, threading.Lock()

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember a connection; httpx calls this at each step of a request (`trace`)."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        found = info["return_value"].get_extra_info("socket")
        with self._changing:
            self._open.add(found)
            if self._shut:
                _shut(found)

    def shut(self) -> None:
        """Break off what is sent and read; whoever waits for it gets an error at once."""
        with self._changing:
            self._shut = True
            for found in self._open:
                _shut(found)


def _shut(found: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        # Also of TLS, whose own shutdown would change an object that is being read.
        socket.socket.shutdown(found, socket.SHUT_RDWR)


def _key_header(settings: ServerSettings) -> dict[str, str]:
    if settings.api_key_env is None:
        return {}
    key = os.environ.get(settings.api_key_env, "").strip()
    about = f"the environment variable {settings.api_key_env} (server.api_key_env)"
    if not key:
        raise ServerError(f"{about} is not set; put the server's key into it")
    if not key.isascii() or not key.isprintable():  # httpx would show it in its error
        raise ServerError(
            f"{about} holds line breaks or letters that are not ASCII; put the server's key into"
            " it, and nothing else"
        )
    return {"Authorization": f"Bearer {key}"}


def connections(settings: ServerSettings, *, through_proxies: bool) -> httpx2.Client:
    """Connections to a server; nothing is sent yet.

    Raises:
        ServerError: Its key is not set, or is none; or a proxy of the environment cannot be used.
    """
    headers = _key_header(settings)
    try:
        return httpx2.Client(
            base_url=settings.base,
            headers=headers,
            timeout=httpx2.Timeout(
                settings.timeout, connect=min(settings.timeout, _LONGEST_CONNECT)
            ),
            limits=httpx2.Limits(max_connections=settings.concurrency),
            trust_env=through_proxies,
        )
    except (httpx2.InvalidURL, ImportError, ValueError, OSError) as error:
        raise ServerError(
            f"{settings.url} cannot be asked: {first_line(error)}; correct the URL, or what the"
            " environment says of proxies and certificates (ALL_PROXY, HTTP_PROXY, HTTPS_PROXY,"
            " SSL_CERT_FILE), or let NO_PROXY name the server"
        ) from error


def proxy_hint(address: str) -> str:
    """That an address is asked through a proxy, which may be what fails."""
    parts = urlsplit(address)
    proxies = getproxies()
    if not {parts.scheme, "all"} & {*proxies} or proxy_bypass(parts.netloc):
        return ""
    return (
        f". It is asked through the proxy of the environment: let NO_PROXY name {parts.hostname}"
        " where that is not wanted"
    )
