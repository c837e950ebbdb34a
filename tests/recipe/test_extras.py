"""Packages that are not installed are named before anything is trained or generated."""

import json

import pytest

from limbeck.errors import MissingExtraError
from limbeck.evaluation import rouge
from limbeck.evaluation.generation_scores import score_generation
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.task_files import load_task
from limbeck.recipe import extras
from limbeck.recipe.check import check
from limbeck.student import adapters


@pytest.fixture
def prompts(tmp_path, monkeypatch) -> str:
    """A file of prompts, where no extra is installed."""
    for module in (adapters, extras, rouge):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": "кот", "response": "спал"}) + "\n", encoding="utf-8")
    return str(file)


def test_missing_extras_are_problems_of_the_recipe(raw_recipe, prompts):
    raw_recipe["student"]["low_rank"] = {"kind": "lora", "rank": 2}
    raw_recipe["training"]["report_to"] = ["tensorboard"]
    raw_recipe["evaluation"]["tasks"] = [prompts]
    problems = dict(check(raw_recipe)[1])
    for field, extra in (
        ("student.low_rank.kind", "lora"),
        ("training.report_to", "tensorboard"),
        ("evaluation.tasks", "generation"),
    ):
        assert f"run: pip install 'limbeck[{extra}]'" in problems[field]


def test_a_missing_rouge_is_told_before_a_model_is_opened(prompts):
    with pytest.raises(MissingExtraError, match="rouge-score"):
        score_generation("nowhere", load_task(prompts), settings=GenerationSettings(), seed=0)
