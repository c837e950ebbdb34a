"""Tokens a second of three distillations, and the share of the device's limit, beside the aims.

Models have the sizes of real ones and random weights, which take the same time; texts are random
and full, as packed ones are. The limit is that of large matrix products, measured in the same run
in the same precision; the operations are those that the models need, by formula
(docs/guide/scaling.md). Every step copies its batch from the process to the device.

    python benchmarks/step_aims.py [--device cuda] [--tiny] [--seconds 20]

``--tiny`` takes a fraction of the sizes, to see on a processor that it works.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig

from limbeck.batch import Batch, Tokens
from limbeck.models.auto_classes import whole_class
from limbeck.models.families import ARCHITECTURES
from limbeck.models.shapes import shape_of
from limbeck.objectives import OBJECTIVES
from limbeck.student.projections import Projections
from limbeck.system.device import choose_device, choose_precision, describe_device
from limbeck.system.memory import peak_bytes, restart_peak
from limbeck.teacher.live import LiveTeacher, halve_weights
from limbeck.training.checkpoint import Position
from limbeck.training.flops import StepFlops, limit
from limbeck.training.learner import Learner
from limbeck.training.optimizer import build_optimizer
from limbeck.training.processes import distribute
from limbeck.training.settings import OptimizerSettings
from limbeck.training.stage import Stage
from limbeck.training.step import train_step
from limbeck.training.taken import Taken, Unread, read

WARM_UP = 3
_PREDICTED = 0.15  # of an encoder's tokens


@dataclass(frozen=True)
class Aim:
    """A distillation: the models' family and sizes, its objective and batch, and its aims.

    Attributes:
        family: Of both models.
        teacher: Sizes of the teacher, as fields of its configuration.
        student: Those of the student that differ.
        objective: Its name.
        rows: Of a step and of a micro-batch.
        length: Tokens in a row.
        tokens_per_second: The aim; None where there is none.
        share: The aim of the share of the limit; None where there is none.
    """

    family: str
    teacher: Mapping[str, int]
    student: Mapping[str, int]
    objective: str
    rows: int
    length: int
    tokens_per_second: float | None = None
    share: float | None = None


def _sizes(layers: int, width: int, heads: int, **others: int) -> dict[str, int]:
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    return {**dict(zip(names, (layers, width, heads), strict=True)), **others}


AIMS = {
    "mpnet-base -> 6 x 384": Aim(
        "mpnet",
        _sizes(12, 768, 12, intermediate_size=3072, vocab_size=30527, pad_token_id=1),
        _sizes(6, 384, 12, intermediate_size=1536),
        "relations",
        512,
        128,
        1e6,
        0.6,
    ),
    "minilm -> 3 x 256": Aim(
        "bert",
        _sizes(6, 384, 12, intermediate_size=1536, vocab_size=30522),
        _sizes(3, 256, 8, intermediate_size=1024),
        "relations",
        1024,
        128,
        3e6,
    ),
    "SmolLM2-135M -> 15 x 576": Aim(
        "llama",
        _sizes(30, 576, 9, num_key_value_heads=3, intermediate_size=1536, vocab_size=49152),
        {"num_hidden_layers": 15},
        "logits",
        64,
        1024,
        None,
        0.5,
    ),
}


def smaller(aim: Aim) -> Aim:
    """The same with two layers, a small vocabulary and short texts, for a processor."""
    little = {"num_hidden_layers": 2, "vocab_size": 500}
    return replace(
        aim,
        teacher={**aim.teacher, **little},
        student={**aim.student, "num_hidden_layers": 1},
        rows=4,
        length=32,
    )


def measured(aim: Aim, accelerator: Accelerator, seconds: float) -> dict[str, float]:
    """Tokens and operations a second, and peak memory, of real steps in about that many seconds."""
    restart_peak()
    learner, teacher, stage = _parts(aim, accelerator)
    wrapped = distribute(learner, accelerator).train(False)
    optimizer, unread = build_optimizer(learner, stage.optimizer), Unread(accelerator.device)
    batch = _batch(aim, ARCHITECTURES[aim.family].causal)
    batch = batch.pinned() if accelerator.device.type == "cuda" else batch
    counts = StepFlops(learner, teacher, stage)

    def step(number: int) -> Taken:
        where, failed = Position(0, number, 0, 0.0), unread.failed
        return train_step(wrapped, teacher, stage, batch, optimizer, accelerator, where, failed)

    read([step(number) for number in range(WARM_UP)])
    began = time.perf_counter()
    read([step(WARM_UP)])
    steps = max(2, round(seconds / (time.perf_counter() - began)))
    began, flops = time.perf_counter(), 0
    for number in range(steps):
        unread.add(step(WARM_UP + 1 + number))
        flops += counts.of(batch)
    tokens = sum(figures.tokens for figures in unread.read())
    unread.check()
    spent = time.perf_counter() - began
    return {
        "tokens_per_second": tokens / spent,
        "flops_per_second": flops / spent,
        "milliseconds": 1000 * spent / steps,
        "peak_bytes": float(peak_bytes(accelerator.device.type) or 0),
    }


def _parts(aim: Aim, accelerator: Accelerator) -> tuple[Learner, LiveTeacher, Stage]:
    architecture = ARCHITECTURES[aim.family]
    with torch.device(accelerator.device):
        student, teacher = (
            whole_class(architecture).from_config(AutoConfig.for_model(aim.family, **sizes))
            for sizes in ({**aim.teacher, **aim.student}, aim.teacher)
        )
    if accelerator.mixed_precision == "bf16":
        halve_weights(teacher)  # as in a run
    shapes = [shape_of(model.config, architecture) for model in (student, teacher)]
    objective = OBJECTIVES[aim.objective]().bound(*shapes)
    maps = {aim.objective: Projections(objective.projection_sizes(*shapes), seed=0)}
    stage = Stage(
        name="aim",
        objectives={aim.objective: objective},
        weights={aim.objective: 1.0},
        steps=10**6,
        batch_size=aim.rows,
        micro_batch_size=aim.rows,
        optimizer=OptimizerSettings(),
    )
    learner = Learner(student, maps, architecture, stage.objectives)
    return learner, LiveTeacher(teacher, architecture), stage


def _batch(aim: Aim, causal: bool) -> Batch:
    """A batch of full texts of random tokens."""
    chance = torch.Generator().manual_seed(0)
    size = aim.rows, aim.length
    ids = torch.randint(5, aim.teacher["vocab_size"], size, generator=chance)
    real = torch.ones(size, dtype=torch.bool)
    predicted = real if causal else torch.rand(size, generator=chance) < _PREDICTED
    tokens = Tokens(ids, real, labels=ids, predicted=predicted)
    return Batch(tokens, tokens)


def print_aims(device_name: Any, *, tiny: bool, seconds: float = 20.0) -> None:
    """Measure every aim in turn, and print the table and, last, one JSON object."""
    device = choose_device(device_name)
    precision = choose_precision("auto", device)
    half = "bf16" if precision.half else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=half)
    most = limit(accelerator)
    print(f"{describe_device(device)}, {precision.name}, {most / 1e12:.2f} TFLOP/s at most")
    heads = f"{'tokens/s':>11} {'aim':>10} {'of limit':>9} {'aim':>6} {'ms/step':>8} {'GB':>6}"
    print(f"{'':26} {heads}")
    facts: dict[str, Any] = {"device": describe_device(device), "limit_flops_per_second": most}
    for name, aim in AIMS.items():
        found = measured(smaller(aim) if tiny else aim, accelerator, seconds)
        share = found["flops_per_second"] / most
        aims = (
            f"{aim.tokens_per_second:10,.0f}" if aim.tokens_per_second else " " * 10,
            f"{aim.share:6.0%}" if aim.share else " " * 6,
        )
        print(
            f"{name:26} {found['tokens_per_second']:11,.0f} {aims[0]} {share:9.1%} {aims[1]}"
            f" {found['milliseconds']:8.1f} {found['peak_bytes'] / 1e9:6.1f}"
        )
        facts[name] = {**found, "mfu": share}
    print()
    print(json.dumps(facts))


def main() -> None:
    """Print the table for the devices and sizes that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), default="auto")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    print_aims(given.device, tiny=given.tiny, seconds=given.seconds)


if __name__ == "__main__":
    main()
