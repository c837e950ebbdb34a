"""The commands that learn or trim a tokenizer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import console, print_table

vocabulary = typer.Typer(no_args_is_help=True, help="Make a tokenizer for a student.")
_Texts = Annotated[list[str], typer.Argument(help="Text files or hub names.")]
_Folder = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Folder of the tokenizer: a new one, or one that this command made."
    ),
]
_KINDS = ("wordpiece", "unigram", "bytes")  # as `tokenization.learn` has them
_Characters = Annotated[
    int | None, typer.Option(help="Read at most this many characters of each text.")
]


@vocabulary.command()
def learn(
    text: _Texts,
    output: _Folder,
    vocab_size: Annotated[int, typer.Option(help="Number of tokens, with the special tokens.")],
    like: Annotated[
        str | None, typer.Option(help="Normalize and split text as this model does.")
    ] = None,
    kind: Annotated[str, typer.Option(help="Without --like: " + ", ".join(_KINDS))] = "wordpiece",
    lowercase: Annotated[
        bool,
        typer.Option(
            help="Without --like: lowercase all letters; wordpiece also strips their accents."
        ),
    ] = False,
    nested: Annotated[
        bool, typer.Option(help="With --like: no token crosses a token boundary of that model.")
    ] = False,
    characters: _Characters = None,
    sample_characters: Annotated[
        int | None,
        typer.Option(
            help="Learn from about this many characters of what is read, in evenly spaced"
            " documents; by default from all, and for unigram, which is slow, from 3,000,000."
        ),
    ] = None,
) -> None:
    """Learn a tokenizer from text."""
    from ..tokenization.folders import learn_vocabulary

    report = learn_vocabulary(
        text,
        output,
        vocab_size=vocab_size,
        like=like,
        kind=kind,
        lowercase=lowercase,
        nested=nested,
        characters=characters,
        sample_characters=sample_characters,
        console=console,
    )
    _print_vocabulary(report, output)


@vocabulary.command()
def trim(
    model: Annotated[
        str, typer.Argument(help="A model folder, GGUF file, hub name or minilm-demo.")
    ],
    text: _Texts,
    output: _Folder,
    vocab_size: Annotated[
        int | None, typer.Option(help="Number of tokens to keep; or give --fraction.")
    ] = None,
    fraction: Annotated[
        float | None,
        typer.Option(help="Keep the tokens that cover this fraction of the text, as 0.999."),
    ] = None,
    with_model: Annotated[
        bool,
        typer.Option(
            "--with-model",
            help="Write the model too, without the rows of all other tokens; it answers text of the"
            " kept tokens as before.",
        ),
    ] = False,
    characters: _Characters = None,
) -> None:
    """Keep the tokens of a model's tokenizer that the texts use most."""
    if with_model:
        from ..run.trim import trim_model as trimmed
    else:
        from ..tokenization.folders import trim_vocabulary as trimmed

    report = trimmed(
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
    from ..tokenization.vocabulary_report import vocabulary_headline, vocabulary_table

    print_table("vocabulary", vocabulary_table(report))
    console.print(vocabulary_headline(report), highlight=False)
    if sizes := report.get("model"):
        before, after = (sizes[when]["parameters"] / 1e6 for when in ("before", "after"))
        said = f"{after:.1f}M of {before:.1f}M parameters, none of them changed"
        console.print(f"model: {output}, {said}", highlight=False, soft_wrap=True)
    else:
        console.print(f"tokenizer: {output}", highlight=False, soft_wrap=True)
