"""A training step with the teacher as it is, in 8 bits, and on OpenVINO, in one run.

All have the same student, text and objective. Their steps take turns, and times are of the
processor, so that other work beside them counts little. Then a student learns from each, and all
are measured on held-out text against the teacher as it is.

    python benchmarks/teacher_on_a_processor.py [--models FOLDER] [--train 60] [--avx2]

FOLDER holds e5-small, mpnet-base and smollm2-135m-instruct, or some of them; minilm-demo is always
measured. ``--avx2`` limits torch and oneDNN to AVX2, where a run is in float32; OpenVINO has a
oneDNN of its own, which benchmarks/avx2_alone.py limits.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from one_step import FROM_TEACHER, ready

from limbeck.demo.run import HERE
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.models import build_models
from limbeck.run.quantization import quantization_error
from limbeck.system.device import describe_device
from limbeck.system.linux import keep_freed_memory
from limbeck.training.checkpoint import Position
from limbeck.training.optimizer import learning_rate
from limbeck.training.step import mean_values, teacher_signals, train_step

TEACHERS: dict[str, dict[str, str]] = {
    "as it is": {},
    "int8_dynamic": {"quantize": "int8_dynamic"},
    "openvino": {"engine": "openvino"},
    "openvino-int8": {"engine": "openvino-int8"},
}
WARM_UP = 1
LIMITS = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
_E5 = {**FROM_TEACHER, "hidden_size": 264, "num_attention_heads": 12, "intermediate_size": 1056}
_MPNET = {
    "num_hidden_layers": 6,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "init_from_teacher": {"layers": "uniform", "width": "cut"},
}
_DECODER = {"num_hidden_layers": 15, "init_from_teacher": {"layers": "uniform"}}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "minilm -> 3 x 256, relations": ("minilm-demo", FROM_TEACHER, {"relations": {"heads": 16}}),
    "minilm -> 3 x 256, hidden states": (
        "minilm-demo",
        FROM_TEACHER,
        {"hidden_states": {"layers": "uniform"}},
    ),
    "e5-small -> 3 x 264, hidden states": (
        "e5-small",
        _E5,
        {"hidden_states": {"layers": "uniform"}},
    ),
    "mpnet-base -> 6 x 384, relations": ("mpnet-base", _MPNET, {"relations": {"heads": 12}}),
    "SmolLM2-135M -> 15 x 576, logits": ("smollm2-135m-instruct", _DECODER, {"logits": {}}),
}


class Side:
    """A student with its teacher, ready to take steps."""

    def __init__(self, given: argparse.Namespace, case: str, teacher: str, seed: int = 0) -> None:
        """The models of a case, with one of `TEACHERS`."""
        name, student, objectives = CASES[case]
        place = name if name == "minilm-demo" else str(given.models / name)
        self.setup = prepare(
            {
                "seed": seed,
                "teacher": {"model": place, **TEACHERS[teacher]},
                "student": student,
                "data": {
                    "text": str(HERE / "novels.txt.gz"),
                    "max_length": given.length,
                    "held_out": {"sequences": 64},
                },
                "stages": [
                    {
                        "objectives": objectives,
                        "max_steps": max(1, given.train),
                        "batch_size": given.batch,
                    }
                ],
                "training": {"device": "cpu"},
            }
        )
        self.accelerator = build_accelerator(self.setup.recipe.training, "unused")
        learned, self.teacher = build_models(self.setup, self.accelerator)
        self.stage, self.batches = self.setup.stages[0], stage_batches(self.setup, 0)
        _, self.learner, self.optimizer = ready(self.setup, learned, self.accelerator)

    def step(self, number: int) -> tuple[float, float]:
        """Seconds of the teacher's forward alone, and of a whole step."""
        batch = self.batches.batch(number)
        began = time.process_time()
        with torch.no_grad():
            teacher_signals(self.teacher, self.stage, batch, self.accelerator)
        forward = time.process_time() - began
        began = time.process_time()
        self.train(number)
        return forward, time.process_time() - began

    def train(self, number: int) -> None:
        """Take a step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number, self.stage.steps, self.stage.optimizer)
        position = Position(0, number, 0, 0.0)
        batch = self.batches.batch(number)
        parts = self.learner, self.teacher, self.stage, batch, self.optimizer, self.accelerator
        train_step(*parts, position)


def times(given: argparse.Namespace, case: str) -> dict[str, Any]:
    """Milliseconds of steps and of the teacher's forward, and the error of its signals."""
    sides = {teacher: Side(given, case, teacher) for teacher in TEACHERS}
    found: dict[str, list[tuple[float, float]]] = {teacher: [] for teacher in TEACHERS}
    for number in range(WARM_UP + given.steps):
        for teacher, side in sides.items():
            taken = side.step(number)
            if number >= WARM_UP:
                found[teacher].append(taken)
    forwards, steps = (
        {name: 1000 * statistics.median(pair[part] for pair in found[name]) for name in TEACHERS}
        for part in (0, 1)
    )
    errors = {}
    for name, side in sides.items():
        if TEACHERS[name]:
            error = quantization_error(side.setup, side.accelerator)
            errors[name] = {"hidden": error.hidden[-1], "divergence": error.divergence}
    return {"forward_ms": forwards, "step_ms": steps, "errors": errors}


