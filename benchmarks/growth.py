"""How time and memory grow with tokens, vocabulary, length, layers and cached texts.

Small random models; each size runs in a process of its own, forked from one that has loaded the
libraries, so that peak memory is not shared. The exponent is the slope of the logarithms between
the two largest sizes: 1 is a straight line, 0 is flat, 2 is a square. Memory is above what the
process held before; seconds are of the processor, so that other programs beside it do not count.

    python benchmarks/growth.py [--only NAME] [--quick]
"""

import argparse
import gc
import gzip
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from corpus import held
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from limbeck.demo.run import HERE
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_with_head
from limbeck.recipe.check import prepare
from limbeck.reports.report import markdown_table
from limbeck.run import probe
from limbeck.run.batches import stage_batches
from limbeck.system.device import choose_precision, describe_device
from limbeck.system.linux import (
    keep_freed_memory,
    reset_peak_resident_bytes,
    resident_bytes,
)
from limbeck.system.memory import peak_process_bytes
from limbeck.teacher import store as stores
from limbeck.teacher.store import SignalStore

HEADS = 8
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
Facts = dict[str, float]


@dataclass(frozen=True)
class Step:
    """A training step of a recipe: a student of half the teacher's width learns from it."""

    objectives: Mapping[str, Any]
    vocabulary: int = 5_000
    length: int = 128
    rows: int = 8
    micro: int | None = None
    layers: int = 2
    width: int = 128  # of the student


@dataclass(frozen=True)
class Series:
    """One quantity that grows.

    Attributes:
        name: For the table.
        size: What grows: a field of `Step`, or one of `OTHERS`.
        sizes: Rising.
        shown: What is shown of a size: key, heading, factor, digits.
        step: The step whose field grows.
    """

    name: str
    size: str
    sizes: Sequence[int]
    shown: Sequence[tuple[str, str, float, int]]
    step: Step | None = None


STEP = (("seconds", "ms a step", 1e3, 1), ("rest", "MB of activations", 1e-6, 1))
WHOLE = (
    ("prepare", "s to check", 1, 2),
    ("load", "s to load", 1, 2),
    ("seconds", "ms a step", 1e3, 1),
    ("held", "MB of models and optimizer", 1e-6, 0),
    ("rest", "MB of activations", 1e-6, 1),
)
RELATIONS = {"relations": {"heads": HEADS}}
SCORES = {"attention_scores": {}}
VOCABULARIES = (5_000, 50_000, 250_000)
LENGTHS = (128, 1_024, 8_192)
LAYERS = (2, 8, 32)
STEPS, SECONDS = 4, 1.0  # at most, and enough; three steps are always taken
PREPARED = (
    ("seconds", "s to tokenize", 1, 2),
    ("again", "s to open again", 1, 3),
    ("batch", "ms a batch", 1e3, 2),
    ("own", "MB of memory", 1e-6, 1),
)
CACHED = (
    ("write", "s to store", 1, 2),
    ("open", "s to open", 1, 3),
    ("read", "s to read in another order", 1, 2),
    ("rest", "MB of memory", 1e-6, 1),
)


HIDDEN, LOGITS = {"hidden_states": {}}, {"logits": {}}
SERIES = (
    Series("tokens of a corpus", "tokens", (300_000, 1_200_000, 4_800_000), PREPARED),
    Series("tokens a step", "rows", (4, 16, 64), STEP, Step(RELATIONS)),
    Series("tokens a step, 4 rows at once", "rows", (4, 16, 64), STEP, Step(RELATIONS, micro=4)),
    Series("vocabulary: logits", "vocabulary", VOCABULARIES, WHOLE, Step(LOGITS)),
    Series("vocabulary: labels", "vocabulary", VOCABULARIES, WHOLE, Step({"labels": {}})),
    Series("vocabulary: hidden states", "vocabulary", VOCABULARIES, WHOLE, Step(HIDDEN)),
    Series("length: hidden states", "length", LENGTHS, STEP, Step(HIDDEN, rows=1)),
    Series("length: relations", "length", LENGTHS, STEP, Step(RELATIONS, rows=1)),
    Series("length: attention scores", "length", LENGTHS, STEP, Step(SCORES, rows=1)),
    Series("length: logits", "length", LENGTHS, STEP, Step(LOGITS, rows=1)),
    Series("layers of both models", "layers", LAYERS, WHOLE, Step(HIDDEN)),
    Series("cached texts", "texts", (4_000, 16_000, 64_000), CACHED),
)


