"""How the demo explains its numbers."""

from pathlib import Path

from results import NOTHING

from limbeck.demo.run import demo_recipes, explanation
from limbeck.recipe.parse import parse_recipe


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
