"""What was measured of limbeck's and another package's steps, as ratios and tables."""

import statistics
from typing import Any

from peer_jobs import JOBS

AIMS = {"cpu": 4.0, "cuda": 3.0}  # times as fast
MEMORY_AIM = 0.5
Rounds = list[tuple[dict[str, Any], dict[str, Any]]]  # limbeck's and the package's
Table = dict[str, list[Any]]


def summary(package: str, rounds: Rounds, device: str) -> dict[str, Any]:
    """Medians over the rounds, and the losses of the first.

    Speeds are by processor time on a processor, of all threads together, else by the clock.
    """

    def middle(name: str, side: int) -> float:
        return statistics.median(pair[side][name] for pair in rounds)

    def taken(found: dict[str, Any], name: str) -> float:
        # What the teacher has done before the training belongs to it.
        return float(found[name] + found.get(f"encoding_{name}", 0.0))

    def ratio(name: str) -> float:
        return statistics.median(taken(theirs, name) / mine[name] for mine, theirs in rounds)

    mine, theirs = rounds[0]
    spent = "processor_seconds" if device == "cpu" else "seconds"
    others = statistics.median(taken(found, spent) for _, found in rounds)
    return {
        "name": f"{package} {theirs['versions'][package]}",
        "what": JOBS[package].what,
        "versions": theirs["versions"],
        "limbeck_tokens_per_second": mine["tokens"] / middle(spent, 0),
        "tokens_per_second": mine["tokens"] / others,
        "speed_ratio": ratio(spent),
        "clock_ratio": ratio("seconds"),
        "encoding_share": theirs.get(f"encoding_{spent}", 0.0) / taken(theirs, spent),
        "limbeck_bytes": middle("bytes", 0),
        "bytes": middle("bytes", 1),
        "memory_ratio": middle("bytes", 0) / middle("bytes", 1),
        "whole_memory_ratio": middle("whole_bytes", 0) / middle("whole_bytes", 1),
        "limbeck_losses": [mine["losses"][0], mine["losses"][-1]],
        "losses": [theirs["losses"][0], theirs["losses"][-1]],
        "rounds": rounds,
    }


def tables(found: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Speed, memory and losses: columns with the format of their numbers, and rows."""
    speed = [["trainer", ""], ["training", ""], ["tokens/s", ",.0f"], ["limbeck", ",.0f"]]
    speed += [["times as fast", ".2f"], ["by the clock", ".2f"]]
    memory = [["trainer", ""], ["MB", ",.0f"], ["limbeck", ",.0f"], ["memory", ".2f"]]
    memory += [["whole process", ".2f"]]
    losses = [["trainer", ""], ["first loss", ".5f"], ["limbeck", ".5f"]]
    losses += [["last loss", ".5f"], ["limbeck, last", ".5f"]]
    rows: dict[str, list[Any]] = {"speed": [], "memory": [], "losses": []}
    for facts in found.values():
        name = facts["name"]
        spent = (facts["tokens_per_second"], facts["limbeck_tokens_per_second"])
        ratios = (facts["speed_ratio"], facts["clock_ratio"])
        rows["speed"].append([name, facts["what"], *spent, *ratios])
        sizes = (facts["bytes"] / 1e6, facts["limbeck_bytes"] / 1e6)
        shares = (facts["memory_ratio"], facts["whole_memory_ratio"])
        rows["memory"].append([name, *sizes, *shares])
        pairs = zip(facts["losses"], facts["limbeck_losses"], strict=True)
        rows["losses"].append([name, *(loss for pair in pairs for loss in pair)])
    columns = {"speed": speed, "memory": memory, "losses": losses}
    return {which: {"columns": columns[which], "rows": rows[which]} for which in rows}


def print_tables(given: dict[str, Table], device: str) -> None:
    """The tables, with the aims."""
    for which, table in given.items():
        names, formats = zip(*table["columns"], strict=True)
        cells = [
            [format(value, form) for value, form in zip(row, formats, strict=True)]
            for row in table["rows"]
        ]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
        aim = {"speed": f"aim {AIMS[device]:g} times", "memory": f"aim {MEMORY_AIM:g}"}.get(which)
        print(f"\n{which}" + (f", {aim}" if aim else ""))
        for row in [names, *cells]:
            shown = zip(row, widths, formats, strict=True)
            print("  ".join(f"{c:>{w}}" if form else f"{c:{w}}" for c, w, form in shown))
    print()