def made_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of so many words, which are numbers."""
    words = [*SPECIAL.values(), *(f"w{number}" for number in range(vocabulary - len(SPECIAL)))]
    known = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def made_recipe(step: Step, place: Path) -> dict[str, Any]:
    """The recipe of a step, with a random teacher and a text in a folder."""
    teacher = place / "teacher"
    config = BertConfig(
        vocab_size=step.vocabulary,
        num_hidden_layers=step.layers,
        hidden_size=2 * step.width,
        num_attention_heads=HEADS,
        intermediate_size=8 * step.width,
        max_position_embeddings=max(512, step.length),
    )
    BertForMaskedLM(config).save_pretrained(teacher)
    made_tokenizer(step.vocabulary).save_pretrained(teacher)
    chance = np.random.default_rng(0)
    words = chance.integers(0, step.vocabulary - len(SPECIAL), (400, 2 * step.length))
    text = "\n".join(" ".join(f"w{word}" for word in line) for line in words)
    (place / "text.txt").write_text(text, encoding="utf-8")
    return {
        "teacher": str(teacher),
        "student": {
            "num_hidden_layers": step.layers,
            "hidden_size": step.width,
            "num_attention_heads": HEADS,
            "intermediate_size": 4 * step.width,
            "max_position_embeddings": config.max_position_embeddings,
        },
        "data": {"text": str(place / "text.txt"), "max_length": step.length},
        "stages": [
            {
                "objectives": dict(step.objectives),
                "max_steps": 3,
                "batch_size": step.rows,
                "micro_batch_size": step.micro or step.rows,
            }
        ],
        "training": {"device": "cpu"},
        "evaluation": {"cost": False, "teacher": False},
    }


def step_point(step: Step, place: Path) -> Facts:
    """Seconds to check a recipe, to load its teacher and for a step; bytes of the step."""
    recipe = made_recipe(step, place)
    began = time.process_time()
    setup = prepare(recipe)
    prepared = time.process_time() - began
    config = load_config(recipe["teacher"])
    began = time.process_time()
    loaded = load_with_head(recipe["teacher"], architecture=architecture_of(config), seed=0)
    spent = time.process_time() - began
    del loaded
    keep_freed_memory()  # as a run does
    probe._PROBE_STEPS, probe._LEAST_STEPS, probe._ENOUGH_SECONDS = STEPS, 3, SECONDS
    probe.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]
    found = probe.probe(setup, 0)
    parts = {name: value or 0 for name, value in found.memory.items()}
    held = sum(value for name, value in parts.items() if name not in ("before", "rest"))
    return {
        "prepare": prepared,
        "load": spent,
        "seconds": found.seconds_per_step,
        "held": held,
        "rest": parts["rest"],
    }


def write_novels(file: Path, size: int) -> None:
    """Write so many bytes of novels, each copy of them marked, so that all documents differ."""
    with gzip.open(HERE / "novels.txt.gz", "rt", encoding="utf-8") as novels:
        lines = [line.strip() for line in novels if line.strip()]
    with file.open("w", encoding="utf-8") as out:
        for number in count():
            size -= out.write(f"{lines[number % len(lines)]} {number // len(lines)}\n")
            if size <= 0:
                return


def corpus_point(tokens: int, place: Path) -> Facts:
    """Seconds to tokenize a text and to read batches of it, and the memory of the process."""
    text = place / "corpus.txt"
    write_novels(text, int(4.5 * tokens))
    recipe = made_recipe(Step(RELATIONS), place)
    recipe |= {"teacher": "minilm-demo", "data": {"text": str(text), "max_length": 128}}
    setup = prepare(recipe)
    reset_peak_resident_bytes()
    before = resident_bytes() or 0
    began = time.process_time()
    stage_batches(setup, 0).batch(0)
    first = time.process_time() - began
    own = (peak_process_bytes() or 0) - before
    began = time.process_time()
    batches = stage_batches(setup, 0)
    again = time.process_time() - began
    began = time.process_time()
    for number in range(20):
        batches.batch(number)
    return {
        "seconds": first,
        "again": again,
        "batch": (time.process_time() - began) / 20,
        "own": own,
    }


def cache_point(texts: int, place: Path) -> Facts:
    """Seconds to store records of texts, and to read them in another order."""
    stores._SHARD = 2_000_000  # as many shards as a cache of thirty times the size has
    keys = np.random.default_rng(0).choice(2**62, texts, replace=False).astype(np.int64)
    record, name, at_once = torch.ones(16, 32), ("hidden", 0), 32
    began = time.process_time()
    store = SignalStore(place / "signals", 2**62, strict=True)
    for start in range(0, texts, at_once):
        some = keys[start : start + at_once]
        if not store.has(name, some):
            store.put(name, some, [record] * len(some))
    store.flush()
    written = time.process_time() - began
    del store
    before = held()["own"]  # without pages of mapped shards, which the system can take back
    began = time.process_time()
    store = SignalStore(place / "signals", 0, strict=True)
    store.has(name, keys[:1])
    opened = time.process_time() - began
    order = np.random.default_rng(1).permutation(texts)
    began = time.process_time()
    for start in range(0, texts, at_once):
        store.get(name, keys[order[start : start + at_once]])
    read = time.process_time() - began
    return {
        "write": written,
        "open": opened,
        "read": read,
        "rest": held()["own"] - before,
    }


OTHERS: dict[str, Callable[[int, Path], Facts]] = {"tokens": corpus_point, "texts": cache_point}


def measured(series: Series, size: int) -> Facts:
    """What one size takes, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIMBECK_CACHE"] = str(Path(folder) / "cache")
        if series.step is None:
            return OTHERS[series.size](size, Path(folder))
        return step_point(replace(series.step, **{series.size: size}), Path(folder))


