"""A recipe and a command that train every model to its best, from the task files to the report."""

import json
import sys

import pytest
from conftest import make_text
from rich.console import Console

from limbeck.cli.main import main
from limbeck.run.distill import distill

RATES = [1e-3, 1e-2]


@pytest.fixture
def task(tmp_path) -> str:
    """Two files with texts of their own, each of one of two classes."""
    lines = make_text(60)
    for split, some in (("train", lines[:48]), ("dev", lines[48:])):
        rows = [
            json.dumps({"text": f"{number} {line}", "label": "xy"[number % 2]})
            for number, line in enumerate(some)
        ]
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return str(tmp_path / "toy")


def test_a_recipe_trains_every_model_to_its_best(raw_recipe, task, tmp_path):
    raw_recipe["evaluation"] |= {
        "tasks": [task],
        "finetuning": {
            "max_length": 16,
            "search": {"learning_rates": RATES, "num_train_epochs": 2},
        },
        "seeds": 1,
    }
    folder = tmp_path / "run"
    report = distill(raw_recipe, folder, console=Console(quiet=True)).report
    search = report["quality"]["toy"]["search"]
    assert search.keys() == {"teacher", "student"}
    for found in search.values():  # the same budget: at most these trials
        lengths = [trial["num_train_epochs"] for trial in found["trials"]]
        assert lengths == [0.25, 0.25, 0.5, 1.0, 2.0][: len(lengths)]
        assert (found["training_rows"], found["validation_rows"]) == (36, 12)
    said = "every model was fine-tuned to its best: learning rate (of 0.001, 0.01) and length"
    assert any(note.startswith(said) for note in report["notes"])
    markdown = (folder / "report" / "report.md").read_text("utf-8")
    assert "## Learning curves" in markdown and "| toy | teacher | 0.0" in markdown


def test_the_command_searches_and_says_what_it_chose(monkeypatch, capsys, teacher_folder, task):
    def run(*options) -> tuple[int, str]:
        words = ["limbeck", "evaluate", teacher_folder, "--task", task, "--seeds", 1, *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out + said.err

    rates = [word for rate in RATES for word in ("--learning-rate", rate)]
    code, out = run("--search", *rates, "--num-train-epochs", 1, "--max-length", 16, "--json")
    found = json.loads(out.strip().splitlines()[-1])["toy"]
    assert code == 0
    assert found["search"]["learning_rates"] == RATES and found["search"]["most_epochs"] == 1.0
    assert "toy: of" in out and "are best on 12 rows set apart from training" in out
    code, out = run(*rates)
    assert code == 1 and "--learning-rate is given 2 times" in " ".join(out.split())
    code, out = run("--search", "--learning-rate", 0)
    assert code == 1 and "finetuning.search.learning_rates.0" in " ".join(out.split())
