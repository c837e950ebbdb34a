"""The command that writes files of a model for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from ..deploy.formats import FORMATS
from ..deploy.settings import ExportSettings
from .terminal import console, print_table

_Model = Annotated[
    str, typer.Argument(metavar="MODEL_OR_RUN", help="A model or run folder, or a hub name.")
]
_Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="The folder, new or empty.")
]
_Formats = Annotated[
    str | None,
    typer.Option(
        help=f"What to make, separated by commas: {', '.join(FORMATS)}. By default all that suit"
        " the model and whose packages are installed."
    ),
]
_Keep = Annotated[
    float, typer.Option(help="The least share of the score that a file must keep, 0 to 1.")
]
_Task = Annotated[
    list[str] | None,
    typer.Option(
        help="A task that the model's head is scored on: DIR/NAME of its files, a file or folder of"
        " rows, or a mapping. May be repeated."
    ),
]
_Similarity = Annotated[
    list[str] | None,
    typer.Option(help="DIR/NAME of pairs with numbers, for vectors. May be repeated."),
]
_Force = Annotated[
    bool, typer.Option("--force", help="Write files that keep less than --keep, too.")
]
_Threads = Annotated[int | None, typer.Option(help="Processor threads.")]
_Timed = Annotated[bool, typer.Option(help="Measure milliseconds and cold start.")]


def export(
    model: _Model,
    output: _Output,
    formats: _Formats = None,
    keep: _Keep = ExportSettings.keep,
    task: _Task = None,
    similarity: _Similarity = None,
    force: _Force = False,
    threads: _Threads = None,
    timed: _Timed = True,
) -> None:
    """Write files of a model for other runtimes, and measure them.

    Every file is compared with the model in float32 on real text, and scored on the tasks that are
    named; one that keeps less than --keep is not written. `limbeck.load(DIR)` runs the fastest one.
    Of a decoder, ONNX and OpenVINO files have no cache, so they score texts; GGUF generates.
    """
    named = None if formats is None else tuple(filter(None, map(str.strip, formats.split(","))))
    settings = ExportSettings(
        formats=named,
        keep=keep,
        tasks=tuple(task or ()),
        similarity=tuple(similarity or ()),
        force=force,
        threads=threads,
        timed=timed,
    )
    settings.check(output)

    from ..deploy.export import export as export_model
    from ..deploy.report.tables import export_tables, headline
    from ..export.origin import licence_warnings
    from ..system.progress import warn

    result = export_model(model, output, settings)
    for heading, table in export_tables(result):
        print_table(heading, table)
    for note in result.notes:
        console.print(note, highlight=False, soft_wrap=True)
    console.print(headline(result), highlight=False, soft_wrap=True)
    for warning in licence_warnings(result.origins):
        warn(console, warning)
    console.print(f"report: {output / 'export.html'}", highlight=False, soft_wrap=True)
