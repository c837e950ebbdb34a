"""Several fine-tuned teachers, whose answers are averaged."""

import itertools
import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import (
    HEADS,
    LABELS,
    launcher,
    make_model,
    make_tokenizer,
    resumed_and_cached,
    train,
    with_task_head,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from limbeck.activations import Needs
from limbeck.errors import CacheError, DataError, ObjectiveError
from limbeck.models.task_heads import TaskHead
from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.costs import added_costs
from limbeck.run.distill import distill
from limbeck.run.models import build_models
from limbeck.run.plan import plan_tables
from limbeck.run.task_answers import answers_of, averaged_answers, columns_of, task_side
from limbeck.teacher.ensemble import EnsembleTeacher, averaged
from limbeck.teacher.manifest import Kind


@pytest.fixture
def member(tmp_path, tokenizer):
    """The folder of a further teacher of a task, with its labels in this order."""
    numbers = itertools.count(5)

    def of(head: TaskHead, *, reader=tokenizer, family="bert", name=None) -> str:
        seed = next(numbers)
        folder = tmp_path / (name or f"member-{seed}")
        torch.manual_seed(seed)
        model = make_model(family, vocabulary=len(reader), layers=1)
        model.config.pad_token_id = reader.pad_token_id
        with_task_head(model, head, seed=seed).save_pretrained(folder)
        reader.save_pretrained(folder)
        return str(folder)

    return of


@pytest.fixture
def raw(task_recipe, member) -> dict:
    recipe = task_recipe("labels")
    others = [member(TaskHead("sequence", LABELS[::-1])), member(HEADS["labels"])]
    recipe["teacher"] = {"model": recipe["teacher"], "ensemble": others}
    return recipe


def problems_of(raw) -> dict[str, str]:
    setup, problems = check(raw)
    assert (setup is None) == bool(problems)
    return dict(problems)


def test_probabilities_are_averaged_by_the_names_of_labels(raw):
    """Against transformers and plain loops, one text after another."""
    setup = prepare(raw)
    _, teacher = build_models(setup, Accelerator(cpu=True))
    assert isinstance(teacher, EnsembleTeacher)
    batch = stage_batches(setup, 0).batch(0)
    found = teacher.signals(batch, Needs(class_logits=True)).class_logits
    for row, ids in enumerate(batch.teacher.input_ids):
        ids = ids[batch.teacher.mask[row]][None]
        mean = dict.fromkeys(LABELS, 0.0)
        for folder in (raw["teacher"]["model"], *raw["teacher"]["ensemble"]):
            model = AutoModelForSequenceClassification.from_pretrained(folder)
            with torch.no_grad():
                chances = model(ids).logits[0].softmax(-1)
            for number, chance in enumerate(chances):
                mean[model.config.id2label[number]] += float(chance) / 3
        labels = setup.models.teacher.head.labels
        assert found[row].exp().tolist() == pytest.approx([mean[x] for x in labels], abs=1e-6)


def test_averages_of_numbers_and_of_probabilities_that_vanish():
    numbers = [torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [-2.0]])]
    assert averaged(numbers).tolist() == [[2.0], [1.0]]
    sure = averaged([torch.tensor([[0.0, -900.0]]), torch.tensor([[0.0, -1000.0]])])
    assert sure.tolist() == [[0.0, pytest.approx(-900.0 - np.log(2))]]


