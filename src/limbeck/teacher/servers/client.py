"""Requests to an OpenAI-compatible server, repeated with growing pauses where it fails or is busy.

Source: pauses of random length, Brooker 2015, Exponential Backoff and Jitter (AWS Architecture
Blog).
"""

import email.utils
import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx2

from ...errors import ServerError, first_line
from .connections import Sockets, connections, proxy_hint
from .settings import ServerSettings, settings_problems

_BUSY = {408, 409, 425, 429, 500, 502, 503, 504}
_FIRST_PAUSE, _LONGEST_PAUSE, _MOST_PATIENCE = 0.5, 30.0, 600.0  # seconds
_QUOTED = 300  # letters of what a server says
_SECONDS_BETWEEN_LINES = 30.0  # that say that requests are repeated

Found = TypeVar("Found")


class RequestRefusedError(ServerError):
    """The server answered with an error that repeating does not cure.

    Attributes:
        status: The HTTP status.
        said: What the server said.
    """

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said


class ServerCrashError(ServerError):
    """The server answered with status 500 as often as it was asked."""


class ServerClient:
    """Connections to one server, for any number of threads.

    Attributes:
        settings: As they were given.
        model: The name of the model on the server.
        threads: As many as requests may run at once.
        requests: Requests that were answered.
        received: Bytes of these answers.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        through_proxies: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            settings: As they were given.
            through_proxies: Requests go through the proxies that the environment names.
            tell: Is told now and then that a request is repeated, and why.

        Raises:
            ServerError: The URL or the name of the key's variable is none; this is not set, or
                holds what is no key; or a proxy of the environment cannot be used.
        """
        for field, message in settings_problems(settings):
            raise ServerError(f"server.{field} {message}")
        self.settings = settings
        self.model = settings.model or ""
        self.requests = self.received = 0
        self._closing, self._counting = threading.Event(), threading.Lock()
        self._chance = random.Random()  # pauses decide nothing that is learned
        self.threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="server")
        self._http = connections(settings, through_proxies=through_proxies)
        self._sockets, self._tell, self._told_at = Sockets(), tell, -math.inf
        self._has_answered = False  # with JSON, so that what is none is an accident

    def __enter__(self) -> "ServerClient":
        return self

    def __exit__(self, *error: object) -> None:
        """Give up what still runs, also where a server hangs, and close all connections."""
        self._closing.set()
        self._sockets.shut()
        self.threads.shutdown(cancel_futures=True)
        self._http.close()

    def get(self, path: str, *, retries: int | None = None) -> Any:
        """The JSON at a path; see `post`."""
        return self._answer("GET", path, None, retries, httpx2.Response.json)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that the server answers.

        Raises:
            RequestRefusedError: It refuses the request.
            ServerError: It cannot be reached, or has failed as often as it may.
        """
        return self._answer("POST", path, body, None, httpx2.Response.json)

    def command(self, path: str, body: dict[str, Any]) -> None:
        """Send what the server is to do, whose answer says nothing; errors as of `post`."""
        self._answer("POST", path, body, None, lambda _: None)

    def _answer(
        self,
        method: str,
        path: str,
        body: Any,
        retries: int | None,
        read: Callable[[httpx2.Response], Found],
    ) -> Found:
        """What is read of the answer of status 200, after as many attempts as it takes."""
        retries = self.settings.max_retries if retries is None else retries
        where = f"{self.settings.base}{path}"
        for attempt in range(retries + 1):
            least, failure = 0.0, ServerError
            try:
                response = self._response(method, path, body)
            except httpx2.ConnectTimeout:
                said = "cannot be reached (no connection in time)"
            except httpx2.TimeoutException:
                said = f"gave no whole answer in {self.settings.timeout:g} seconds"
            except httpx2.DecodingError as error:
                said = f"gives an answer that cannot be unpacked ({first_line(error)})"
            except httpx2.TransportError as error:
                said = f"cannot be reached ({first_line(error)})"
            else:
                if response.status_code not in _BUSY:
                    self._check(response, where)
                    try:
                        return self._read(response, read)
                    except ValueError:
                        said = f"gives an answer that is not whole: no JSON ({_said(response)})"
                else:
                    said = f"answers {response.status_code} ({_said(response)})"
                    least = _retry_after(response.headers.get("retry-after", ""))
                    failure = ServerCrashError if response.status_code == 500 else ServerError
            if attempt < retries:
                self._say(f"{where} {said}; it is asked again ({attempt + 1} of {retries} times)")
                self._pause(attempt, least)
        times = "once" if retries == 0 else f"{retries + 1} times"
        raise failure(
            f"{where} {said}, asked {times}; see whether the server runs, and give `timeout` and"
            f" `max_retries` that suit it{proxy_hint(where)}"
        )

    def _read(self, response: httpx2.Response, read: Callable[[httpx2.Response], Found]) -> Found:
        """What is read of an answer.

        Raises:
            ServerError: It is no JSON, and none has come of this address.
            ValueError: It is no JSON, and others were.
        """
        try:
            found = read(response)
        except ValueError as error:
            if self._has_answered:
                raise
            raise ServerError(
                f"{response.request.url} answers no JSON ({_said(response)}); give the address of"
                " an OpenAI-compatible server"
            ) from error
        self._has_answered = True
        return found

    def _say(self, message: str) -> None:
        """Tell that a request is repeated, unless another was a moment ago."""
        now = time.monotonic()
        with self._counting:
            is_due = now - self._told_at >= _SECONDS_BETWEEN_LINES
            if self._tell is None or not is_due or self._closing.is_set():
                return
            self._told_at = now
        self._tell(message)

    def _response(self, method: str, path: str, body: Any) -> httpx2.Response:
        """A whole answer, which may come for as long as `timeout`.

        httpx's own timeout is that of each read alone, and a byte now and then would renew it.
        """
        ends, content = time.monotonic() + self.settings.timeout, bytearray()
        watched = {"trace": self._sockets.note}
        with self._http.stream(method, path, json=body, extensions=watched) as response:
            for some in response.iter_raw():
                content += some
                if time.monotonic() > ends:
                    raise httpx2.ReadTimeout("the answer is not whole", request=response.request)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            content=bytes(content),
            request=response.request,
        )

    def _pause(self, attempt: int, least: float) -> None:
        """Wait before the next attempt, a random time so that requests do not return together."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
        pause = min(least, _MOST_PATIENCE) + self._chance.uniform(longest / 2, longest)
        if self._closing.wait(pause):
            raise ServerError("the requests were stopped")

    def _check(self, response: httpx2.Response, where: str) -> None:
        said = _said(response)
        if response.status_code != 200:
            hint = "; set `api_key_env`" if response.status_code in (401, 403) else ""
            if response.is_redirect:
                hint = f"; it points to {response.headers['location']}: give that address"
            raise RequestRefusedError(
                f"{where} answers {response.status_code} ({said}){hint}", response.status_code, said
            )
        with self._counting:
            self.requests += 1
            self.received += len(response.content)


