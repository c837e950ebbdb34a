"""What a run's log tells: tokens, time and memory, stage by stage, and losses on held-out text."""

from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any

from ..recipe.setup import Setup
from ..reports.memory import with_rest
from ..reports.run_results import HeldOutLoss, StageFacts, TrainingFacts


def training_facts(records: list[dict[str, Any]]) -> TrainingFacts | None:
    """Tokens, time and memory of a run, from its log; None before the first record."""
    steps = [record for record in records if "objectives" in record]
    if not steps:
        return None
    last = steps[-1]
    machine: dict[str, Any] = next((r for r in reversed(records) if "device" in r), {})
    seconds = last["seconds"]
    return TrainingFacts(
        tokens=last["tokens"],
        seconds=seconds,
        tokens_per_second=last["tokens"] / seconds,
        peak_memory_bytes=max(record["peak_memory_bytes"] or 0 for record in steps) or None,
        trainable_parameters=last.get("trainable_parameters"),
        device=machine.get("device"),
        precision=machine.get("precision"),
        stages=_stages(steps),
        memory=_memory(steps, machine.get("held_before_bytes")),
        mfu=_mfu(steps),
    )


def _mfu(steps: list[dict[str, Any]]) -> float | None:
    """The mean over all seconds; None where a record does not say."""
    if not all("mfu" in record for record in steps):
        return None
    before: list[float] = [0.0, *(record["seconds"] for record in steps)]
    spent = [float(record["seconds"]) - last for record, last in zip(steps, before, strict=False)]
    used = sum(float(record["mfu"]) * each for record, each in zip(steps, spent, strict=True))
    return used / sum(spent)


def _memory(steps: list[dict[str, Any]], before: int | None) -> dict[str, int | None] | None:
    """What the stage that held the most has held, and the rest of its peak."""
    told = [record for record in steps if "memory" in record]
    if not told:
        return None
    most = max(told, key=lambda record: sum(record["memory"].values()))
    return with_rest(most["memory"], before, most["peak_memory_bytes"])


def _stages(steps: list[dict[str, Any]]) -> list[StageFacts]:
    """Steps, tokens and seconds of every stage, from the running totals in the log."""
    found: list[StageFacts] = []
    tokens, seconds = 0, 0.0
    for _, records in groupby(steps, key=itemgetter("stage_number")):
        last = list(records)[-1]
        found.append(
            StageFacts(
                name=last["stage"],
                steps=last["step"],
                tokens=last["tokens"] - tokens,
                seconds=last["seconds"] - seconds,
            )
        )
        tokens, seconds = last["tokens"], last["seconds"]
    return found


def held_out_losses(setup: Setup, records: list[dict[str, Any]]) -> dict[str, HeldOutLoss]:
    """Every objective on held-out text, before the first step of its stage and after the last."""
    found: dict[str, HeldOutLoss] = {}
    for record in records:
        for name, value in record.get("held_out", {}).items():
            key = name if len(setup.stages) == 1 else f"{record['stage']}: {name}"
            unit = setup.stages[record["stage_number"]].objectives[name].unit
            first = found.get(key, HeldOutLoss(before=value, unit=unit, after=value))
            found[key] = replace(first, after=value)
    return found
