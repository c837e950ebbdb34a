"""How large and how fast the files are, as bars."""

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from ...reports.page import COLOURS, SETTINGS, svg_of
from ..results import ExportResult

_ROW, _AROUND = 0.26, 0.75  # inches: of a bar, and of the axis below
_TORCH, _WRITTEN, _REFUSED = COLOURS["teacher"], COLOURS["student"], COLOURS["no_distillation"]
_Bar = tuple[str, float, str]  # name, value, colour


def export_plots(result: ExportResult) -> list[tuple[str, str]]:
    """Drawings with their titles: milliseconds of a short and a long text, score, size."""
    colours = {one.format: _WRITTEN if one.file else _REFUSED for one in result.candidates}
    lengths = sorted({length for _, length, *_ in result.times.rows}) if result.times else []
    found = []
    for length in dict.fromkeys([*lengths[:1], *lengths[-1:]]):
        timed = [("torch", result.times, _TORCH)]
        timed += [(one.format, one.times, colours[one.format]) for one in result.candidates]
        seconds = [
            (name, times and times.median(1, length), colour) for name, times, colour in timed
        ]
        bars = [(name, 1000 * value, colour) for name, value, colour in seconds if value]
        if bars:
            found.append((f"Milliseconds for 1 text of {length} tokens", _drawing(bars)))
    found += _scores(result, colours)
    sizes = [(one.format, one.megabytes, colours[one.format]) for one in result.candidates]
    return [*found, ("Megabytes", _drawing([("torch", result.megabytes, _TORCH), *sizes]))]


def _scores(result: ExportResult, colours: Mapping[str, str]) -> list[tuple[str, str]]:
    """A point and a 95 % interval for each file, on the first task."""
    if not result.scores:
        return []
    rows = [("torch", result.scores[0].score, _TORCH)]
    rows += [
        (x.format, x.scores[0].score, colours[x.format]) for x in result.candidates if x.scores
    ]
    with rc_context({**SETTINGS, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(4.2, _AROUND + _ROW * len(rows)), layout="constrained")
        axes = figure.subplots()
        for place, (_, one, colour) in enumerate(rows):
            axes.plot([100 * one.low, 100 * one.high], [place] * 2, color=colour, linewidth=1.8)
            axes.plot([100 * one.score], [place], "o", color=colour)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.invert_yaxis()
        drawing = svg_of(figure)
    first = result.scores[0]
    return [(f"{first.task}, {first.metric} x 100, 95 % interval", drawing)]


def _drawing(bars: Sequence[_Bar]) -> str:
    """A bar for each file, from top to bottom, with its value beside it."""
    with rc_context({**SETTINGS, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(4.2, _AROUND + _ROW * len(bars)), layout="constrained")
        axes = figure.subplots()
        names, values, colours = zip(*bars, strict=True)
        drawn = axes.barh(range(len(bars)), values, 0.7, color=colours)
        axes.bar_label(drawn, [f"{value:.3g}" for value in values], padding=3, fontsize=9)
        axes.set_yticks(range(len(bars)), names)
        axes.invert_yaxis()
        axes.margins(x=0.15)  # room for the values
        return svg_of(figure)
