"""Training from cached signals against training with a live teacher, in one run.

The same student takes the same steps on the same batches, once with the live teacher and once from
the signals of `limbeck cache`. Both are measured alternately, and ratios are of medians. Losses are
compared step by step: exact signals must give the live losses, sampled ones scatter around them.
Finally every student is evaluated on held-out text against the live teacher: the kind of its
signals must make no difference.

    python benchmarks/cached.py [--teacher minilm-demo] [--text FILE] [--objective relations]
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from one_step import STUDENT

from limbeck.demo.run import HERE
from limbeck.recipe.check import prepare
from limbeck.recipe.setup import Setup
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.system.linux import keep_freed_memory
from limbeck.teacher.live import LiveTeacher
from limbeck.teacher.manifest import Kind
from limbeck.training.ahead import made_ahead
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import build_optimizer
from limbeck.training.step import mean_values, train_step

WARM_UP = 2
OBJECTIVES: dict[str, dict[str, Any]] = {
    "relations": {"relations": {"heads": 16}},
    "logits": {"logits": {}},
    "hidden_states": {"hidden_states": {"layers": "uniform+top"}},
}


def recipe(given: argparse.Namespace, objectives: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a student of 3 x 256."""
    return {
        "teacher": given.teacher,
        "student": STUDENT,
        "data": {
            "text": given.text,
            "max_length": given.length,
            "held_out": {"sequences": given.batch},
        },
        "stages": [{"objectives": objectives, "max_steps": given.steps, "batch_size": given.batch}],
    }


def run(setup: Setup, steps: int, judge: LiveTeacher, *, cached: bool) -> dict[str, Any]:
    """Seconds and loss of each step, seconds of waiting for batches, final held-out loss."""
    accelerator = build_accelerator(setup.recipe.training, ".")
    student, live = build_models(setup, accelerator)
    learner = build_learner(setup, student, 0)
    stage = setup.stages[0]
    teacher = open_cache(setup, accelerator.device) if cached else live
    optimizer = build_optimizer(learner, stage.optimizer)
    seconds, losses = [], []
    with made_ahead(stage_batches(setup, 0), steps) as ahead:
        for step in range(steps):
            began = time.perf_counter()
            batch = ahead.batch(step)
            position = Position(0, step, 0, 0.0)
            taken = train_step(learner, teacher, stage, batch, optimizer, accelerator, position)
            if step >= WARM_UP:
                seconds.append(time.perf_counter() - began)
            else:
                ahead.waited = 0.0
            losses.append(sum(taken.means.values()))
    held_out = mean_values(learner, judge, stage, stage_held_out(setup, 0), accelerator)
    after = sum(held_out.values())
    return {"seconds": seconds, "losses": losses, "waited": ahead.waited, "after": after}


def main() -> None:
    """Print a table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="minilm-demo")
    parser.add_argument("--text", default=str(HERE / "novels.txt.gz"))
    parser.add_argument("--objective", choices=OBJECTIVES, default="relations")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    keep_freed_memory()
    objectives = OBJECTIVES[given.objective]
    kinds = [Kind()]
    if given.objective == "logits":
        kinds += [Kind("top_k", 64), Kind("sampled", 64)]
    facts: dict[str, Any] = {"teacher": given.teacher, "objective": given.objective}
    with tempfile.TemporaryDirectory() as place:
        setup = prepare(recipe(given, objectives))
        ways: dict[str, Setup] = {"live": setup}
        for kind in kinds:
            folder = Path(place) / kind.logits
            size = write_cache(setup, folder, kind, build_accelerator(setup.recipe.training, place))
            facts[f"{kind.logits}_bytes_a_token"] = size.bytes_a_token
            raw = {**recipe(given, objectives), "teacher": {"cache": str(folder)}}
            ways[kind.logits] = prepare(raw)
        _, judge = build_models(setup, build_accelerator(setup.recipe.training, place))
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                found[name].append(run(way, given.steps, judge, cached=name != "live"))
    tokens = given.batch * given.length
    live = statistics.median(s for r in found["live"] for s in r["seconds"])
    print(
        f"{'':10}{'ms a step':>12}{'tokens/s':>12}{'x live':>8}{'waited':>9}{'loss off by':>13}"
        f"{'after':>9}"
    )
    for name, runs in found.items():
        middle = statistics.median(s for r in runs for s in r["seconds"])
        waited = sum(r["waited"] for r in runs) / sum(sum(r["seconds"]) for r in runs)
        pairs = zip(runs[0]["losses"], found["live"][0]["losses"], strict=True)
        off = max(abs(a - b) / abs(b) for a, b in pairs)
        facts[f"{name}_held_out_after"] = runs[0]["after"]
        facts |= {f"{name}_tokens_per_second": tokens / middle, f"{name}_waited_share": waited}
        if name != "live":
            facts |= {f"{name}_to_live_ratio": live / middle, f"{name}_loss_off_by": off}
        print(
            f"{name:10}{1000 * middle:12.1f}{tokens / middle:12,.0f}{live / middle:8.2f}"
            f"{waited:9.2%}{off:13.1e}{runs[0]['after']:9.4f}"
        )
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
