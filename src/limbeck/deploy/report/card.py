"""The model card of exported files: what each keeps, how it is run, and where it may be used."""

from html import escape
from pathlib import Path

from huggingface_hub import EvalResult

from ...export.metadata import card_of, evaluation, licence_lines, metadata_of
from ...reports.report import markdown_table
from ...reports.tables import Table
from ..formats import FORMATS, EngineName
from ..results import Candidate, ExportResult
from .tables import TORCH, headline, score_text

_TASKS = {
    "vectors": "sentence-similarity",
    "sequence": "text-classification",
    "token": "token-classification",
    "masked": "fill-mask",
    "causal": "text-generation",
    "body": "feature-extraction",
}
_LIBRARIES: dict[EngineName, str] = {
    "ONNX Runtime": "onnx",
    "OpenVINO": "openvino",
    "llama.cpp": "gguf",
    "ExecuTorch": "executorch",
}
_CALLS = {
    "vectors": 'vectors = model.encode(["one text", "another"])',
    "body": 'states = model.hidden_states(["one text", "another"])',
}
_LOGITS = 'logits = model.logits(["one text", "another"])'


def export_card(result: ExportResult) -> str:
    """The card as Markdown with the hub's metadata on top.

    Args:
        result: What was measured of all files.
    """
    written = [one for one in result.candidates if one.file]
    libraries = [_LIBRARIES[FORMATS[one.format].engine] for one in written]
    default = FORMATS[result.default].engine if result.default else None
    own = [one for one in result.origins if Path(one.name).name == result.model]  # no teachers
    metadata = metadata_of(
        result.model,
        result.origins,
        library=_LIBRARIES[default] if default else None,
        pipeline_tag=_TASKS[result.kind],
        tags=[*dict.fromkeys(libraries), "limbeck"],
        datasets=[name for one in own for name in one.datasets],
        results=[found for one in written for found in _results(one)],
        same_model=len(own) == len(result.origins),
    )
    lines = [
        f"# {escape(result.model, quote=False)}",
        "",
        f"Files of `{result.model}` for other runtimes, written and measured by `limbeck export`.",
        escape(headline(result), quote=False),
        "",
        *markdown_table(_table(result, written)),
        *([f"Milliseconds are medians of {result.processor}."] if result.times else []),
        "`export.md` and `export.html` have all numbers, and those of the files that were not"
        " kept.",
        "",
        *_exactness(written),
        *(_usage(result) if written else []),
        *licence_lines(result.origins),
    ]
    return card_of(metadata, lines[:-1])


def _results(one: Candidate) -> list[EvalResult]:
    return [
        evaluation(found.task, found.metric, found.score.score, split=found.split, file=one.file)
        for found in one.scores
    ]


def _table(result: ExportResult, written: list[Candidate]) -> Table:
    """The written files: sizes, scores, and milliseconds of short and long texts."""
    places = [row[:2] for row in result.times.rows if row[0] == 1] if result.times else []
    head = ["file", "MB", *(f"{one.task}, {one.metric}" for one in result.scores)]
    head += [f"ms, {length} tokens" for _, length in places]
    rows = [(TORCH, result.megabytes, result.scores, result.times)]
    rows += [(f"`{one.file}`", one.megabytes, one.scores, one.times) for one in written]
    table = [head]
    for name, megabytes, scores, times in rows:
        medians = [times.median(*place) if times else None for place in places]
        shown = ["" if one is None else f"{1000 * one:.2f}" for one in medians]
        table.append([name, f"{megabytes:.1f}", *map(score_text, scores), *shown])
    return table


def _exactness(written: list[Candidate]) -> list[str]:
    """Where files with 8-bit sums say the same as here."""
    exact = [one for one in written if FORMATS[one.format].saturates]
    lines = [f"- `{one.file}` is exact on {one.exact_on}." for one in exact]
    return [*lines, ""] if lines else []


def _usage(result: ExportResult) -> list[str]:
    return [
        "## Usage",
        "",
        "```python",
        "import limbeck",
        "",
        'model = limbeck.load("path/to/this/folder")',
        _CALLS.get(result.kind, _LOGITS),
        "```",
        "",
        "The files need no limbeck: the engine that runs each and `tokenizer.json` are enough.",
        "",
    ]
