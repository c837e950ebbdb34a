"""A step of mixed-vocabulary training against a plain masked-language-model step of the teacher.

Both train all of all-MiniLM-L6-v2 on the same text with 32 x 128 tokens per step in bfloat16,
through limbeck's loop; the mixed one reads half of the words in 4,928 tokens learned from that
text. Both are measured alternately in one run; the ratio is of medians.

    python benchmarks/mixed.py [--rounds 15]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from one_step import STUDENT, ready

from limbeck.demo.run import HERE
from limbeck.models.locate import DEMO_TEACHER
from limbeck.recipe.check import prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.models import build_models
from limbeck.system.linux import keep_freed_memory
from limbeck.tokenization.folders import learn_vocabulary
from limbeck.training.checkpoint import Position
from limbeck.training.step import train_step
from limbeck.training.taken import read

TEXT = str(HERE / "novels.txt.gz")
AIM = 1.15


def recipe_of(side: str, vocabulary: str) -> dict[str, Any]:
    """Plain: a copy of the teacher learns from labels. Mixed: teacher and student's table learn."""
    student: dict[str, Any] = {
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    stages: list[dict[str, Any]] = [{"objectives": {"labels": {}}, "max_steps": 100}]
    if side == "mixed":
        student = STUDENT | {"tokenizer": vocabulary}
        stages.insert(0, {"mixed": {"student_fraction": 0.5}, "max_steps": 100})
    return {
        "teacher": DEMO_TEACHER,
        "student": student,
        "data": {"text": TEXT, "max_length": 128},
        "stages": stages,
        "training": {"device": "cpu"},
    }


def stepper(side: str, vocabulary: str) -> Callable[[int], float]:
    """A function that times one step, data and optimizer included."""
    setup = prepare(recipe_of(side, vocabulary))
    accelerator = build_accelerator(setup.recipe.training, "unused")
    student, _ = build_models(setup, accelerator)
    stage, batches = setup.stages[0], stage_batches(setup, 0)
    _, wrapped, optimizer = ready(setup, student, accelerator)

    def step(number: int) -> float:
        began = time.perf_counter()
        batch, position = batches.batch(number), Position(0, number, 0, 0.0)
        read([train_step(wrapped, None, stage, batch, optimizer, accelerator, position)])
        return time.perf_counter() - began

    return step


def main() -> None:
    """Print a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as place:
        vocabulary = str(Path(place) / "vocabulary")
        learn_vocabulary([TEXT], vocabulary, vocab_size=4928, like=DEMO_TEACHER)
        steppers = {side: stepper(side, vocabulary) for side in ("plain", "mixed")}
        times: dict[str, list[float]] = {side: [] for side in steppers}
        for number in range(given.rounds + 2):
            for side, step in steppers.items():
                found = step(number)
                times[side] += [found] if number >= 2 else []
    medians = {side: statistics.median(found) for side, found in times.items()}
    for side, seconds in medians.items():
        print(f"{side:6} {1000 * seconds:8.1f} ms, {32 * 128 / seconds:8,.0f} tokens a second")
    ratio = medians["mixed"] / medians["plain"]
    print(f"ratio {ratio:.2f}, aim {AIM}")
    print(json.dumps({"threads": torch.get_num_threads(), "ratio": ratio, **medians}))


if __name__ == "__main__":
    main()
