"""How a server is reached and asked, as a recipe may set it. Torch is not imported here."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from ...system.numbers import Number, Whole

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ServerSettings(BaseModel):
    """An OpenAI-compatible server; its URL alone stands for ``{url: URL}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="as http://localhost:8000")
    model: str | None = Field(
        None, description="its name on the server; by default the only one that the server has"
    )
    top_k: Whole = Field(
        20,
        ge=1,
        description="log-probabilities at each place; vLLM gives 20 at most unless it was started"
        " with --max-logprobs",
    )
    concurrency: Whole = Field(8, ge=1, le=1024, description="requests at once")
    timeout: Number = Field(300.0, gt=0, description="seconds for the answer to one request")
    max_retries: Whole = Field(
        6, ge=0, description="times that a request is repeated where the server fails or is busy"
    )
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the key"
    )

    @property
    def base(self) -> str:
        """The URL without the end that every address of the API has."""
        return self.url.rstrip("/").removesuffix("/v1")


def as_server(value: Any) -> Any:
    """A server's URL alone stands for the settings that have nothing but it."""
    return {"url": value} if isinstance(value, str) else value


def with_server(raw: Mapping[str, Any], *, url: str | None, top_k: int | None) -> dict[str, Any]:
    """A recipe whose teacher is on the server at a URL, or on the one that it names.

    Args:
        raw: As it was written; without a teacher, or without a server, it stays as it is.
        url: Takes the place of the one that the recipe names.
        top_k: Takes the place of what the recipe wants of the server.
    """
    teacher = raw.get("teacher")
    known = {"model": teacher} if isinstance(teacher, str) else teacher
    if not isinstance(known, Mapping):
        return dict(raw)
    server = as_server(known.get("server"))
    server = dict(server) if isinstance(server, Mapping) else {}
    server |= {"url": url} if url else {}
    if not server:
        return dict(raw)
    server |= {"top_k": top_k} if top_k else {}
    return {**raw, "teacher": {**known, "server": server}}


def settings_problems(settings: ServerSettings) -> list[tuple[str, str]]:
    """What cannot be a URL or the name of a variable: field and message, which tells no secret.

    >>> settings_problems(ServerSettings(url="localhost:8000"))[0][0]
    'url'
    """
    found = []
    if problem := _url_problem(settings.url):
        found.append(("url", problem))
    if settings.api_key_env is not None and not _VARIABLE.fullmatch(settings.api_key_env):
        message = "is no name of an environment variable; give the name of the one that holds the"
        found.append(("api_key_env", f"{message} key, never the key itself"))
    return found


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number raises
    except ValueError as error:
        return f"is no URL ({error}); give one as http://localhost:8000"
    if "@" in url or parts.query:
        return "holds a password or a key; give that by `api_key_env`, the name of a variable"
    if not url.isprintable() or " " in url:
        return f"is {url!r}, with spaces or line breaks; give one as http://localhost:8000"
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        return f"is {url!r}; give the server's address alone, as http://localhost:8000"
    return None
