"""Real teachers, each with the student that it is used for: speed, memory and first losses.

e5-small, 12 x 384 over 250,037 tokens, teaches 3 x 264 over 5,000 learned Russian tokens;
mpnet-base teaches half its depth and width; smollm2-135m-instruct teaches half its layers. Every
command runs as users run it, in a process of its own: learn the vocabulary, plan, distil. Peak
memory is that of the process.

    python benchmarks/real_teachers.py TEACHERS --english FILE --russian FILE [--steps 20]

TEACHERS holds folders with the names above. The table of a run is also written as JSON (--json).
"""

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import one_command
import yaml

WARM_UP = 5  # the first records, which hold what happens once
# The last layer of each teacher, from which the student's last learns.
RELATIONS = {"relations": {"student_layer": "last", "teacher_layer": "last"}}


@dataclass(frozen=True)
class Measured:
    """What one teacher's commands took."""

    teacher: str
    student: str
    vocabulary_seconds: float | None
    plan_seconds: float
    plan_megabytes: float
    train_megabytes: float
    tokens_per_second: float
    first_loss: float
    last_loss: float
    device: str
    precision: str


def recipes(teachers: Path, english: str, russian: str, vocabulary: Path) -> dict[str, Any]:
    """The recipe of every teacher."""
    relations = {"objectives": RELATIONS}
    return {
        "e5-small": {
            "teacher": str(teachers / "e5-small"),
            "student": {
                "num_hidden_layers": 3,
                "hidden_size": 264,
                "num_attention_heads": 12,
                "intermediate_size": 792,
                "tokenizer": str(vocabulary),
                "embedding_init": "containing",
                "init_from_teacher": {"layers": "mean", "width": "cut"},
            },
            "data": {"text": russian, "max_length": 128},
            "stages": [{**relations, "alignment": "match", "batch_size": 32}],
        },
        "mpnet-base": {
            "teacher": str(teachers / "mpnet-base"),
            "student": {
                "num_hidden_layers": 6,
                "hidden_size": 384,
                "num_attention_heads": 12,
                "intermediate_size": 1536,
                "init_from_teacher": {"layers": "uniform"},
            },
            "data": {"text": english, "max_length": 128},
            "stages": [{**relations, "batch_size": 32}],
        },
        "smollm2-135m-instruct": {
            "teacher": str(teachers / "smollm2-135m-instruct"),
            "student": {"num_hidden_layers": 15, "init_from_teacher": {"layers": "uniform"}},
            "data": {"text": english, "max_length": 512},
            "stages": [{"objectives": {"logits": {}}, "batch_size": 4}],
        },
    }


def run(*arguments: str, cache: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of a command of limbeck, which must succeed."""
    found = one_command.measured([sys.executable, "-m", "limbeck", *arguments], cache)
    return found["seconds"], found["peak_bytes"] / 1e6


def measured(
    name: str, recipe: dict[str, Any], given: argparse.Namespace, folder: Path
) -> Measured:
    """Plan and distil one teacher's recipe."""
    learned, cache = None, folder / "cache"
    if vocabulary := recipe["student"].get("tokenizer"):
        options = ["--vocab-size", "5000", "--like", recipe["teacher"]]
        learned, _ = run(
            "vocabulary", "learn", given.russian, "-o", vocabulary, *options, cache=cache
        )
    stage = {**recipe["stages"][0], "max_steps": given.steps}
    whole = {**recipe, "name": name, "stages": [stage], "training": {"logging_steps": 1}}
    whole["data"] = {**recipe["data"], "held_out": {"sequences": 32}}
    whole["evaluation"] = {"cost": False}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8")
    planned, plan_memory = run("plan", str(file), cache=cache)
    out = folder / name
    _, memory = run("distill", str(file), "-o", str(out), cache=cache)
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    machine = next(record for record in records if "device" in record)
    steps = [record for record in records if "loss" in record]
    timed = steps[WARM_UP:]
    per_second = len(timed) / sum(1 / record["tokens_per_second"] for record in timed)
    sizes = recipe["student"]
    width = f" x {sizes['hidden_size']}" if "hidden_size" in sizes else ""
    return Measured(
        name,
        f"{sizes['num_hidden_layers']}{width}",
        learned,
        planned,
        plan_memory,
        memory,
        per_second,
        steps[0]["loss"],
        steps[-1]["loss"],
        machine["device"],
        machine["precision"],
    )


def table(found: list[Measured]) -> str:
    """The rows as a page shows them."""
    head = "| teacher | student | learn s | plan s | plan MB | training MB | tokens/s | loss, first"
    rows = [f"{head} | last |", "| --- " * 9 + "|"]
    for one in found:
        learned = "" if one.vocabulary_seconds is None else f"{one.vocabulary_seconds:.0f}"
        rows.append(
            f"| {one.teacher} | {one.student} | {learned} | {one.plan_seconds:.0f} |"
            f" {one.plan_megabytes:,.0f} | {one.train_megabytes:,.0f} |"
            f" {one.tokens_per_second:,.0f} | {one.first_loss:.4g} | {one.last_loss:.4g} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measure the teachers that are there and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("teachers", type=Path)
    parser.add_argument("--english", required=True)
    parser.add_argument("--russian", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        all_recipes = recipes(given.teachers, given.english, given.russian, folder / "ru5k")
        found = [
            measured(name, recipe, given, folder)
            for name, recipe in all_recipes.items()
            if given.only in (None, name)
        ]
    print(f"{found[0].device}, {found[0].precision}, Python {platform.python_version()}")
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in found], indent=1), "utf-8")


if __name__ == "__main__":
    main()
