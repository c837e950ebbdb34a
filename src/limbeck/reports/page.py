"""How a report looks: its plots as SVG and its page; the same numbers give the same bytes.

Text and axes take the colour of the page, so that a plot is legible on a light
and on a dark background. Titles stand outside the drawings.
"""

import html
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from .run_results import RunResult
from .tables import Table, number_columns

Records = Sequence[Mapping[str, Any]]
Curve = list[tuple[int, float]]  # tokens, loss
ROLES = {"teacher": "teacher", "student": "student", "no_distillation": "no distillation"}
# Grey, blue and orange, which colour-blind readers distinguish too (Okabe and Ito 2008).
COLOURS = {"teacher": "#7d8597", "student": "#0072b2", "no_distillation": "#d55e00"}
MARKERS = {"teacher": "s", "student": "o", "no_distillation": "D"}
_INK = "#123456"  # a placeholder for the colour of the page, replaced in the SVG
SETTINGS: Any = {  # matplotlib types every key since 3.11, and older ones none
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
    ),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.6,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck",
}


def curves(records: Records) -> dict[str, dict[str, Curve]]:
    """Losses over tokens: {objective: {"training": points, "held out": points}}, as logged.

    With several stages the name of an objective begins with its stage, because its
    loss may mean something else there.
    """
    stages = {record["stage"] for record in records}
    found: dict[str, dict[str, Curve]] = {}
    for record in records:
        for field, kind in (("objectives", "training"), ("held_out", "held out")):
            for name, value in (record.get(field) or {}).items():
                key = name if len(stages) == 1 else f"{record['stage']}: {name}"
                points = found.setdefault(key, {"training": [], "held out": []})[kind]
                points.append((record["tokens"], value))
    return found


def plots(result: RunResult, records: Records, means: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every drawing that the numbers allow, with its title.

    Args:
        result: With the costs of the models.
        records: With the losses.
        means: Mean score of each model.
    """
    found = [
        (
            f"Loss: {name}",
            _losses(points, result.held_out[name].unit if name in result.held_out else ""),
        )
        for name, points in curves(records).items()
    ]
    models = result.models
    sizes = {role: 1e-6 * model.parameters for role, model in models.items()}
    times = {role: model.cpu_ms_per_sentence for role, model in models.items()}
    for title, label, costs in (
        ("Quality against size", "million parameters", sizes),
        ("Quality against time", "CPU ms a sentence", times),
    ):
        points = {
            role: (cost, 100 * means[role])
            for role, cost in costs.items()
            if cost and role in means
        }
        if points:
            found.append((title, _quality_against(points, label)))
    latencies = {
        role: {(x.batch, x.length): 1000 * x.p50 / x.batch for x in model.latencies}
        for role, model in models.items()
        if model.latencies
    }
    return [*found, ("Time on the CPU", _latency_bars(latencies))] if latencies else found


def page(
    name: str,
    lead: str,
    tables: Sequence[tuple[str, Table]],
    drawings: Sequence[tuple[str, str]],
    notes: Sequence[str],
) -> str:
    """An HTML page that needs nothing outside it.

    Args:
        name: Its heading.
        lead: The sentence below the heading.
        tables: Each with its heading; the first two stand before the plots.
        drawings: Title and SVG of each.
        notes: Last of all.
    """
    figures = "".join(
        f'<figure role="img" aria-label="{html.escape(title)}"><figcaption>{html.escape(title)}'
        f"</figcaption>{svg}</figure>"
        for title, svg in drawings
    )
    sections = [_html_table(heading, table) for heading, table in tables]
    sections.insert(2, f"<div class=plots>{figures}</div>" if figures else "")
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(name)}</h1><p class=lead>{html.escape(lead)}</p>{''.join(sections)}"
        f"<ul>{listed}</ul></main></body></html>\n"
    )


def cell(value: Any, key: str = "") -> str:
    """A number in a form that is easy to read; its key gives the unit."""
    if value is None or isinstance(value, str):
        return value or ""
    if key.endswith("parameters"):
        # 99.95 and more would be rounded to "100." with a bare point.
        return f"{value / 1e6:#.3g}M" if value < 99.95e6 else f"{value / 1e6:,.0f}M"
    if key.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"
    if key == "seconds":
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    if isinstance(value, float) and abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}"


def words(name: str) -> str:
    """A key as words."""
    return name.removesuffix("_bytes").replace("_", " ")


def _html_table(heading: str, table: Table) -> str:
    kinds = [" class=number" if numbers else "" for numbers in number_columns(table)]
    head, *rows = (
        "".join(
            f"<{cell}{kind}>{html.escape(text)}</{cell}>"
            for kind, text in zip(kinds, row, strict=True)
        )
        for cell, row in zip(["th", *["td"] * len(table)], table, strict=False)
    )
    body = "".join(f"<tr>{row}</tr>" for row in [head, *rows])
    return f"<h2>{html.escape(heading)}</h2><div class=scroll><table>{body}</table></div>"


_STYLE = """
:root{color-scheme:light dark;--page:#fafaf7;--card:#fff;--ink:#1d1d1b;--soft:#6b6a63;
--line:#e2e0d8}
@media (prefers-color-scheme:dark){:root{--page:#161718;--card:#1e2021;--ink:#e4e2dc;--soft:#a3a198;
--line:#36383a}}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1rem 4rem}h1{margin:0 0 .3rem;font-size:1.7rem;
overflow-wrap:anywhere}h2{margin:2.2rem 0 .4rem;font-size:1.05rem;overflow-wrap:anywhere}
.lead{font-size:1.15rem;max-width:44rem;margin:0;overflow-wrap:anywhere}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .6rem;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
.number{text-align:right}th{font-weight:600;color:var(--soft)}
th:first-child,td:first-child{padding-left:0;white-space:normal;overflow-wrap:anywhere;min-width:7rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,23rem),1fr));gap:1rem;
margin-top:2rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem}
figcaption{font-weight:600;font-size:.95rem;margin-bottom:.3rem;overflow-wrap:anywhere}
svg{width:100%;max-width:27rem;height:auto;display:block}svg text{font-family:inherit!important}
ul{margin-top:2.2rem;padding-left:1.1rem;color:var(--soft);font-size:.9rem}
"""


def _losses(points: Mapping[str, Curve], unit: str) -> str:
    """One objective against tokens, in training and on held-out text."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        looks: dict[str, dict[str, Any]] = {
            "training": {"color": COLOURS["teacher"], "linewidth": 1.1},
            "held out": {"color": COLOURS["student"], "linewidth": 1.8, "markersize": 3.5},
        }
        for kind, curve in points.items():
            if curve:
                marker = "o" if kind == "held out" or len(curve) == 1 else ""
                axes.plot(*zip(*curve, strict=True), label=kind, marker=marker, **looks[kind])
        name_lines(axes, {kind: curve[-1] for kind, curve in points.items() if curve})
        axes.margins(y=0.12)
        axes.locator_params(nbins=5)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("tokens learned from")
        axes.set_ylabel(unit.partition(",")[0] or "loss")
        return svg_of(figure)


