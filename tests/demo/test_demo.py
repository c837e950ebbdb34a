"""How the demo explains its numbers."""

import json
from pathlib import Path

from results import NOTHING

from limbeck.demo.run import demo_recipes, explanation, of_file
from limbeck.deploy.results import RESULT, VERSION
from limbeck.recipe.parse import parse_recipe
from limbeck.reports.model_results import Latency


def test_its_numbers_are_explained():
    size = {"embedding_parameters": 0, "megabytes": 0.0, "vocabulary_size": 0}
    scores = {"teacher": 0.971, "student": 0.859, "no_distillation": 0.712}
    report = {
        **NOTHING,
        "name": "demo",
        "limbeck_version": "0.1.0",
        "teacher": {"name": "teacher", "parameters": 22_600_000, **size},
        "no_distillation": {"name": "control", "parameters": 2_300_000, **size},
        "student": {"name": "student", "parameters": 2_300_000, **size},
        "quality": {
            "snips": {
                "metric": "intent_accuracy",
                "test_split": "test",
                "training_rows": 1000,
                "test_rows": 700,
                **scores,
                "seeds": {role: [score] for role, score in scores.items()},
                "spread": dict.fromkeys(scores),
                "metrics": {},
            }
        },
    }
    said = "\n".join(explanation(report, Path("runs/demo")))
    assert "teacher 97.1" in said and "student 85.9: 10 times smaller" in said
    assert "no distillation 71.2" in said and "gave +14.7" in said
    assert "runs/demo/report/report.html" in said and "limbeck plan" in said


def test_its_recipes_parse():
    for raw in demo_recipes(Path("runs/demo")):
        assert parse_recipe(raw)[1] == []


def test_its_file_is_compared_with_the_teacher(tmp_path):
    times = {"cold": 0.1, "rows": [[1, 16, 0.0005, 0.001], [8, 16, 0.004, 0.005]]}
    file = {"format": "onnx-int8", "file": "model_int8.onnx", "megabytes": 2.5, "times": times}
    result = {"limbeck_export": VERSION, "candidates": [file]}
    assert of_file(tmp_path, [Latency(1, 16, 0.01, 0.02)]) == []
    (tmp_path / RESULT).write_text(json.dumps(result), "utf-8")
    [said] = of_file(tmp_path, [Latency(32, 16, 1.0, 1.0), Latency(1, 16, 0.01, 0.02)])
    assert "2.5 MB" in said and "0.50 ms" in said and "10.0 ms in torch, 20 times" in said
