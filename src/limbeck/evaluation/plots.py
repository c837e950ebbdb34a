"""Plots of a report as SVG text, the same bytes for the same numbers."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Records = Sequence[Mapping[str, Any]]
_COLOURS = {"teacher": "#555555", "student": "#0b6e4f", "no_distillation": "#c8553d"}
_NAMES = {"teacher": "teacher", "student": "student", "no_distillation": "no distillation"}


def loss_curves(records: Records) -> str | None:
    """Every objective against tokens, in training and on held-out text; None without records."""
    names = sorted(
        {n for r in records for n in {**r.get("objectives", {}), **r.get("held_out", {})}}
    )
    if not names:
        return None
    figure = Figure(figsize=(3.6 * len(names), 3.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for field, label, style in (
            ("objectives", "training", {"color": "#9bc4b5", "linewidth": 1.2}),
            ("held_out", "held out", {"color": "#0b6e4f", "linewidth": 1.8, "marker": "."}),
        ):
            points = [(r["tokens"], r[field][name]) for r in records if name in r.get(field, {})]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **style)
        _dress(axes, name, "tokens", "loss")
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def quality_against(points: Mapping[str, tuple[float, float]], x_label: str) -> str | None:
    """Mean score of each model against what it costs; None where nothing was scored."""
    if not points:
        return None
    figure = Figure(figsize=(3.9, 3.0), layout="constrained")
    axes = figure.subplots()
    for role, (x, y) in points.items():
        axes.scatter([x], [y], color=_COLOURS[role], s=60, zorder=3)
        axes.annotate(
            _NAMES[role], (x, y), textcoords="offset points", xytext=(0, 9), ha="center", fontsize=8
        )
    axes.margins(0.3)
    axes.set_xlim(left=0)
    _dress(axes, "", x_label, "mean score, %")
    return _svg(figure)


def latency_bars(latencies: Mapping[str, Mapping[tuple[int, int], float]]) -> str | None:
    """Milliseconds a text for each model, batch size and length; None without measurements."""
    places = sorted({place for rows in latencies.values() for place in rows})
    if not places:
        return None
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(latencies)
    for number, (role, rows) in enumerate(latencies.items()):
        at = [index + (number + 0.5) * width - 0.4 for index in range(len(places))]
        heights = [rows.get(place, 0.0) for place in places]
        axes.bar(at, heights, width * 0.92, color=_COLOURS[role], label=_NAMES[role])
    axes.set_xticks(range(len(places)), [f"{b} x {n}" for b, n in places])
    _dress(axes, "", "batch x length", "ms a text (median)")
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with rc_context({"svg.hashsalt": "limbeck", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :]
