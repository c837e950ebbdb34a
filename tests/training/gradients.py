"""What every objective's gradients are when a step is shared: started by a launcher.

    gradients.py DEVICE FOLDER ROWS MICRO_BATCH_SIZE ...

Writes, for every objective of the list, the gradients that the optimizer would see and the
means that the log would show, once per way of cutting the step.
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from conftest import make_batch, make_model
from safetensors.torch import save_file

from limbeck.activations import Needs
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import submodule
from limbeck.models.shapes import shape_of
from limbeck.objectives import OBJECTIVES
from limbeck.student.projections import Projections
from limbeck.teacher.live import LiveTeacher
from limbeck.training.checkpoint import Position
from limbeck.training.processes import Share, shard_layers, spread, whole
from limbeck.training.stages import Learner, OptimizerSettings, Stage
from limbeck.training.step import train_step

FAMILIES = ("bert", "llama")


class Still(torch.optim.SGD):
    """Keeps everything as it is, so that the gradients can be looked at."""

    def step(self, closure=None):
        return None


def learner_of(name: str, family: str, accelerator: Accelerator):
    architecture = ARCHITECTURES[family]
    teacher = make_model(family, seed=1).requires_grad_(False).to(accelerator.device)
    student = make_model(family, hidden=16, layers=2, seed=2)
    shapes = [shape_of(m.config, architecture) for m in (student, teacher)]
    objective = OBJECTIVES[name]().bound(*shapes)
    projections = Projections(objective.projection_sizes(*shapes), seed=0)
    learner = Learner(student, {name: projections}, architecture, {name: objective}).train(False)
    shard_layers(submodule(teacher.base_model, architecture.layers), accelerator)
    asks = objective.teacher_needs() != Needs()
    return learner, objective, LiveTeacher(teacher, architecture) if asks else None


def gradients(name: str, family: str, rows: int, micro: int, accelerator: Accelerator):
    learner, objective, teacher = learner_of(name, family, accelerator)
    stage = Stage(
        name=name,
        objectives={name: objective},
        weights={name: 1.5},
        steps=1,
        batch_size=rows,
        micro_batch_size=micro,
        optimizer=OptimizerSettings(max_grad_norm=1e9),
    )
    wrapped = spread(learner, accelerator).train(False)
    optimizer = Still(learner.parameters(), lr=1.0)
    share = Share.of(rows, accelerator).rows
    batch = make_batch(rows=rows, length=20).rows(share.start, share.stop)
    start = Position(0, 0, 0, 0.0)
    means = train_step(wrapped, teacher, stage, batch, optimizer, accelerator, start).means
    found = {
        f"{family}/{name}/{key}": whole(parameter.grad).cpu().clone()
        for key, parameter in learner.named_parameters()
        if parameter.grad is not None
    }
    return {**found, f"{family}/{name}/mean": torch.tensor(means[name])}


def main(device: str, folder: str, rows: str, *micros: str) -> None:
    accelerator = Accelerator(cpu=device == "cpu")
    for micro in micros:
        found = {}
        for family in FAMILIES:
            for name in OBJECTIVES:
                found |= gradients(name, family, int(rows), int(micro), accelerator)
        if accelerator.is_main_process:
            save_file(found, Path(folder) / f"micro-{micro}.safetensors")
    accelerator.end_training()
    os._exit(0)  # as limbeck's own command leaves a group


if __name__ == "__main__":
    main(*sys.argv[1:])
