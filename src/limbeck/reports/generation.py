"""Of a student that writes: who wrote what it learned from, and how good it is by position."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from .page import SETTINGS, Records, svg_of
from .tables import Table

# Metrics of written texts that are no shares: they stand as they are.
PLAIN_METRICS = {"bits_per_byte", "perplexity", "words"}
_PARTS = ("first third", "middle third", "last third")
_SHADES = ("#9fd4c2", "#16946c", "#0b4a36")
_ROWS = 5  # of the table over the training
_SAID = {
    "bits_per_piece": "bits a token of the references",
    "agreement_on_references": "same likeliest token as the teacher, on references",
    "agreement_on_own_text": "same likeliest token as the teacher, on its own text",
}


def position_table(found: Mapping[str, Sequence[float]]) -> Table:
    """What was measured in each part of texts; the first row is the table's head."""
    rows = [
        [
            _SAID.get(name, name),
            *(f"{value:.3f}" for value in parts),
            f"{parts[-1] - parts[0]:+.3f}",
        ]
        for name, parts in found.items()
    ]
    return [["", *_PARTS, "last minus first"], *rows]


def positions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Arms of a study, three numbers in a cell: the first, middle and last third of texts."""
    some = {row["arm"]: row["by_position"] for row in rows if row.get("by_position")}
    # An arm without a teacher, or with tokens of its own, agrees with nobody.
    names = list(dict.fromkeys(name for parts in some.values() for name in parts))
    return [
        ["arm", *(_SAID.get(name, name) for name in names)],
        *(
            [arm, *(", ".join(plain_number(x) for x in parts.get(name, ())) for name in names)]
            for arm, parts in some.items()
        ),
    ]


def plain_number(value: float | None) -> str:
    """Three places, or nothing.

    >>> plain_number(0.12345), plain_number(None)
    ('0.123', '')
    """
    return "" if value is None else f"{value:.3f}"


def writing_tables(report: Mapping[str, Any], records: Records) -> list[tuple[str, Table]]:
    """Tables with their headings; the first row of each is its head."""
    wrote = [record for record in records if record.get("teacher_wrote")]
    chosen = {round(n * (len(wrote) - 1) / (_ROWS - 1)) for n in range(_ROWS)} if wrote else set()
    shares = [
        [
            f"{wrote[n]['stage']}, {wrote[n]['step']:,}",
            *(f"{share:.0%}" for share in wrote[n]["teacher_wrote"]),
            f"{wrote[n]['written_length']:.0f}",
            f"{wrote[n]['written_ended']:.0%}",
        ]
        for n in sorted(chosen)
    ]
    return [
        ("By position in held-out texts", position_table(report.get("by_position") or {})),
        (
            "What the teacher wrote of the text that was learned from",
            [["step", *_PARTS, "tokens", "came to an end"], *shares],
        ),
    ]


def share_plot(records: Records) -> list[tuple[str, str]]:
    """The teacher's share over the training, by position; nothing where nobody wrote."""
    wrote = [record for record in records if record.get("teacher_wrote")]
    if not wrote:
        return []
    with rc_context(SETTINGS):
        figure = Figure(figsize=(4.2, 2.9), layout="constrained")
        axes = figure.subplots()
        tokens = [record["tokens"] for record in wrote]
        for part, (name, shade) in enumerate(zip(_PARTS, _SHADES, strict=True)):
            shares = [record["teacher_wrote"][part] for record in wrote]
            axes.plot(
                tokens, shares, label=name, color=shade, marker="o" if len(wrote) == 1 else ""
            )
        axes.set_ylim(0, 1)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("tokens learned from")
        axes.set_ylabel("written by the teacher")
        axes.legend()
        return [("Who wrote", svg_of(figure))]
