"""How the process ends: its exit code, what it prints, and how a launched process leaves."""

import os
import signal
import subprocess
import sys

import pytest

from limbeck.cli.main import run_command

# Python's shutdown runs what `atexit` holds; here that aborts, as it may do after a process group.
ABORTS_AT_SHUTDOWN = (
    "import atexit, os, sys; atexit.register(os.abort); sys.argv = ['limbeck', *sys.argv[1:]];"
    "from limbeck.cli.main import main; main()"
)


def run(*words: str, processes: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ABORTS_AT_SHUTDOWN, *words],
        env={**os.environ, "WORLD_SIZE": str(processes)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list", "methods"), 0, "classical-distillation"),
        (("list", "everything"), 1, "use objectives or presets"),
        (("liszt",), 2, "No such command"),
    ],
)
def test_a_launched_process_ends_without_the_shutdown_of_python(words, code, said):
    done = run(*words, processes=2)
    assert done.returncode == code and said in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    "command", ["augment", "evaluate", "export", "finetune", "generate", "init", "push"]
)
def test_what_one_process_does_is_not_done_by_each_of_several(command, monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["limbeck", command, "model"])
    assert run_command() == 1
    assert f"limbeck {command} runs in one process, not 2" in " ".join(
        capfd.readouterr().err.split()
    )


def test_a_single_process_ends_as_python_does():
    assert run("list", "methods", processes=1).returncode == -signal.SIGABRT


@pytest.mark.parametrize(("variable", "escapes"), [("JPY_PARENT_PID", False), ("NOTHING", True)])
def test_a_notebook_gets_plain_text(variable, escapes):
    """Jupyter sets FORCE_COLOR, and shows what moves a cursor as it is."""
    done = subprocess.run(
        [sys.executable, "-m", "limbeck", "list", "methods"],
        env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-color", variable: "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("\x1b[" in done.stdout) == escapes


def test_letters_that_an_output_lacks_are_escaped():
    """On Windows, a file that output is redirected to has the encoding of the locale."""
    program = "import limbeck.cli.main as m; m.app = lambda: m.console.print('маска'); m.main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "маска".encode("ascii", "backslashreplace").decode() + "\n"
