"""What a run's log tells: tokens, time and memory, stage by stage, and losses on held-out text."""

from itertools import groupby
from operator import itemgetter
from typing import Any

from ..recipe.setup import Setup


def training_facts(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Tokens, time and memory of a run, from its log; empty before the first record."""
    steps = [record for record in records if "objectives" in record]
    if not steps:
        return {}
    last = steps[-1]
    machine: dict[str, Any] = next((r for r in reversed(records) if "device" in r), {})
    seconds = last["seconds"]
    return {
        "tokens": last["tokens"],
        "seconds": seconds,
        "tokens_per_second": last["tokens"] / seconds,
        "peak_memory_bytes": max(record["peak_memory_bytes"] or 0 for record in steps) or None,
        "trainable_parameters": last.get("trainable_parameters"),
        **{name: value for name, value in machine.items() if name in ("device", "precision")},
        "stages": _stages(steps),
    }


def _stages(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps, tokens and seconds of every stage, from the running totals in the log."""
    found: list[dict[str, Any]] = []
    tokens, seconds = 0, 0.0
    for _, records in groupby(steps, key=itemgetter("stage_number")):
        last = list(records)[-1]
        stage = {"name": last["stage"], "steps": last["step"]}
        stage |= {"tokens": last["tokens"] - tokens, "seconds": last["seconds"] - seconds}
        tokens, seconds = last["tokens"], last["seconds"]
        found.append(stage)
    return found


def held_out_losses(setup: Setup, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Every objective on held-out text, before the first step of its stage and after the last."""
    found: dict[str, Any] = {}
    for record in records:
        for name, value in record.get("held_out", {}).items():
            key = name if len(setup.stages) == 1 else f"{record['stage']}: {name}"
            objective = setup.stages[record["stage_number"]].objectives[name]
            found.setdefault(key, {"before": value, "unit": objective.unit})
            found[key]["after"] = value
    return found
