"""Ways to begin a narrower student, compared before training and at equal tokens.

Students that differ only in their initialization (random weights, or teacher layers made narrower
in each of the ways) learn relations and hidden states from the same batches of one teacher, side by
side. At intervals, and before the first step, each is measured on held-out text: both losses, the
rank correlation of its cosines between texts with the teacher's, and, with --pairs, that with the
labels of pairs of sentences. Maps to the teacher's width begin fitted, so that the loss of hidden
states before training says how much of them the student has in any directions.

    python benchmarks/initialization.py TEACHER --text FILE --output FILE.json [--pairs FILE]

The file is written at every measurement. A comparison that is finished there is not repeated.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import PreTrainedModel

from limbeck.activations import Activations, Needs
from limbeck.batch import Batch
from limbeck.data.json_lines import read_rows
from limbeck.recipe.check import prepare
from limbeck.recipe.setup import Setup
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.student.width import Width
from limbeck.system.files import write_text
from limbeck.teacher.live import LiveTeacher
from limbeck.training.checkpoint import Position
from limbeck.training.fitted_maps import fit_maps
from limbeck.training.learner import Learner
from limbeck.training.optimizer import build_optimizer, learning_rate
from limbeck.training.step import mean_values, train_step
from limbeck.training.taken import read

RANDOM = "random"
PAIRS_AT_ONCE = 64


class OneForward:
    """A teacher whose signals of a batch are computed once for all students."""

    def __init__(self, teacher: LiveTeacher) -> None:
        """Of a teacher that runs."""
        self._teacher = teacher
        self._last: tuple[Tensor, Needs, Activations] | None = None

    @property
    def models(self) -> Sequence[nn.Module]:
        """None: signals are read."""
        return ()

    def signals(self, batch: Batch, needs: Needs) -> Activations:
        """The activations that ``needs`` names."""
        ids, last = batch.teacher.input_ids, self._last
        if last is None or last[1] != needs or not torch.equal(last[0], ids):
            last = self._last = (ids, needs, self._teacher.signals(batch, needs))
        return last[2]


def recipe(given: argparse.Namespace, way: str) -> dict[str, Any]:
    """The recipe of one student."""
    begins = None if way == RANDOM else {"layers": "uniform", "width": way}
    return {
        "teacher": given.teacher,
        "student": {
            "num_hidden_layers": given.layers,
            "hidden_size": given.hidden,
            "num_attention_heads": given.heads,
            "intermediate_size": 4 * given.hidden,
            "init_from_teacher": begins,
        },
        "data": {
            "text": given.text,
            "max_length": given.length,
            "held_out": {"sequences": given.held_out},
        },
        "stages": [
            {
                "objectives": {
                    "relations": {
                        "teacher_layer": "last",
                        "student_layer": "last",
                        "heads": given.relation_heads,
                    },
                    "hidden_states": {"layers": "uniform"},
                },
                "tokens": given.tokens,
                "batch_size": given.batch_size,
                "optimizer": {"learning_rate": given.learning_rate},
            }
        ],
        "training": {"precision": given.precision, "device": given.device},
    }


def pooled(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean of the last hidden states over real tokens, of length 1."""
    states = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    weights = mask[..., None].to(states.dtype)
    return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)


def cosines(model: PreTrainedModel, batches: Sequence[Batch]) -> Tensor:
    """The cosines of all pairs of held-out sequences."""
    with torch.no_grad():
        rows = [pooled(model, b.student.input_ids, b.student.mask) for b in batches]
    vectors = torch.cat(rows).float()
    own, other = torch.triu_indices(len(vectors), len(vectors), offset=1)
    return (vectors[own] * vectors[other]).sum(1)


def of_pairs(model: PreTrainedModel, tokenizer: Any, rows: Sequence[Any]) -> float:
    """Rank correlation of the cosines of pairs of sentences with their labels."""
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), PAIRS_AT_ONCE):
            some = rows[start : start + PAIRS_AT_ONCE]
            sides = []
            for name in ("text", "text_pair"):
                texts = [row[name] for row in some]
                tokens = tokenizer(
                    texts, padding=True, truncation=True, max_length=64, return_tensors="pt"
                )
                sides.append(pooled(model, tokens["input_ids"], tokens["attention_mask"]))
            found += (sides[0] * sides[1]).sum(1).tolist()
    return float(spearmanr(found, [float(row["label"]) for row in rows]).statistic)


