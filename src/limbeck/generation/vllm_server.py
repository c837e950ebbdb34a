"""A vLLM server of one's own: started for a stage, and ended with the process that started it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

from ..errors import ServerError

_NAMED = "student"  # the model's name on the server
_SECONDS_TO_START = 900.0  # of compiling and recording graphs, most of all
_SECONDS_TO_END = 20.0
_LAST_LINES = 12


class VllmSettings(NamedTuple):
    """How vLLM is started.

    Attributes:
        command: The program.
        max_model_len: Tokens of a text at most.
        dtype: float32 or bfloat16.
        gpu_memory_utilization: Share of the GPU's memory, 0 to 1.
        enforce_eager: Nothing is compiled, and no CUDA graphs are recorded.
    """

    command: str
    max_model_len: int
    dtype: str
    gpu_memory_utilization: float
    enforce_eager: bool


@contextmanager
def vllm_server(model: Path, settings: VllmSettings, log: Path) -> Iterator[str]:
    """The URL of a server of a model, which ends with the block.

    Its development mode is on, by which it takes new weights; so it listens to this machine alone.

    Args:
        model: A folder with configuration, tokenizer and weights.
        settings: How vLLM is started.
        log: A file for what it prints.

    Raises:
        ServerError: It does not start, or ends within the block.
    """
    port = _free_port()
    command = [sys.executable, "-m", "limbeck.system.leash", settings.command, "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", _NAMED]
    command += ["--max-model-len", str(settings.max_model_len), "--dtype", settings.dtype]
    command += ["--gpu-memory-utilization", f"{settings.gpu_memory_utilization:g}"]
    # Without the sampling options that the model's own generation configuration has.
    command += ["--generation-config", "vllm"]
    command += ["--enforce-eager"] * settings.enforce_eager
    with log.open("w", encoding="utf-8") as printed:
        process = subprocess.Popen(
            command,
            env={**os.environ, "VLLM_SERVER_DEV_MODE": "1"},
            stdin=subprocess.PIPE,  # the leash ends vLLM when this is closed, in whatever way
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes to this process alone
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url, command[3:], log)
        try:
            yield url
        except ServerError as error:
            if (code := process.poll()) is None:
                raise
            raise ServerError(
                f"{error}. vLLM has ended with {code}; {log} has what it printed:\n{_last(log)}"
            ) from error
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, command: Sequence[str], log: Path) -> None:
    """Wait until the server answers.

    Raises:
        ServerError: It ends instead, or takes too long.
    """
    ends = time.monotonic() + _SECONDS_TO_START
    with httpx2.Client(trust_env=False, timeout=5.0) as client:
        while process.poll() is None and time.monotonic() < ends:
            try:
                if client.get(f"{url}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
    code = process.poll()
    how = "does not answer" if code is None else f"ended with {code}"
    raise ServerError(f"vLLM {how} ({' '.join(command)}); {log} has what it printed:\n{_last(log)}")


def _last(log: Path) -> str:
    """The last lines of a file."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-_LAST_LINES:]) or "nothing"
