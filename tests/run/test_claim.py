"""A folder belongs to one recipe, and to the command that made it."""

import pytest
from conftest import same_run, stop_at, train

from limbeck.errors import RecipeError
from limbeck.recipe.check import prepare
from limbeck.run.claim import check_kind, claim_folder
from limbeck.run.distill import distill


def recipe_of(raw):
    return prepare(raw).recipe


def test_the_fields_that_differ_are_named_with_both_values(raw_recipe, tmp_path):
    claim_folder(tmp_path, recipe_of(raw_recipe), write=True)
    claim_folder(tmp_path, recipe_of(raw_recipe), write=True)
    steps = raw_recipe["stages"][0]["max_steps"]
    raw_recipe["stages"][0] |= {"max_steps": steps + 1, "optimizer": {"learning_rate": 0.5}}
    raw_recipe["training"] |= {"save_steps": 77}
    with pytest.raises(RecipeError) as caught:
        claim_folder(tmp_path, recipe_of(raw_recipe), write=True)
    said = str(caught.value)
    assert f"stages.0.max_steps: {steps} before, {steps + 1} now" in said
    assert "stages.0.optimizer.learning_rate: " in said and " before, 0.5 now" in said
    assert "training.save_steps: " in said and "77 now" in said
    assert "or remove the folder" in said


def test_long_values_and_many_fields_are_shortened(raw_recipe, tmp_path):
    claim_folder(tmp_path, recipe_of(raw_recipe), write=True)
    names = ("save_steps", "logging_steps", "eval_steps", "save_total_limit")
    raw_recipe["training"] |= dict.fromkeys(names, 99)
    raw_recipe |= {"name": "x" * 90, "seed": 5}
    raw_recipe["stages"] = [raw_recipe["stages"][0]] * 2
    with pytest.raises(RecipeError, match=r"different: name, .* and 2 more\)"):
        claim_folder(tmp_path, recipe_of(raw_recipe), write=True)


def test_an_evaluation_may_change(raw_recipe, tmp_path):
    claim_folder(tmp_path, recipe_of(raw_recipe), write=True)
    raw_recipe["evaluation"] = {"seeds": 9}
    claim_folder(tmp_path, recipe_of(raw_recipe), write=True)


def test_a_run_that_was_short_of_memory_resumes_with_less(raw_recipe, tmp_path, monkeypatch):
    """The student is the same but for rounding."""
    raw_recipe["training"] |= {"save_steps": 1}
    train(raw_recipe, tmp_path / "whole")
    with monkeypatch.context() as stopping:
        stop_at(2, stopping)
        with pytest.raises(KeyboardInterrupt):
            distill(raw_recipe, tmp_path / "run")
    raw_recipe["stages"][0] |= {"micro_batch_size": 2}
    raw_recipe["training"] |= {"gradient_checkpointing": True}
    train(raw_recipe, tmp_path / "run")
    same_run(tmp_path / "whole", tmp_path / "run", rounding=1e-5)
    assert "micro_batch_size: 2" in (tmp_path / "run" / "recipe.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("place", "kind"),
    [("recipe.yaml", "run"), ("study.yaml", "study"), ("runs/student/0.1-0", "pilot")],
)
def test_the_folder_of_another_command_is_refused(tmp_path, place, kind):
    (tmp_path / place).mkdir(parents=True)
    check_kind(tmp_path, kind)
    check_kind(tmp_path / "other", kind)
    for other in {"run", "study", "pilot"} - {kind}:
        with pytest.raises(RecipeError, match=f"holds a {kind} .*which a {other} would overwrite"):
            check_kind(tmp_path, other)
