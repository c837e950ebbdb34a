"""The command that generates texts for training."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .terminal import console

_ROWS = 2000


def generate(
    model: Annotated[str, typer.Argument(help="Folder or hub name of a decoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="DIR/NAME of the files to write.")],
    prompts: Annotated[
        str | None, typer.Option(help="DIR/NAME of files of prompts to answer.")
    ] = None,
    max_samples: Annotated[
        int | None,
        typer.Option(min=1, help=f"Texts at most; by default {_ROWS:,}, or one for each prompt."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy; it needs --prompts.")] = 1.0,
    chat_template: Annotated[
        bool, typer.Option(help="Put prompts in the model's chat template.")
    ] = False,
    seed: int = 0,
) -> None:
    """Generate training texts with a decoder, as files of prompts.

    With --prompts the texts are answers; without it each text begins from nothing.
    """
    from ..models.locate import model_of_run
    from ..run.generate_answers import generate_answers
    from ..run.generate_samples import generate_samples

    if prompts:
        texts = partial(
            generate_answers, prompts=prompts, rows=max_samples, chat_template=chat_template
        )
    else:
        texts = partial(generate_samples, rows=_ROWS if max_samples is None else max_samples)
    found = texts(
        model_of_run(model),
        output,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        console=console,
    )
    for name, count in found.items():
        console.print(f"{output.parent / name}: {count:,} texts", highlight=False)
