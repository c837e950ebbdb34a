"""Every objective's gradients in a step that a launcher's processes share.

    gradients.py DEVICE FOLDER ROWS MICRO_BATCH_SIZE ...

Writes, for every objective in `OBJECTIVES` (those of classes also where several labels may hold for
a text) and every family of models, the gradients that the optimizer would get and the means that
the log would show, once for each way of splitting the step.
Where processes keep a part of each, every one of them writes its own: `micro-4.0.safetensors` is
that of the first.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from conftest import make_batch, make_model, small_groups, with_task_head, with_vectors
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from limbeck.activations import Needs
from limbeck.batch import Batch
from limbeck.models.families import ARCHITECTURES
from limbeck.models.modules import submodule
from limbeck.models.shapes import shape_of
from limbeck.models.task_heads import SCORE, TaskHead
from limbeck.objectives import OBJECTIVES
from limbeck.student.projections import Projections
from limbeck.teacher.live import LiveTeacher
from limbeck.training.checkpoint import Position
from limbeck.training.learner import Learner
from limbeck.training.processes import Share, distribute, shard_layers
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import train_step

WITH_EVERY_OBJECTIVE = ("bert", "llama")
OTHERS = ("hidden_states", "relations")
SEVERAL = " of several labels"  # ends the name of such a case


def objectives_of(family: str) -> list[str]:
    """All for two families; for the others, one that reads states and one that reads attention."""
    if family in WITH_EVERY_OBJECTIVE:
        return [*OBJECTIVES, f"class_labels{SEVERAL}", f"class_logits{SEVERAL}"]
    return [name for name in OTHERS if name == "hidden_states" or family != "qwen3_5_text"]


class Still(torch.optim.SGD):
    """Changes nothing, so that the gradients can be compared."""

    def step(self, closure=None):
        return None


def batch_of(case: str, rows: int, *, length: int = 20, padded: bool = True) -> Batch:
    batch = make_batch(rows=rows, length=length, padded=padded)
    if not case.endswith(SEVERAL):
        return batch
    predicted = torch.zeros_like(batch.student.mask)
    predicted[:, 1] = True
    held = ((torch.arange(rows)[:, None] + torch.arange(5)) % 3 == 0).float()
    held[2] = torch.nan  # a row without given labels
    tokens = replace(batch.student, predicted=predicted, multi_hot=held)
    return Batch(tokens, tokens)


def learner_of(case: str, family: str, accelerator: Accelerator):
    name = case.removesuffix(SEVERAL)
    architecture = ARCHITECTURES[family]
    teacher = make_model(family, seed=1).requires_grad_(False).to(accelerator.device)
    student = make_model(family, hidden=16, layers=2, seed=2)
    if name.startswith("sentence_"):
        with_vectors(teacher, student)
    if name.startswith("class_"):
        head = TaskHead("token", tuple(map(str, range(200))))  # for any label of the batch
        if case != name:
            head = TaskHead("sequence", tuple("abcde"), multi_label=True)
        teacher, student = (with_task_head(m, head) for m in (teacher, student))
        teacher.requires_grad_(False).to(accelerator.device)
    if name == "margin_mse":
        teacher, student = (
            with_task_head(m, TaskHead("sequence", (SCORE,))) for m in (teacher, student)
        )
        teacher.requires_grad_(False).to(accelerator.device)
    shapes = [shape_of(m.config, architecture) for m in (student, teacher)]
    objective = small_groups(OBJECTIVES[name]()).bound(*shapes)
    projections = Projections(objective.projection_sizes(*shapes), seed=0)
    learner = Learner(student, {name: projections}, architecture, {name: objective}).train(False)
    shard_layers(submodule(teacher.base_model, architecture.layers), accelerator)
    needs_teacher = objective.teacher_needs() != Needs()
    return learner, objective, LiveTeacher(teacher, architecture) if needs_teacher else None


def gradients(case: str, family: str, rows: int, micro: int, accelerator: Accelerator):
    learner, objective, teacher = learner_of(case, family, accelerator)
    name = case.removesuffix(SEVERAL)
    together = objective.rows_together()
    stage = Stage(
        name=name,
        objectives={name: objective},
        weights={name: 1.5},
        steps=1,
        batch_size=rows,
        micro_batch_size=-(-micro // together) * together,
        optimizer=OptimizerSettings(max_grad_norm=1e9),
    )
    wrapped = distribute(learner, accelerator).train(False)
    optimizer = Still(learner.parameters(), lr=1.0)
    share = Share.of(rows, accelerator, together=together).rows
    batch = batch_of(case, rows).rows(share.start, share.stop)
    start = Position(0, 0, 0, 0.0)
    means = train_step(wrapped, teacher, stage, batch, optimizer, accelerator, start).means
    found = {
        f"{family}/{case}/{key}": own_part(parameter.grad, accelerator)
        for key, parameter in learner.named_parameters()
        if parameter.grad is not None
    }
    mean = own_part(torch.tensor(means[name]), accelerator)
    return {**found, f"{family}/{case}/mean": mean}


def own_part(tensor: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """What this process keeps of a tensor; of one that all have, the first process has it alone."""
    if isinstance(tensor, DTensor):
        return tensor.to_local().cpu().clone()
    tensor = tensor.cpu().clone()
    return tensor if accelerator.is_main_process else tensor.flatten()[:0]


def main(device: str, folder: str, rows: str, *micros: str) -> None:
    accelerator = Accelerator(cpu=device == "cpu")
    for micro in micros:
        found = {}
        for family in ARCHITECTURES:
            for name in objectives_of(family):
                found |= gradients(name, family, int(rows), int(micro), accelerator)
        name = f"micro-{micro}.{accelerator.process_index}.safetensors"
        save_file(found, Path(folder) / name)
    accelerator.end_training()
    os._exit(0)  # as limbeck's own command leaves a process group


if __name__ == "__main__":
    main(*sys.argv[1:])