@pytest.mark.parametrize(
    ("task", "objectives"),
    [
        ("labels", {"class_logits": {}, "class_labels": {"labels_from": "teacher"}}),
        ("several", {"class_logits": {}, "class_labels": {"labels_from": "teacher"}}),
        ("tags", {"class_logits": {}}),
        ("scores", {"class_logits": {}}),
    ],
)
def test_a_run_resumes_and_learns_the_same_from_a_cache(
    task, objectives, task_recipe, member, tmp_path, monkeypatch
):
    raw, head = task_recipe(task), HEADS[task]
    other = member(replace(head, labels=head.labels[::-1]))
    raw["teacher"] = {"model": raw["teacher"], "ensemble": [other]}
    raw["stages"][0]["objectives"] = objectives
    raw["training"] = {**raw["training"], "save_steps": 1}
    run = resumed_and_cached(raw, tmp_path, monkeypatch)
    setup = prepare(raw)
    labels = columns_of(setup.models.student.head, setup.rows.scored)
    sides = [task_side(name) for name in setup.models.teacher_names]
    rows = setup.rows.scored.test
    every = [answers_of(side, rows, labels, max_length=24).logits for side in sides]
    mean = averaged_answers(sides, rows, labels, max_length=24).logits
    if head.scores:
        assert np.allclose(mean, (every[0] + every[1]) / 2, atol=1e-6)
    elif head.multi_label:
        chances = [1 / (1 + np.exp(-x)) for x in every]
        assert np.allclose(1 / (1 + np.exp(-mean)), (chances[0] + chances[1]) / 2, atol=1e-6)
    else:
        chances = [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in every]
        assert np.allclose(np.exp(mean), (chances[0] + chances[1]) / 2, atol=1e-6)
    report = run.report
    assert report["teacher"]["name"] == " + ".join(setup.models.teacher_names)
    assert report["quality"][task]["teacher"] is not None
    if task == "labels":
        right = [labels[n] == row.label for n, row in zip(mean.argmax(-1), rows, strict=True)]
        assert report["quality"][task]["teacher"] == pytest.approx(np.mean(right))
    card = (run.student / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in setup.models.teacher_names)
    # A member that changes is another teacher.
    file = tmp_path / "member-5" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "layer_norm_eps": 1e-5}))
    cached = {**raw["teacher"], "cache": str(tmp_path / "signals")}
    with pytest.raises(CacheError, match=r"teacher\.ensemble\.0 is"):
        open_cache(prepare({**raw, "teacher": cached}), "cpu")
    with pytest.raises(DataError, match=r"teacher\.ensemble\.0"):
        distill(raw, tmp_path / "whole")


def test_a_cache_without_the_names_of_its_teachers(raw, tmp_path):
    write_cache(prepare(raw), tmp_path / "signals", Kind(), Accelerator(cpu=True))
    setup = prepare({**raw, "teacher": {"cache": str(tmp_path / "signals")}})
    assert setup.recipe.teacher.ensemble == raw["teacher"]["ensemble"]
    open_cache(setup, "cpu")
    fewer = {**raw["teacher"], "ensemble": raw["teacher"]["ensemble"][:1]}
    fewer["cache"] = str(tmp_path / "signals")
    with pytest.raises(CacheError, match=r"teacher\.ensemble\.1 is not there"):
        open_cache(prepare({**raw, "teacher": fewer}), "cpu")


def test_renamed_labels_are_those_of_every_teacher(raw, member):
    renames = {f"LABEL_{number}": label for number, label in enumerate(LABELS)}
    raw["teacher"]["ensemble"][0] = member(TaskHead("sequence", tuple(renames)))
    assert "which are no names" in problems_of(raw)["teacher.ensemble.0"]
    raw["teacher"]["labels"] = renames
    assert problems_of(raw) == {}
    raw["teacher"]["labels"] = {**renames, "LABEL_9": "order"}
    assert "'LABEL_9' is no label of any" in problems_of(raw)["teacher.labels"]


def test_teachers_that_cannot_be_averaged(raw, member, tokenizer, teacher_folder):
    def problem(other: str) -> str:
        teacher = {**raw["teacher"], "ensemble": [other]}
        return problems_of({**raw, "teacher": teacher})["teacher.ensemble.0"]

    small = make_tokenizer(vocabulary=120)
    same_kind = member(HEADS["labels"], reader=small)
    assert "so they need the same tokenizer" in problem(same_kind)
    assert f"has {len(small)} tokens and the first teacher {len(tokenizer)}" in problem(same_kind)
    cased = AutoTokenizer.from_pretrained(raw["teacher"]["model"])
    cased.backend_tokenizer.normalizer = None
    assert "has another normalizer" in problem(member(HEADS["labels"], reader=cased))
    framed = AutoTokenizer.from_pretrained(raw["teacher"]["model"])
    plain = make_tokenizer("byte_bpe").backend_tokenizer.post_processor
    framed.backend_tokenizer.post_processor = plain
    two = member(HEADS["labels"], reader=framed)
    assert "teacher.ensemble.0" in problems_of(
        {**raw, "teacher": {**raw["teacher"], "ensemble": [two]}}
    ) or frames_alike(framed, tokenizer)
    assert "has no head of a task" in problem(str(teacher_folder))
    assert "has a tagging head" in problem(member(HEADS["tags"]))
    assert "has a head that gives a number" in problem(member(HEADS["scores"]))
    other = problem(member(TaskHead("sequence", ("statement", "question", "exclamation"))))
    assert "another teacher has" in other and "'order'" in other and "'exclamation'" in other
    assert "names" in problem(raw["teacher"]["model"]) and "twice" in problem(
        raw["teacher"]["model"]
    )


