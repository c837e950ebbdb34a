"""The numbers that a command has left, as a small file that tables of the results are drawn from.

    python benchmarks/results_data.py export DIR/export.json -o docs/results/data/NAME.json
    python benchmarks/results_data.py study RUN/report/report.json -o docs/results/data/NAME.json
    python benchmarks/results_data.py embeddings MODEL=DIR/evaluation.json ... -o .../NAME.json
    python docs/site/result_tables.py  # draws the tables of the pages

A file holds tables: columns with the format of their numbers, and rows of numbers in full.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Table = dict[str, list[Any]]


def of_export(files: Sequence[str]) -> dict[str, Any]:
    """The files of `limbeck export`: what they keep, and how fast they are."""
    (found,) = map(_read, files)
    torch = {"format": "torch float32", "megabytes": found["megabytes"], "times": found["times"]}
    every = [torch, *found["candidates"]]
    columns = [["file", ""], ["MB", ".1f"], *_kept_columns(found["kind"])]
    columns += [["1 x 16 tokens", ".2f"], ["torch / file", ".1f"], ["1 x 128", ".1f"]]
    columns += [["torch / file", ".1f"], ["8 x 64", ".1f"], ["cold start", ",.0f"]]
    rows = [_file_row(found["kind"], one, torch) for one in every]
    return {"processor": found["processor"], "tables": {"files": _table(columns, rows)}}


def _kept_columns(kind: str) -> list[list[str]]:
    if kind == "causal":
        return [["same next token", ".1%"], ["bits a token", ".3f"]]
    return [["cosine to torch", ".5f"]] if kind in ("vectors", "body") else [["same class", ".1%"]]


def _file_row(kind: str, one: Mapping[str, Any], torch: Mapping[str, Any]) -> list[Any]:
    said = one.get("difference")
    if kind == "causal":
        kept = [said["agreement"], said["bits"][1]] if said else [None, None]
    else:
        of_vectors = kind in ("vectors", "body")
        kept = [said["cosine" if of_vectors else "agreement"] if said else None]
    times: list[float | None] = []
    for at in ((1, 16), (1, 128), (8, 64)):
        mine, theirs = _median(one, at), _median(torch, at)
        times += [mine, None if one is torch or not mine else theirs / mine]
    cold = one["times"]["cold"]
    return [
        one["format"] if one is torch else f"`{one['format']}`",
        *(one["megabytes"], *kept, *times[:-1], None if cold is None else 1000 * cold),
    ]


def _median(one: Mapping[str, Any], at: tuple[int, int]) -> float:
    """Milliseconds of so many texts of so many tokens."""
    return next(1000 * row[2] for row in one["times"]["rows"] if tuple(row[:2]) == at)


def of_study(files: Sequence[str]) -> dict[str, Any]:
    """The arms of `limbeck compare`, student by student: scores, what is kept, and intervals."""
    (found,) = map(_read, files)
    teacher, tables = found["teacher"], {}
    tasks = list(found["rows"][0]["quality"])
    tasks = tasks if len(tasks) > 1 else []
    for student, cost in found["students"].items():
        rows = []
        if teacher:  # with a head of its own it may have no score in some of the tasks
            of_tasks = [teacher["quality"].get(task, {}).get("mean") for task in tasks]
            scores = [one if one is None else 100 * one for one in (*of_tasks, teacher["mean"])]
            rows.append(["teacher", *scores, "", None, None, None, None])
        for row in found["rows"]:
            if row["student"] == student:
                name, *rest = _arm_row(row, teacher["mean"] if teacher else None)
                rows.append([name, *(100 * row["quality"][t]["mean"] for t in tasks), *rest])
        shown = [task.replace("_to_", " > ") for task in tasks]  # of another task's training rows
        columns = [["arm", ""], *([task, ".1f"] for task in shown), ["mean score", ".1f"]]
        columns += [["trainings", ""], ["kept", ".1%"]]
        columns += [["against the control", "+.1f"], ["95 % interval", ""], ["seconds", ",.0f"]]
        tables[student.replace("-", "_")] = {
            **_table(columns, rows),
            "parameters": cost["parameters"] if cost else None,
        }
    rows_of = {name: q["test_rows"] for name, q in found["rows"][0]["quality"].items()}
    machine = found["rows"][0]["training"]
    facts = {"processor": machine["device"], "precision": machine["precision"]}
    return {**facts, "control": found["control"], "scored rows": rows_of, "tables": tables}


def _arm_row(row: Mapping[str, Any], teacher: float | None) -> list[Any]:
    against = row["against_control"]
    trainings = _trainings(row["quality"]) if len(row["runs"]) > 1 else ""
    kept = row["mean"] / teacher if teacher else None
    apart, interval = None, ""
    if against:
        apart = 100 * against["mean"]
        interval = f"{100 * against['low']:+.1f} to {100 * against['high']:+.1f}"
    seconds = row["training"]["seconds"]
    return [row["arm"], 100 * row["mean"], trainings, kept, apart, interval, seconds]


def _trainings(quality: Mapping[str, Any]) -> str:
    """The mean over the tasks of each training."""
    by_task = [one["by_training"][one["metric"]] for one in quality.values()]
    means = [sum(scores) / len(scores) for scores in zip(*by_task, strict=True)]
    return ", ".join(f"{100 * one:.1f}" for one in means)


def of_embeddings(files: Sequence[str]) -> dict[str, Any]:
    """Scores of vectors (`limbeck evaluate MODEL --similarity ... -o FOLDER`), model by model."""
    given = [file.split("=", 1) for file in files]
    found = {name: _read(file)["embeddings"] for name, file in given}
    names = list(dict.fromkeys((s["task"], s["metric"]) for one in found.values() for s in one))
    columns = [["model", ""]]
    for task, metric in names:
        columns += [[f"{task}, {metric}", ".1f"], ["95 % interval", ""]]
    rows = []
    for model, scores in found.items():
        by_name = {(s["task"], s["metric"]): s["scores"][s["metric"]] for s in scores}
        rows.append([model, *(cell for name in names for cell in _score(by_name.get(name)))])
    return {"tables": {"models": _table(columns, rows)}}


def _score(score: Mapping[str, Any] | None) -> tuple[float | None, str]:
    """A score of a hundred, and its interval."""
    if score is None:
        return None, ""
    return 100 * score["score"], f"{100 * score['low']:.1f} to {100 * score['high']:.1f}"


def _table(columns: list[list[str]], rows: list[list[Any]]) -> Table:
    return {"columns": columns, "rows": rows}


def _read(file: str) -> Any:
    return json.loads(Path(file).read_text(encoding="utf-8"))


KINDS: dict[str, Callable[[Sequence[str]], dict[str, Any]]] = {
    "export": of_export,
    "study": of_study,
    "embeddings": of_embeddings,
}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("files", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    found = KINDS[given.kind](given.files)
    text = json.dumps(found, ensure_ascii=False, indent=1)
    text = re.sub(r"\[[^\[\]]*\]", lambda row: " ".join(row[0].split()), text)  # a row in a line
    given.output.write_text(f"{text}\n", encoding="utf-8")
    print(given.output)


if __name__ == "__main__":
    main()