def _quality_against(points: Mapping[str, tuple[float, float]], x_label: str) -> str:
    """Mean score of each model against what it costs."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        rightmost = max(x for x, _ in points.values())
        lowest = min(points, key=lambda role: points[role][1])
        for role, (x, y) in points.items():
            axes.scatter([x], [y], color=COLOURS[role], marker=MARKERS[role], s=55, zorder=3)
            _label(axes, role, x, y, share=x / rightmost, below=role == lowest)
        axes.margins(0.25)
        axes.set_xlim(0, 1.2 * rightmost)
        axes.set_xlabel(x_label)
        axes.set_ylabel("mean score × 100")
        return svg_of(figure)


def _latency_bars(latencies: Mapping[str, Mapping[tuple[int, int], float]]) -> str:
    """Milliseconds a text for each model, by batch size and length."""
    with rc_context({**SETTINGS, "axes.grid.axis": "y"}):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        places = sorted({place for rows in latencies.values() for place in rows})
        width = 0.8 / len(latencies)
        for number, (role, rows) in enumerate(latencies.items()):
            at = [index + (number + 0.5) * width - 0.4 for index in range(len(places))]
            heights = [rows.get(place, 0.0) for place in places]
            axes.bar(at, heights, width * 0.9, color=COLOURS[role], label=ROLES[role])
        axes.set_xticks(range(len(places)), [f"{batch} ×\n{length}" for batch, length in places])
        axes.set_xlabel("texts at once × tokens a text")
        axes.set_ylabel("ms a text, median")
        axes.legend()
        return svg_of(figure)


def _label(axes: Axes, role: str, x: float, y: float, *, share: float, below: bool) -> None:
    """The model's name beside its point, kept inside the axes and off the point above it."""
    side = "left" if share < 0.25 else "center"
    axes.annotate(
        ROLES[role],
        (x, y),
        xytext=(-4 if side == "left" else 0, -9 if below else 9),
        textcoords="offset points",
        ha=side,
        va="top" if below else "bottom",
        fontsize=9.5,
    )


def name_lines(axes: Axes, ends: Mapping[str, tuple[int | float, float]]) -> None:
    """Write the name of every line to the right of its last point, one above the other."""
    for place, name in enumerate(sorted(ends, key=lambda name: ends[name][1])):
        axes.annotate(
            name,
            ends[name],
            xytext=(7, 11 * (place - (len(ends) - 1) / 2)),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )


def svg_of(figure: Figure) -> str:
    """The drawing as text that can stand in a page, in the page's own colour."""
    text = io.StringIO()
    for background in (figure.patch, *(axes.patch for axes in figure.axes)):
        background.set_visible(False)  # the page has one
    # Without metadata nothing in the drawing names another address or the day.
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    with warnings.catch_warnings():
        # Letters of any script are drawn by the reader's program; only their width is a guess.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.print_svg(text, metadata=metadata)  # `savefig` would draw all of it twice
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :].strip().replace(_INK, "currentColor")
