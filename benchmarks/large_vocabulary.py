"""Vocabularies of 250,000 rows: seconds and memory of what works on all of a teacher's tokens.

A tokenizer of 5,000 tokens is learned like the teacher's, and the teacher's is trimmed to 30,000.
The beginning of the text then serves recipes whose student of 3 x 264 has the 5,000 tokens: `plan`
of each, and a run of three steps. Logits are compared with a teacher that has a random head over
its embedding table. Each command runs in a process of its own; its peak memory is given above that
of loading the teacher alone, and seconds are the fewest of all rounds.

    python benchmarks/large_vocabulary.py TEACHER TEXT [--characters 5000000] [--rounds 2]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from one_command import measured
from transformers import AutoTokenizer

from limbeck.data.text import TextSource, read_documents_up_to
from limbeck.models.families.lookup import architecture_of
from limbeck.models.load import load_config, load_model, load_with_head
from limbeck.system.device import choose_device, choose_precision, describe_device

STUDENT_TOKENS, TRIMMED_TOKENS = 5_000, 30_000
STEPS = 3
SECONDS, MEGABYTES = 60, 1500
HIDDEN: dict[str, Any] = {"relations": {"heads": 12}, "hidden_states": {"weight": 0.1}}
LOGITS: dict[str, Any] = {"labels": {"weight": 0.5}, "logits": {"temperature": 2}}
# Alignment, objectives and initialization; logits need the teacher with a head.
RECIPES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "match, hidden states": ("match", HIDDEN, "containing"),
    "reduce, hidden states": ("reduce", HIDDEN, "weighted"),
    "match, logits": ("match", LOGITS, "mean"),
    "reduce, logits of all tokens": ({"kind": "reduce", "columns": "mapped"}, LOGITS, "containing"),
}


def recipe_of(name: str, teacher: str, tokenizer: str, text: str) -> dict[str, Any]:
    """A recipe of three steps."""
    alignment, objectives, initialization = RECIPES[name]
    return {
        "teacher": teacher,
        "student": {
            "num_hidden_layers": 3,
            "hidden_size": 264,
            "num_attention_heads": 12,
            "intermediate_size": 1056,
            "tokenizer": tokenizer,
            "embedding_init": initialization,
        },
        "data": {"text": text, "max_length": 128},
        "stages": [{"alignment": alignment, "objectives": objectives, "max_steps": STEPS}],
        "training": {"device": "cpu"},
        "evaluation": {"cost": False, "teacher": False},
    }


def load(teacher: str) -> None:
    """Load a model, and read each of its weights."""
    model = load_model(teacher, architecture=architecture_of(load_config(teacher)), stored=True)
    for weight in model.parameters():
        weight.sum()


def add_head(teacher: str, folder: Path) -> None:
    """Save the teacher with a random head over its embedding table."""
    architecture = architecture_of(load_config(teacher))
    load_with_head(teacher, architecture=architecture, seed=0).save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)


def commands(given: argparse.Namespace, place: Path) -> dict[str, list[str]]:
    """What is measured, in an order in which each finds what it needs."""
    limbeck = [sys.executable, "-m", "limbeck"]
    learned, trimmed = str(place / "learned"), str(place / "trimmed")
    learn = ["vocabulary", "learn", given.text, "--like", given.teacher, "-o", learned]
    trim = ["vocabulary", "trim", given.teacher, given.text, "-o", trimmed]
    found = {
        "load the teacher": [sys.executable, __file__, given.teacher, given.text, "--load"],
        f"learn {STUDENT_TOKENS:,}": [*limbeck, *learn, "--vocab-size", str(STUDENT_TOKENS)],
        f"trim to {TRIMMED_TOKENS:,}": [*limbeck, *trim, "--vocab-size", str(TRIMMED_TOKENS)],
    }
    for number, name in enumerate(RECIPES):
        teacher = str(place / "headed") if "logits" in name else given.teacher
        file = place / f"{number}.yaml"  # JSON is YAML
        recipe = recipe_of(name, teacher, learned, str(place / "text.txt"))
        file.write_text(json.dumps(recipe), encoding="utf-8")
        found[f"plan: {name}"] = [*limbeck, "plan", str(file)]
        found[f"{STEPS} steps: {name}"] = [*limbeck, "distill", str(file), "-o"]
    return found


def main() -> None:
    """Print a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("teacher", help="the folder of a model with a large vocabulary")
    parser.add_argument("text", help="a text file in a language of the teacher's")
    parser.add_argument("--characters", type=int, default=5_000_000, help="of text in the recipes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="measure what has this in its name")
    parser.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        load(given.teacher)
        return
    device = choose_device("cpu")
    precision = choose_precision("auto", device)
    print(f"{describe_device(device)}, {torch.get_num_threads()} threads, {precision.name}")
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        text = "\n".join(read_documents_up_to(TextSource(given.text), given.characters))
        (place / "text.txt").write_text(text, encoding="utf-8")
        add_head(given.teacher, place / "headed")
        for name, command in commands(given, place).items():
            needed = name.startswith(("load", "learn"))
            if given.only not in name and not needed:
                continue
            for number in range(given.rounds):
                cache = place / f"cache {name} {number}".replace(":", "").replace(",", "")
                run = [str(place / f"run {len(best)} {number}")] if command[-1] == "-o" else []
                one = measured([*command, *run], cache)
                known = best.setdefault(name, one)
                best[name] = {key: min(known[key], value) for key, value in one.items()}
            shown(name, best[name], best["load the teacher"])
    print(json.dumps(best))


def shown(name: str, found: dict[str, float], loaded: dict[str, float]) -> None:
    """Print one line of the table."""
    more = (found["peak_bytes"] - loaded["peak_bytes"]) / 1e6
    of = "" if found is loaded else f", aims {SECONDS} s and {MEGABYTES:,} MB"
    print(
        f"{name:40} {found['seconds']:7.1f} s {found['cpu_seconds']:7.1f} s of processor"
        f" {found['peak_bytes'] / 1e6:7,.0f} MB, {more:+7,.0f} above loading{of}",
        flush=True,
    )


if __name__ == "__main__":
    main()
