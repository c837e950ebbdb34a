"""The command that makes more rows out of those of a task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..augmentation.settings import AugmentSettings
from .terminal import console, one_of, print_table

if TYPE_CHECKING:
    from ..augmentation.augment import Augmented

_Rows = Annotated[
    list[str],
    typer.Argument(
        metavar="TASK_OR_ROWS...",
        help="DIR/NAME of a task's files; a file or folder of rows; or a mapping, as '{path:"
        " reviews.csv, text: body}'. Their training rows are used.",
    ),
]
_Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write, .jsonl.")
]
_Masked = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Replace words by candidates of this encoder, which needs a vocabulary head.",
    ),
]
_Spans = Annotated[
    bool, typer.Option("--spans", help="Join a span of one row and a span of another.")
]
_Neighbors = Annotated[
    bool, typer.Option("--neighbors", help="Pair texts that share many of their words.")
]
_Edits = Annotated[bool, typer.Option("--edits", help="Pair a text with edited copies of it.")]
_Similarity = Annotated[
    float, typer.Option(help="With --neighbors: least cosine of the TF-IDF of two texts.")
]
_Copies = Annotated[int, typer.Option(help="The most rows that each way makes of a row or text.")]
_Scored = Annotated[
    list[str] | None,
    typer.Option(
        help="Another task whose scored rows must not be made again, or a file of such rows. May be"
        " repeated."
    ),
]
_Predict = Annotated[
    str | None,
    typer.Option(
        help="Of rows that have a text and words: label makes rows of their texts, tags of their"
        " words. By default texts, but words of rows that have tags and no label."
    ),
]
_Probability = Annotated[float, typer.Option(help="With --masked: probability for each word.")]
_TopK = Annotated[int, typer.Option(help="With --masked: candidates for a word.")]
_Length = Annotated[int, typer.Option(help="With --masked: tokens of a text that are read.")]
_Batch = Annotated[int, typer.Option(help="With --masked: texts at once.")]
_Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu")]
_Precision = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 where the hardware has it.")
]


def augment(
    rows: _Rows,
    output: _Output,
    masked: _Masked = None,
    spans: _Spans = False,
    neighbors: _Neighbors = False,
    edits: _Edits = False,
    copies: _Copies = AugmentSettings.copies,
    scored: _Scored = None,
    replace_prob: _Probability = AugmentSettings.replace_prob,
    top_k: _TopK = AugmentSettings.top_k,
    min_similarity: _Similarity = AugmentSettings.min_similarity,
    max_length: _Length = AugmentSettings.max_length,
    batch_size: _Batch = AugmentSettings.batch_size,
    device: _Device = AugmentSettings.device,
    precision: _Precision = AugmentSettings.precision,
    seed: int = 0,
    predict: _Predict = None,
) -> None:
    """Make more unlabelled rows from the training rows of a task.

    A recipe names FILE as `data: {rows: [FILE]}`, and its teacher labels them. No new row has the
    normalised text of a scored row, a training row or another new row.
    """
    settings = AugmentSettings(
        masked=masked,
        spans=spans,
        neighbors=neighbors,
        edits=edits,
        copies=copies,
        replace_prob=replace_prob,
        top_k=top_k,
        max_length=max_length,
        min_similarity=min_similarity,
        batch_size=batch_size,
        device=one_of("device", device, ("auto", "cuda", "mps", "cpu")),
        precision=one_of("precision", precision, ("auto", "float32", "bfloat16")),
        seed=seed,
        predict=one_of("predict", predict, ("label", "tags")) if predict else None,
    )
    settings.check()

    from ..augmentation.augment import augment as make_rows

    _warn_of_emulation(settings)
    found = make_rows(rows, output, settings, scored=scored or (), console=console)
    for note in found.notes:
        console.print(note, highlight=False, soft_wrap=True)
    print_table("new rows", _table(found))
    count = sum(found.kept.values())
    console.print(f"{output}: {count:,} rows", highlight=False, soft_wrap=True)


def _warn_of_emulation(settings: AugmentSettings) -> None:
    from ..system.device import choose_device, choose_precision, emulation_warning
    from ..system.progress import warn

    if settings.masked is None:
        return
    device = choose_device(settings.device)
    if warning := emulation_warning(choose_precision(settings.precision, device), device):
        warn(console, warning)


def _table(found: "Augmented") -> list[list[str]]:
    """For each way the rows that were written, and the others by the reason."""
    reasons = list(dict.fromkeys(reason for some in found.dropped.values() for reason in some))
    head = ["way", "written", *(f"dropped: {reason}" for reason in reasons)]
    return [
        head,
        *(
            [way, f"{count:,}", *(f"{found.dropped[way].get(reason, 0):,}" for reason in reasons)]
            for way, count in found.kept.items()
        ),
    ]
