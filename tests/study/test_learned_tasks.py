"""Studies whose students learn a task and are fine-tuned on others: both kinds of scores."""

import json
from pathlib import Path
from statistics import mean

import pytest

from limbeck.reports.comparison import comparison_table
from limbeck.reports.study_results import StudyResult
from limbeck.study.arms import prepare_study
from limbeck.study.compare import compare
from limbeck.study.redraws import Redraws
from limbeck.study.report import _tokens_line


@pytest.fixture
def raw(task_recipe, task_files, teacher_folder) -> dict:
    """Two arms that learn ``labels`` from its labels, with a teacher that has no head for them."""
    recipe = task_recipe("labels")
    recipe["stages"][0] |= {"objectives": {"class_labels": {}}, "max_steps": 2}
    settings = {"num_train_epochs": 1, "max_length": 16}
    evaluation = {"seeds": 2, "finetuning": settings, "cost": False, "max_train_samples": 20}
    return {
        "recipe": {
            **recipe,
            "teacher": str(teacher_folder),
            "seed": 3,
            "evaluation": {**evaluation, "tasks": [str(task_files / "scores")]},
        },
        "arms": {"slow": {}, "fast": {"stages.0.optimizer.learning_rate": 0.01}},
        "control": "slow",
        "draws": 100,
    }


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_learned_task_has_one_score_beside_several_fine_tunings(raw, tmp_path, seeds):
    found = StudyResult.from_json(compare({**raw, "seeds": seeds}, tmp_path / "study"))
    for row in found.rows:
        learned, tuned = row.quality["labels"].values, row.quality["scores"].values
        assert (len(learned), len(tuned)) == (seeds, 2 * seeds)
        each = [(learned[n // 2] + value) / 2 for n, value in enumerate(tuned)]
        assert row.mean == pytest.approx(mean(each))
    fast, slow = (next(r for r in found.rows if r.arm == arm) for arm in ("fast", "slow"))
    gap = fast.against_control
    assert gap.mean == pytest.approx(fast.mean - slow.mean) and gap.seeds == 2
    # The teacher is scored where it can be, and has no mean over other tasks than the arms.
    assert list(found.teacher.quality) == ["scores"] and found.teacher.mean is None
    head, teacher, *_ = comparison_table(found, "student")
    shown = dict(zip(head, teacher, strict=True))
    assert shown["labels (accuracy)"] == shown["mean"] == "" and shown["scores (spearman)"]
    assert any("no score on labels" in note for note in found.notes)


def test_arms_that_learn_different_tasks_are_compared_on_those_of_the_evaluation(
    raw, task_files, tmp_path
):
    rows = Path(task_files / "labels.train.jsonl").read_text(encoding="utf-8").splitlines()
    text = "\n".join(json.dumps({**json.loads(row), "label": row[10]}) for row in rows)
    (tmp_path / "other.jsonl").write_text(text, encoding="utf-8")
    raw["arms"]["fast"] = {"data.task": str(tmp_path / "other.jsonl")}
    study, runs = prepare_study(raw)
    redraws = Redraws(study, runs)
    assert redraws.differ and [task.name for task in redraws.tasks] == ["scores"]
    assert not Redraws(study, runs[:1]).differ


def test_what_a_training_reads_is_counted_in_what_it_reads(raw, raw_recipe, decoder, prompts):
    _, [rows, _] = prepare_study(raw)
    assert _tokens_line(rows) == "16 rows"
    for change, said in (
        ({"text": raw_recipe["data"]["text"]}, "384 tokens"),
        ({"prompts": prompts, "max_new_tokens": 8}, "24 prompts"),
        ({"prompts": prompts, "max_new_tokens": 8, "packing": "all"}, "384 tokens"),
    ):
        recipe = {**raw_recipe, "teacher": decoder, "data": {"max_length": 16, **change}}
        recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 6, "batch_size": 4}]
        arms = {"one": {}, "two": {"stages.0.optimizer.weight_decay": 0.5}}
        _, [run, _] = prepare_study({"recipe": recipe, "arms": arms, "control": "one"})
        assert _tokens_line(run) == said