def frames_alike(one, other) -> bool:
    return one("a").input_ids == other("a").input_ids


def test_objectives_that_need_more_than_class_logits(raw, text_file):
    hidden = {"class_logits": {}, "hidden_states": {"layers": "last"}}
    raw["stages"][0]["objectives"] = hidden
    found = problems_of(raw)["stages.0.objectives.hidden_states"]
    assert "needs hidden of the teacher" in found and "teacher.ensemble" in found
    raw["data"]["text"] = str(text_file)
    text = {"objectives": {"relations": {}}, "max_steps": 2, "batch_size": 4}
    raw["stages"] = [text, {**raw["stages"][0], "objectives": {"class_logits": {}}}]
    assert list(problems_of(raw)) == ["stages.0.objectives.relations"]
    del raw["data"]["task"]
    raw["stages"] = [text]
    assert "head of a task" in problems_of(raw)["teacher.ensemble"]


def test_other_needs_are_refused_by_the_teacher_too(raw):
    _, teacher = build_models(prepare(raw), Accelerator(cpu=True))
    batch = stage_batches(prepare(raw), 0).batch(0)
    with pytest.raises(ObjectiveError, match="hidden is needed"):
        teacher.signals(batch, Needs(hidden=frozenset({0})))
    assert teacher.signals(batch, Needs()).class_logits is None


def test_the_plan_shows_every_teacher(raw):
    raw["teacher"]["quantize"] = "int8"
    tables = dict(plan_tables(prepare(raw), None))
    names = [row[0] for row in tables["Models"][1:]]
    assert names == ["teacher", *(f"teacher, {x}" for x in raw["teacher"]["ensemble"]), "student"]
    _, teacher = build_models(prepare(raw), Accelerator(cpu=True))
    kinds = [
        {type(module).__name__ for module in live.model.modules()}
        for live in (teacher, *teacher.others)
    ]
    assert all("Linear" in kind for kind in kinds) and len(kinds) == 3
    assert all(kind & set.intersection(*kinds) - {"Linear"} for kind in kinds)


def test_costs_of_several_are_added():
    row = {"batch": 1, "length": 16, "p50": 0.25, "p95": 0.5}
    other = {"parameters": 10, "megabytes": 1.5, "vocabulary_size": 7, "threads": 2}
    one = {**other, "peak_memory_bytes": None, "cpu_ms_per_sentence": 2.0, "latencies": [row]}
    two = {**one, "peak_memory_bytes": 4, "latencies": [row, {**row, "length": 64}]}
    total = added_costs([two, one])
    assert (total["parameters"], total["megabytes"], total["vocabulary_size"]) == (20, 3.0, 7)
    assert total["peak_memory_bytes"] is None and total["cpu_ms_per_sentence"] == 4.0
    assert total["latencies"] == [{**row, "p50": 0.5, "p95": 1.0}]
    assert added_costs([one]) == one


def test_two_processes_learn_what_one_learns(raw, tmp_path):
    raw["evaluation"]["teacher"] = False
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(raw), encoding="utf-8")  # JSON is YAML
    command, environment = launcher(2)
    command += ["-m", "limbeck", "distill", str(file), "-o", str(tmp_path / "two")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    train(raw, tmp_path / "one")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    ends = [[r["held_out"] for r in log if "held_out" in r][-1] for log in logs]
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
