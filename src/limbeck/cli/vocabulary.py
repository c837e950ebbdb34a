"""The commands that make vocabularies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import console, print_table

vocabulary = typer.Typer(no_args_is_help=True, help="Make vocabularies for students.")
_Texts = Annotated[list[str], typer.Argument(help="Text files or hub names.")]
_Folder = Annotated[
    Path,
    typer.Option("--output", "-o", help="The tokenizer's folder, new or made by this command."),
]
_KINDS = ("wordpiece", "unigram", "bytes")  # as `tokenization.learn` has them
_Characters = Annotated[int | None, typer.Option(help="Read at most so many of each text.")]


@vocabulary.command()
def learn(
    text: _Texts,
    output: _Folder,
    vocab_size: Annotated[int, typer.Option(help="Tokens, special tokens included.")],
    like: Annotated[str | None, typer.Option(help="Treat text as this model does.")] = None,
    kind: Annotated[str, typer.Option(help=" or ".join(_KINDS) + "; without --like")] = "wordpiece",
    lowercase: Annotated[
        bool,
        typer.Option(
            help="Without --like: all letters become small, and with wordpiece lose their accents."
        ),
    ] = False,
    nested: Annotated[
        bool, typer.Option(help="With --like: no token over a place where that model cuts.")
    ] = False,
    characters: _Characters = None,
) -> None:
    """Learn a tokenizer from text."""
    from ..tokenization.make import learn_vocabulary

    report = learn_vocabulary(
        text,
        output,
        vocab_size=vocab_size,
        like=like,
        kind=kind,
        lowercase=lowercase,
        nested=nested,
        characters=characters,
        console=console,
    )
    _print_vocabulary(report, output)


@vocabulary.command()
def trim(
    model: Annotated[str, typer.Argument(help="Model folder, hub name or minilm-demo.")],
    text: _Texts,
    output: _Folder,
    vocab_size: Annotated[
        int | None, typer.Option(help="Tokens that stay; or give a fraction.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Keep what makes up this fraction of the text, as 0.999.")
    ] = None,
    characters: _Characters = None,
) -> None:
    """Keep those tokens of a model's tokenizer that texts use most."""
    from ..tokenization.make import trim_vocabulary

    report = trim_vocabulary(
        model,
        text,
        output,
        vocab_size=vocab_size,
        fraction=fraction,
        characters=characters,
        console=console,
    )
    _print_vocabulary(report, output)


def _print_vocabulary(report: dict[str, Any], output: Path) -> None:
    from ..tokenization.make import vocabulary_headline, vocabulary_table

    print_table("vocabulary", vocabulary_table(report))
    console.print(vocabulary_headline(report), highlight=False)
    console.print(f"tokenizer: {output}", highlight=False)
