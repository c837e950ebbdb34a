"""The command that lets a decoder write texts to learn from."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import console

_ROWS = 2000


def sample(
    model: Annotated[str, typer.Argument(help="Folder or hub name of a decoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="DIR/NAME of the files.")],
    prompts: Annotated[
        str | None, typer.Option(help="DIR/NAME of files of prompts that are to be answered.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help=f"Texts: {_ROWS:,} from nothing; of prompts all, or the first."),
    ] = None,
    response: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 256,
    temperature: Annotated[
        float, typer.Option(help="Of answers, 0 takes the likeliest tokens.")
    ] = 1.0,
    chat: Annotated[bool, typer.Option(help="Ask in the model's chat template.")] = False,
    seed: int = 0,
) -> None:
    """Let a decoder write texts, from nothing or from prompts, as files to learn from."""
    from ..models.locate import model_of_run
    from ..run.generate import write_answers, write_samples

    model = model_of_run(model)
    if prompts:
        found = write_answers(
            model,
            output,
            prompts=prompts,
            rows=rows,
            response=response,
            temperature=temperature,
            chat=chat,
            seed=seed,
            console=console,
        )
    else:
        found = write_samples(
            model,
            output,
            rows=_ROWS if rows is None else rows,
            response=response,
            temperature=temperature,
            seed=seed,
            console=console,
        )
    for name, count in found.items():
        console.print(f"{output.parent / name}: {count:,} texts", highlight=False)