def learned(given: argparse.Namespace) -> Iterator[tuple[str, int, float, float]]:
    """Teacher, seed, and held-out loss of a student before and after it has learned from it."""
    case = next(iter(CASES))
    for seed in range(given.seeds):
        exact = Side(given, case, "as it is", seed)
        for teacher in TEACHERS:
            side = Side(given, case, teacher, seed)
            losses = [_held_out(side, exact)]
            for number in range(given.train):
                side.train(number)
            losses.append(_held_out(side, exact))
            yield teacher, seed, losses[0], losses[1]


def _held_out(side: Side, exact: Side) -> float:
    batches = list(stage_held_out(exact.setup, 0))
    parts = side.learner, exact.teacher, side.stage, batches, side.accelerator
    return mean_values(*parts)["relations"]


def main() -> None:
    """Print the tables and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--train", type=int, default=60, help="steps of the training; 0 for none")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--avx2", action="store_true")
    given = parser.parse_args()
    if given.avx2 and any(os.environ.get(name) != value for name, value in LIMITS.items()):
        os.environ.update(LIMITS)  # which are read as torch is loaded
        os.execv(sys.executable, [sys.executable, *sys.argv])
    keep_freed_memory()
    print(f"{describe_device(torch.device('cpu'))}, steps of {given.batch} x {given.length} tokens")
    print(
        f"{'':36} {'teacher':14} {'step, ms':>9} {'ratio':>6} {'alone, ms':>9} {'ratio':>6}  error"
    )
    facts: dict[str, Any] = {}
    for case, (name, _, _) in CASES.items():
        if name != "minilm-demo" and not (given.models and (given.models / name).is_dir()):
            continue
        facts[case] = found = times(given, case)
        for teacher in TEACHERS:
            columns = ""
            for part in ("step_ms", "forward_ms"):
                times_of = found[part]
                columns += (
                    f" {times_of[teacher]:9.1f} {times_of['as it is'] / times_of[teacher]:6.2f}"
                )
            error = found["errors"].get(teacher)
            print(
                f"{case:36} {teacher:14}{columns}  {error['hidden'] if error else 0:.1%}",
                flush=True,
            )
    if given.train:
        print(f"\nheld-out relations after {given.train} steps: teacher, seed, before, after")
        for teacher, seed, before, after in learned(given):
            print(f"{teacher:14} {seed} {before:8.4f} {after:8.4f}", flush=True)
            facts[f"{teacher}, seed {seed}"] = {"before": before, "after": after}
    print()
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