def labelled_pairs(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Pairs of sentences whose labels are numbers."""
    rows = [row for row, _ in islice(read_rows(given.pairs), given.rows)]
    return [{**r, "label": given.labels.index(r["label"])} for r in rows] if given.labels else rows


class Arm:
    """A student that learns, with what it was measured at."""

    def __init__(self, setup: Setup, accelerator: Accelerator, learner: Learner) -> None:
        """Of a student with its initialization."""
        self.setup, self.stage, self.learner = setup, setup.stages[0], learner
        self.optimizer = build_optimizer(learner, self.stage.optimizer)
        self._accelerator = accelerator
        self.seconds = 0.0

    def step(self, batch: Batch, teacher: OneForward, position: Position) -> None:
        """Learn from a batch."""
        began = time.perf_counter()
        rate = learning_rate(position.step, self.stage.steps, self.stage.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        taken = train_step(
            self.learner, teacher, self.stage, batch, self.optimizer, self._accelerator, position
        )
        read([taken])  # waits for the device
        self.seconds += time.perf_counter() - began

    def measured(
        self, teacher: OneForward, held_out: list[Batch], theirs: Tensor, rows: Sequence[Any]
    ) -> dict[str, float]:
        """The losses on held-out text, and how alike cosines are."""
        means = mean_values(self.learner, teacher, self.stage, held_out, self._accelerator)
        student, side = self.learner.student, self.setup.models.student
        student.eval()
        with self._accelerator.autocast():
            alike = spearmanr(cosines(student, held_out), theirs).statistic
            found = {**means, "cosines": float(alike)}
            if rows:
                found["pairs"] = of_pairs(student, side.tokenizer, rows)
        return found


def compare(given: argparse.Namespace) -> None:
    """Train all arms side by side and write what is measured."""
    setups = {way: prepare(recipe(given, way)) for way in given.ways}
    first = next(iter(setups.values()))
    accelerator = build_accelerator(first.recipe.training, given.output.parent)
    batches, held_out = stage_batches(first, 0), stage_held_out(first, 0)
    rows = labelled_pairs(given) if given.pairs else []
    teacher, arms = None, {}
    for way, setup in setups.items():
        student, live = build_models(setup, accelerator)
        teacher = teacher or (OneForward(live), live.model)
        learner = build_learner(setup, student, 0)
        fit_maps(learner, teacher[0], setup.stages[0], batches, accelerator)
        arms[way] = Arm(setup, accelerator, learner)
    one, model = teacher
    result: dict[str, Any] = {
        "arguments": {name: str(value) for name, value in vars(given).items()},
        "arms": {way: [] for way in arms},
        "finished": False,
    }
    with accelerator.autocast():
        theirs = cosines(model, held_out)
        if rows:
            result["teacher"] = {"pairs": of_pairs(model, first.models.student.tokenizer, rows)}
    steps = arms[given.ways[0]].stage.steps
    due = {round(steps * share) for share in given.shares}
    for step in range(steps + 1):
        if step in due:
            for way, arm in arms.items():
                found = arm.measured(one, held_out, theirs, rows)
                found["tokens"] = step * given.batch_size * given.length
                result["arms"][way].append(found)
                said = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
                print(f"step {step} of {steps}, {way}: {said}", flush=True)
            result["finished"] = step == steps
            write_text(given.output, json.dumps(result, indent=1))
        if step < steps:
            batch = batches.batch(step)
            for arm in arms.values():
                arm.step(batch, one, Position(0, step, 0, 0.0))
    spent = statistics.mean(arm.seconds for arm in arms.values())
    print(f"seconds of training an arm, the teacher's forward divided: {spent:.0f}")


def main() -> None:
    """Compare, unless the file holds a finished comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teacher")
    parser.add_argument("--text", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--pairs", type=Path, help="JSON lines with text, text_pair and a number as label"
    )
    parser.add_argument(
        "--labels", nargs="+", default=[], help="names of labels, least alike first"
    )
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--ways", nargs="+", default=[RANDOM, *(w.value for w in Width)])
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--relation-heads", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--held-out", type=int, default=64)
    parser.add_argument("--shares", type=float, nargs="+", default=[0, 0.125, 0.25, 0.5, 1])
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.output.exists() and json.loads(given.output.read_text())["finished"]:
        print(f"{given.output} holds a finished comparison; delete it to repeat it")
        return
    compare(given)


if __name__ == "__main__":
    main()
