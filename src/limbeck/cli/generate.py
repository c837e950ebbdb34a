"""The command that generates texts for training."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .terminal import console

_ROWS = 2000
_Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="DIR/NAME of the files to write; files that are there are not replaced.",
    ),
]
_Model = Annotated[
    str | None, typer.Argument(help="Folder or hub name of a decoder, without --server.")
]
_Prompts = Annotated[
    str | None,
    typer.Option(help="Prompts to answer: DIR/NAME of files, a file or folder, as data.prompts."),
]
_Server = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Let the model on an OpenAI-compatible server answer."),
]
_ServedModel = Annotated[
    str | None,
    typer.Option("--model", help="With --server: the model's name there; by default the only one."),
]
_Concurrency = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="With --server: requests at once; by default 8."),
]
_Timeout = Annotated[
    float | None,
    typer.Option(min=0.1, help="With --server: seconds for one answer; by default 300."),
]
_MaxRetries = Annotated[
    int | None,
    typer.Option(
        min=0, help="With --server: how often a failed request is repeated; by default 6."
    ),
]
_KeyVariable = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="With --server: the environment variable of its key."),
]
_MaxSamples = Annotated[
    int | None,
    typer.Option(min=1, help=f"Texts at most; by default {_ROWS:,}, or one for each prompt."),
]
_MaxNewTokens = Annotated[int, typer.Option(min=1, help="Tokens of a text at most.")]
_Temperature = Annotated[float, typer.Option(help="0 is greedy, which needs --prompts.")]
_ChatTemplate = Annotated[bool, typer.Option(help="Put prompts in the model's chat template.")]


def generate(
    output: _Output,
    model: _Model = None,
    prompts: _Prompts = None,
    server: _Server = None,
    served_model: _ServedModel = None,
    concurrency: _Concurrency = None,
    timeout: _Timeout = None,
    max_retries: _MaxRetries = None,
    api_key_env: _KeyVariable = None,
    max_samples: _MaxSamples = None,
    max_new_tokens: _MaxNewTokens = 256,
    temperature: _Temperature = 1.0,
    chat_template: _ChatTemplate = False,
    seed: int = 0,
) -> None:
    """Generate training texts with a decoder, as files of prompts.

    With --prompts the texts are answers; without it each text begins from nothing. With --server
    the model is on a server, which gives answers alone.
    """
    of_server = {
        "model": served_model,
        "concurrency": concurrency,
        "timeout": timeout,
        "max_retries": max_retries,
        "api_key_env": api_key_env,
    }
    of_server = {name: value for name, value in of_server.items() if value is not None}
    if problem := _problem(model, prompts, server, of_server, chat_template=chat_template):
        raise DataError(problem)

    from ..data.prompt_sources import parse_prompts
    from ..models.locate import model_of_run
    from ..run.generate_answers import generate_answers
    from ..run.generate_samples import generate_samples
    from ..teacher.servers.settings import ServerSettings

    asked = parse_prompts(prompts) if prompts else None
    if asked:
        settings = {"url": server, **of_server}
        of = ServerSettings.model_validate(settings) if server else model_of_run(str(model))
        answers = partial(generate_answers, of, prompts=asked, rows=max_samples)
        texts = partial(answers, chat_template=chat_template)
    else:
        texts = partial(generate_samples, model_of_run(str(model)), rows=max_samples or _ROWS)
    found = texts(
        output=output,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        console=console,
    )
    for name, count in found.items():
        console.print(f"{output.parent / name}: {count:,} texts", highlight=False, soft_wrap=True)


def _problem(
    model: str | None,
    prompts: str | None,
    server: str | None,
    of_server: Collection[str],
    *,
    chat_template: bool,
) -> str | None:
    """Why these do not go together."""
    if (model is None) == (server is None):
        given = "neither is given" if model is None else f"{model} and {server} are given"
        return f"{given}; name a MODEL that runs here, or --server URL (with --model NAME)"
    if server and not prompts:
        return "a server answers prompts; give them (--prompts DIR/NAME)"
    if of_server and not server:
        flags = [f"--{name.replace('_', '-')}" for name in of_server]
        are = "is" if len(flags) == 1 else "are"
        return f"{' and '.join(flags)} {are} for a server; give --server URL, or leave it out"
    if chat_template and not prompts:
        return "--chat-template is for prompts; give them (--prompts DIR/NAME), or leave it out"
    return None
