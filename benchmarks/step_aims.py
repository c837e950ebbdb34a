"""Tokens a second of three distillations, and the share of the device's limit, beside the aims.

Models have the sizes of real ones and random weights, which take the same time; texts are random
and full, as packed ones are. The limit is that of large matrix products, measured in the same run
in the same precision; the operations are those that the models need, by formula
(docs/guide/scaling.md). Every step copies its batch from the process to the device.

    python benchmarks/step_aims.py [--device cuda] [--tiny] [--seconds 8]

``--tiny`` takes a fraction of the sizes, to see on a processor that it works.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from plain_step import output_divergence, relations_divergence
from transformers import AutoConfig

from limbeck.batch import Batch, Tokens
from limbeck.models.auto_classes import whole_class
from limbeck.models.biased_attention import use_fused_attention
from limbeck.models.compiled import compiling
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


def measured(
    aim: Aim, accelerator: Accelerator, seconds: float, *, compiles: bool = False
) -> dict[str, float]:
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

    with compiling(compiles):
        started = time.perf_counter()
        read([step(number) for number in range(WARM_UP)])
        began = time.perf_counter()
        read([step(WARM_UP)])
        steps = max(2, round(seconds / (time.perf_counter() - began)))
        warm, began, flops = began - started, time.perf_counter(), 0
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
        "seconds_before": warm,
    }


def measured_plain(aim: Aim, accelerator: Accelerator, seconds: float) -> dict[str, float]:
    """The same of a step as example code writes it."""
    restart_peak()
    learner, teacher, stage = _parts(aim, accelerator, plain=True)
    student = learner.student.to(accelerator.device)
    tokens = _batch(aim, ARCHITECTURES[aim.family].causal).student.to(accelerator.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
    heads = getattr(stage.objectives[aim.objective], "heads", 0)
    flops = StepFlops(learner, teacher, stage).of(Batch(tokens.here, tokens.here))

    def step() -> float:
        with accelerator.autocast():
            if aim.objective == "logits":
                loss = output_divergence(student, teacher.model, tokens)
            else:
                loss = relations_divergence(student, teacher.model, tokens, heads)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    step()
    began = time.perf_counter()
    step()
    steps = max(2, round(seconds / (time.perf_counter() - began)))
    began = time.perf_counter()
    for _ in range(steps):
        step()
    spent = time.perf_counter() - began
    return {
        "tokens_per_second": steps * aim.rows * aim.length / spent,
        "flops_per_second": steps * flops / spent,
        "milliseconds": 1000 * spent / steps,
        "peak_bytes": float(peak_bytes(accelerator.device.type) or 0),
    }


def _parts(
    aim: Aim, accelerator: Accelerator, *, plain: bool = False
) -> tuple[Learner, LiveTeacher, Stage]:
    """What is trained, the teacher and the stage; plain models are as transformers makes them."""
    architecture = ARCHITECTURES[aim.family]
    with torch.device(accelerator.device):
        student, teacher = (
            whole_class(architecture).from_config(AutoConfig.for_model(aim.family, **sizes))
            for sizes in ({**aim.teacher, **aim.student}, aim.teacher)
        )
    if not plain and accelerator.mixed_precision == "bf16":
        halve_weights(teacher)  # as in a run
    if not plain and accelerator.device.type == "cuda":
        use_fused_attention(student)
        use_fused_attention(teacher)
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


WAYS = {
    "plain": measured_plain,
    "limbeck": measured,
    "compiled": partial(measured, compiles=True),
}


def print_aims(device_name: Any, *, tiny: bool, seconds: float = 8.0) -> None:
    """Measure every aim in turn, and print the table and, last, one JSON object."""
    device = choose_device(device_name)
    precision = choose_precision("auto", device)
    half = "bf16" if precision.half else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=half)
    most = limit(accelerator)
    print(f"{describe_device(device)}, {precision.name}, {most / 1e12:.2f} TFLOP/s at most")
    heads = f"{'tokens/s':>11} {'aim':>10} {'of limit':>9} {'aim':>6} {'ms/step':>8} {'GB':>6}"
    print(" " * 36, heads)
    facts: dict[str, Any] = {"device": describe_device(device), "limit_flops_per_second": most}
    for name, given in AIMS.items():
        aim, facts[name] = smaller(given) if tiny else given, {}
        for way, measure in WAYS.items():
            try:
                found = measure(aim, accelerator, seconds)
            except torch.OutOfMemoryError:
                print(f"{name:26} {way:9} does not fit")
                found = {}
            if device.type == "cuda":
                torch.cuda.empty_cache()
            if found:
                found["mfu"] = found["flops_per_second"] / most
                _print_row(name, way, given, found)
            facts[name][way] = found
    print()
    print(json.dumps(facts))


def _print_row(name: str, way: str, aim: Aim, found: Mapping[str, float]) -> None:
    aims = (
        f"{aim.tokens_per_second:10,.0f}" if aim.tokens_per_second else " " * 10,
        f"{aim.share:6.0%}" if aim.share else " " * 6,
    )
    print(
        f"{name:26} {way:9} {found['tokens_per_second']:11,.0f} {aims[0]} {found['mfu']:9.1%}"
        f" {aims[1]} {found['milliseconds']:8.1f} {found['peak_bytes'] / 1e9:6.1f}"
    )


def main() -> None:
    """Print the table for the devices and sizes that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), default="auto")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    print_aims(given.device, tiny=given.tiny, seconds=given.seconds)


if __name__ == "__main__":
    main()
