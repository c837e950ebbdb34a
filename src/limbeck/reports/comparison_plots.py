"""The drawings of a comparison, as SVG text."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from .page import SETTINGS, svg_of
from .study_results import Gap

_TEACHER = "#7d8597"
_MARKERS = "oDv^<>Pp*Xhd"
_LONGEST_NAME = 26  # longer ones would leave no room for the lines


def quality_against(
    points: Mapping[str, Sequence[tuple[float, float]]], x_label: str, teacher: str
) -> str:
    """Mean score of every arm against the cost of its student, with a line over students.

    Args:
        points: (cost, score) of each student, by arm; the teacher has a style of its own.
        x_label: What the cost is.
        teacher: What the teacher is called among the points.
    """
    colours = colormaps["tab20"]
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.6, 1.9 + 0.14 * len(points)), layout="constrained")
        axes = figure.subplots()
        for number, (arm, found) in enumerate(points.items()):
            style: dict[str, Any] = {
                "color": colours(number % 20),
                "marker": _MARKERS[number % len(_MARKERS)],
            }
            if arm == teacher:
                style = {"color": _TEACHER, "marker": "s"}
            line = zip(*sorted(found), strict=True)
            axes.plot(*line, label=_shortened(arm), linewidth=0.7, **style)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel(x_label)
        axes.set_ylabel("mean score × 100")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5)
        return svg_of(figure)


def gaps(found: Mapping[str, Gap]) -> str:
    """The difference of every arm to the control with its interval, the first arm on top."""
    with rc_context({**SETTINGS, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(4.6, 1.0 + 0.24 * len(found)), layout="constrained")
        axes = figure.subplots()
        for number, gap in enumerate(found.values()):
            low, middle, high = 100 * gap.low, 100 * gap.mean, 100 * gap.high
            axes.plot([low, high], [-number, -number], color="#16946c", linewidth=1.6)
            axes.plot([middle], [-number], "o", color="#16946c", markersize=5)
        axes.axvline(0.0, color=_TEACHER, linewidth=1.0)
        axes.set_yticks([-number for number in range(len(found))], [*map(_shortened, found)])
        axes.set_xlabel("points, with the 95 % interval")
        return svg_of(figure)


def _shortened(name: str) -> str:
    """A name as far as there is room for it; of a longer one both ends, which distinguish names."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[: half - 1]}…{name[-half:]}"
