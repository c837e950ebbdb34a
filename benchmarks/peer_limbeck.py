"""limbeck's training steps of a job: its own batches, its own step, measured as the others are.

python peer_limbeck.py FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from one_step import ready
from peer_clock import WARM_UP, Clock
from peer_jobs import recipe

from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.models import build_models
from limbeck.system.linux import keep_freed_memory
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import learning_rate, set_learning_rate
from limbeck.training.step import train_step


def steps(folder: Path) -> dict[str, Any]:
    """What was measured of the steps of a job's folder."""
    keep_freed_memory()
    told = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    setup = prepare(recipe(told, {"model": told["student"]}))
    accelerator = build_accelerator(setup.recipe.training, "unused")
    stage, batches = setup.stages[0], stage_batches(setup, 0)
    student, teacher = build_models(setup, accelerator)
    _, wrapped, optimizer = ready(setup, student, accelerator)
    clock, tokens = Clock(told["device"]), []
    clock.begin()
    for step in range(told["steps"]):
        set_learning_rate(optimizer, learning_rate(step, stage.steps, stage.optimizer))
        batch, position = batches.batch(step), Position(0, step, 0, 0.0)
        taken = train_step(wrapped, teacher, stage, batch, optimizer, accelerator, position)
        weights = stage.weights_at(stage.progress(step))
        means = torch.stack([taken.values[n] * weights[name] for n, name in enumerate(weights)])
        clock.losses.append(means.sum())
        clock.tick()
        tokens.append(int(batch.student.mask.sum()))
    # The last step is left out, as it is of the others.
    counted = told["steps"] - 1
    return {**clock.result(counted), "tokens": sum(tokens[WARM_UP:counted])}


if __name__ == "__main__":
    print(json.dumps(steps(Path(sys.argv[1]))))