def served_model(client: ServerClient) -> dict[str, Any]:
    """The model that the server lists and the settings name; the client takes its name.

    Returns:
        As the server describes it, with ``id``.

    Raises:
        ServerError: The server cannot be reached, does not have the model, or has several.
    """
    url, name = client.settings.url, client.settings.model
    answer = client.get("/v1/models", retries=min(1, client.settings.max_retries))
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not listed:
        raise ServerError(f"{url} lists no models; give the address of an OpenAI-compatible server")
    models = {str(one.get("id")): one for one in listed if isinstance(one, dict)}
    named = ", ".join(map(repr, sorted(models)))
    if name is not None and name not in models:
        raise ServerError(f"{url} has no model {name!r}; it has {named}")
    if name is None and len(models) != 1:
        raise ServerError(f"{url} has {len(models)} models ({named}); say which (server.model)")
    client.model = name or next(iter(models))
    return models[client.model]


def _said(response: httpx2.Response) -> str:
    """What an answer says, shortened."""
    text = " ".join(response.text[: 4 * _QUOTED].split())
    return text[:_QUOTED] + ("..." if len(text) > _QUOTED else "") or "nothing"


def _retry_after(header: str) -> float:
    """Seconds that a Retry-After header wants, as a number or a date; 0 without one.

    >>> _retry_after("7"), _retry_after("soon")
    (7.0, 0.0)
    """
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
