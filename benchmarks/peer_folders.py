"""The folder of a job, which limbeck and another package read alike.

It has the student with its initial weights, the batches of every step, and `job.json`.

    python peer_folders.py FOLDER '{"package": "bertdistiller", "steps": 8, ...}'
"""

import gzip
import json
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peer_jobs import EPSILON, JOBS, OPTIMIZER, recipe
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from limbeck.batch import UNLABELED, Tokens
from limbeck.demo.run import HERE
from limbeck.models.locate import DEMO_TEACHER, locate
from limbeck.models.sentences.attached import detach_vectors
from limbeck.recipe.check import prepare
from limbeck.recipe.setup import Setup
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import stage_batches
from limbeck.run.models import build_models
from limbeck.run.task_batches import TaskBatches

NOVELS = HERE / "novels.txt.gz"
CLASSES = ("first", "second", "third")
LINES, HELD_OUT = 4000, 400  # rows made of the novels' lines


def make(folder: Path, given: dict[str, Any]) -> None:
    """Write a job's folder.

    Args:
        folder: Empty.
        given: ``package``, ``steps``, ``precision``, ``device`` and ``decoder`` (a folder or None).
    """
    package = given["package"]
    job = JOBS[package]
    told = {**asdict(job), **job.facts, **OPTIMIZER, "adam_epsilon": EPSILON, **given}
    told["teacher"] = _teacher(package, folder, given["decoder"])
    told["data"] = _data(package, folder)
    student = dict(job.student)
    if package == "trl":
        layers = AutoConfig.from_pretrained(told["teacher"]).num_hidden_layers
        student["num_hidden_layers"] = layers // 2
    _save_student(prepare(recipe(told, student)), folder / "student")
    told["student"] = str(folder / "student")
    _save_batches(prepare(recipe(told, {"model": told["student"]})), told["steps"], folder)
    (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")


def _teacher(package: str, folder: Path, decoder: str | None) -> str:
    """The folder of a job's teacher."""
    if package == "trl":
        if decoder is None:
            raise SystemExit("trl needs a decoder as the teacher; give --decoder FOLDER")
        return str(Path(decoder).resolve())
    place = locate(DEMO_TEACHER)
    if package != "textbrewer":
        return place
    torch.manual_seed(0)
    names = dict(enumerate(CLASSES))
    numbers = {name: number for number, name in names.items()}
    config = AutoConfig.from_pretrained(place, id2label=names, label2id=numbers)
    model = AutoModelForSequenceClassification.from_pretrained(place, config=config)
    with torch.no_grad():
        model.classifier.weight.normal_(std=0.1)  # a random head takes the time of a trained one
    model.save_pretrained(folder / "teacher")
    AutoTokenizer.from_pretrained(place).save_pretrained(folder / "teacher")
    return str(folder / "teacher")


def _data(package: str, folder: Path) -> dict[str, Any]:
    """What a job reads: the novels that ship with the package, as text or as rows."""
    if package not in ("textbrewer", "sentence-transformers"):
        return {"text": str(NOVELS)}
    with gzip.open(NOVELS, "rt", encoding="utf-8") as file:
        texts = [line.strip() for line in islice(file, LINES)]
    if package == "sentence-transformers":
        _write_rows(folder / "rows.jsonl", [{"text": text} for text in texts])
        return {"rows": [str(folder / "rows.jsonl")]}
    rows = [{"text": text, "label": CLASSES[n % 3]} for n, text in enumerate(texts)]
    _write_rows(folder / "rows.train.jsonl", rows[HELD_OUT:])
    _write_rows(folder / "rows.dev.jsonl", rows[:HELD_OUT])
    return {"task": str(folder / "rows")}


def _write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


def _save_student(setup: Setup, folder: Path) -> None:
    """The student with its initial weights, without dropout: limbeck has none while it distils."""
    model, _ = build_models(setup, build_accelerator(setup.recipe.training, "unused"))
    detach_vectors(model)
    keeps_head = setup.models.student.head or setup.models.student.architecture.causal
    student: Any = model if keeps_head else model.base_model
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        if name in student.config.to_dict():
            setattr(student.config, name, 0.0)
    student.to("cpu").save_pretrained(folder)
    setup.models.student.tokenizer.save_pretrained(folder)


def _save_batches(setup: Setup, steps: int, folder: Path) -> None:
    """The batches as tensors and, where they are rows, as texts."""
    source = stage_batches(setup, 0)
    batches = [source.batch(step).student for step in range(steps)]
    tensors = {
        f"{step}.{name}": tensor.contiguous()
        for step, tokens in enumerate(batches)
        for name, tensor in _tensors(tokens).items()
    }
    save_file(tensors, folder / "batches.safetensors")
    texts: list[list[str]] = [[] for _ in batches]
    if isinstance(source, TaskBatches):
        read = {tuple(source.student.read(row).ids): row.text or "" for row in source.table}
        texts = [
            [read[tuple(ids[real].tolist())] for ids, real in zip(t.input_ids, t.mask, strict=True)]
            for t in batches
        ]
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")


def _tensors(tokens: Tokens) -> dict[str, Tensor]:
    """A batch by the names of transformers, the tokens to predict as a decoder of TRL has them."""
    following = torch.full_like(tokens.labels, UNLABELED)
    here = tokens.predicted[:, :-1]
    following[:, 1:][here] = tokens.labels[:, :-1][here]
    found = {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.mask.long(),
        "next_labels": following,
        "classes": tokens.labels[:, 0],
    }
    if tokens.token_type_ids is not None:
        found["token_type_ids"] = tokens.token_type_ids
    return found


if __name__ == "__main__":
    make(Path(sys.argv[1]), json.loads(sys.argv[2]))
    print("{}")
