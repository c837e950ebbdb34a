"""What `limbeck evaluate --cost` shows: size, memory and milliseconds of a model or of a file."""

from collections.abc import Mapping
from typing import Any

from ..reports.tables import Table
from .terminal import print_table

_MILLISECONDS = ["texts", "tokens a text", "median, ms", "95th percentile, ms", "texts a second"]


def show_cost(model: str, cost: Mapping[str, Any]) -> None:
    """Show what was measured.

    Args:
        model: The heading's name.
        cost: A `reports.model_results.Cost` or a `deploy.results.FileCost`, as JSON holds it.
    """
    print_table(f"{model}: size and memory", _facts(cost))
    rows = [_latency(*row) for row in _rows(cost)]
    print_table(f"milliseconds, {_how(cost)}", [_MILLISECONDS, *rows])


def _facts(cost: Mapping[str, Any]) -> Table:
    table = [["", ""], ["MB", f"{cost['megabytes']:,.1f}"]]
    if "format" in cost:
        table += [
            ["format", cost["format"]],
            ["cold start, ms", f"{1000 * cost['times']['cold']:,.0f}"],
        ]
    else:
        table += [
            ["parameters", f"{cost['parameters']:,}"],
            ["of them in embeddings", f"{cost['embedding_parameters']:,}"],
            ["vocabulary", f"{cost['vocabulary_size']:,}"],
        ]
        if cost["cpu_ms_per_written_piece"] is not None:
            table.append(["ms a generated token", f"{cost['cpu_ms_per_written_piece']:,.1f}"])
    if cost["peak_memory_bytes"] is not None:
        table.append(["peak memory, MB", f"{cost['peak_memory_bytes'] / 1e6:,.0f}"])
    return table


def _rows(cost: Mapping[str, Any]) -> list[tuple[int, int, float, float]]:
    """Texts at once, tokens of each, median and 95th percentile in seconds."""
    if "format" in cost:
        return [tuple(row) for row in cost["times"]["rows"]]
    names = ("batch", "length", "p50", "p95")
    return [tuple(row[name] for name in names) for row in cost["latencies"]]


def _latency(batch: int, length: int, p50: float, p95: float) -> list[str]:
    numbers = f"{1000 * p50:,.2f}", f"{1000 * p95:,.2f}", f"{batch / p50:,.0f}"
    return [str(batch), str(length), *numbers]


def _how(cost: Mapping[str, Any]) -> str:
    if "format" in cost:
        return f"{cost['engine']}, threads: {cost['threads']}"
    return f"torch in {cost['precision']}, the body alone, threads: {cost['threads']}"