def apart(series: Series, size: int) -> Facts:
    """What one size takes, in a process of its own."""
    context = get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(measured(series, size)))
    process.start()
    there.close()  # so that a process that dies ends the pipe
    found: Facts = here.recv()
    process.join()
    return found


def exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    """The slope of the logarithms between the two largest sizes."""
    if min(values[-2:]) <= 0:
        return ""
    slope = math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
    return f"{slope:.2f}"


def table_of(series: Series, found: Mapping[int, Facts]) -> list[list[str]]:
    """A row for each size, and the exponents last."""
    sizes = [*found]
    rows = [[series.size, *(heading for _, heading, _, _ in series.shown)]]
    for size, facts in found.items():
        cells = [f"{facts[key] * by:,.{digits}f}" for key, _, by, digits in series.shown]
        rows.append([f"{size:,}", *cells])
    slopes = [exponent(sizes, [facts[key] for facts in found.values()]) for key, *_ in series.shown]
    return [*rows, ["exponent", *slopes]]


def main() -> None:
    """Measure every size in a process of its own; print a table each and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="measure what has this in its name")
    parser.add_argument("--quick", action="store_true", help="leave out the largest sizes")
    given = parser.parse_args()
    chosen = [series for series in SERIES if given.only in series.name]
    device = torch.device("cpu")
    print(f"{describe_device(device)}, {choose_precision('auto', device).name}\n")
    gc.freeze()  # what the libraries hold is not looked through again and again in each process
    facts = {}
    for series in chosen:
        sizes = series.sizes[:-1] if given.quick else series.sizes
        found = {size: apart(series, size) for size in sizes}
        print(f"{series.name}\n")
        print("\n".join(markdown_table(table_of(series, found))), flush=True)
        facts[series.name] = found
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
