"""The command that generates texts to learn from."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import console

_ROWS = 2000


def generate(
    model: Annotated[str, typer.Argument(help="Folder or hub name of a decoder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="DIR/NAME of the files.")],
    prompts: Annotated[
        str | None, typer.Option(help="DIR/NAME of files of prompts that are to be answered.")
    ] = None,
    max_samples: Annotated[
        int | None,
        typer.Option(min=1, help=f"Texts: {_ROWS:,} from nothing; of prompts all, or the first."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens of a text at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy, for answers to prompts.")] = 1.0,
    chat_template: Annotated[bool, typer.Option(help="Ask in the model's chat template.")] = False,
    seed: int = 0,
) -> None:
    """Generate texts with a decoder, from nothing or from prompts, as files to learn from."""
    from ..models.locate import model_of_run
    from ..run.generate import generate_answers, generate_samples

    model = model_of_run(model)
    if prompts:
        found = generate_answers(
            model,
            output,
            prompts=prompts,
            rows=max_samples,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            chat_template=chat_template,
            seed=seed,
            console=console,
        )
    else:
        found = generate_samples(
            model,
            output,
            rows=_ROWS if max_samples is None else max_samples,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            console=console,
        )
    for name, count in found.items():
        console.print(f"{output.parent / name}: {count:,} texts", highlight=False)
