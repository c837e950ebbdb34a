"""A student of a task: trained, resumed, read from a cache, exported and measured."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from conftest import (
    FAMILIES,
    HEADS,
    LABELS,
    losses,
    make_text,
    make_tokenizer,
    resumed_and_cached,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)
from typer.testing import CliRunner

import limbeck
from limbeck.cli.app import app
from limbeck.errors import CacheError, EvaluationError
from limbeck.evaluation.tasks import Example
from limbeck.models.families import ARCHITECTURES
from limbeck.models.load import load_config, load_task_model
from limbeck.models.task_heads import TaskHead, head_of
from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches, stage_held_out
from limbeck.run.cache import write_cache
from limbeck.run.cacheable import cache_size
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.run.own_head import own_head_scores
from limbeck.run.reader import Reader
from limbeck.run.task_answers import answers_of, task_side
from limbeck.run.task_batches import TaskBatches, teacher_reader
from limbeck.teacher.manifest import Kind
from limbeck.training.step import mean_values

PAIRS = ("t5", "mt5", "umt5")  # encoders of encoder-decoder pairs
CASES = [
    *itertools.product(
        [name for name in FAMILIES if not (ARCHITECTURES[name].causal or name in PAIRS)],
        ("pairs", "tags"),
    ),
    *itertools.product(("gpt2", "llama", "qwen3", "gemma2", "gpt_neox"), ("labels", "tags")),
]


def values(folder) -> list[float]:
    """Every loss of every objective in a run's log."""
    found = [record[3] or record[4] for record in losses(folder)]
    return [value for means in found if means for value in means.values()]


@pytest.mark.parametrize("task", sorted(HEADS))
def test_a_run_resumes_and_learns_the_same_from_a_cache(task, task_recipe, tmp_path, monkeypatch):
    raw = task_recipe(task)
    raw["training"] = {**raw["training"], "save_steps": 1}
    run = resumed_and_cached(raw, tmp_path, monkeypatch)
    quality = run.report["quality"][task]
    assert quality["test_rows"] == 40 and quality["teacher"] is not None
    assert run.report["task_answers"]["agreement"] is not None
    model, _ = limbeck.load(str(tmp_path / "whole"))
    assert head_of(model.config) == HEADS[task]


@pytest.mark.parametrize(("count", "size"), [(8, 8), (50, 32), (200, 32), (1000, 10)])
def test_the_batches_of_a_pass_have_no_row_twice(count, size, tokenizer):
    """Rows of several passes, sorted by length, would stand beside themselves."""
    rows = [Example(text=text) for text in make_text(count)]
    read = Reader(tokenizer, 64, 0)
    batches = TaskBatches(rows, None, read, None, size=size, seed=0)
    whole = 160 if count == 1000 else count  # rows are sorted within 16 batches
    found = [batches.batch(number).student for number in range(whole // size)]
    seen = [
        tuple(ids[real].tolist())
        for tokens in found
        for ids, real in zip(tokens.input_ids, tokens.mask, strict=True)
    ]
    assert len(set(seen)) == len(seen) == whole // size * size


@pytest.mark.parametrize(("family", "task"), CASES)
def test_every_family_with_heads(family, task, task_recipe, tmp_path):
    raw = task_recipe(task, family)
    raw["student"] = {"num_hidden_layers": 2, "init_from_teacher": {"layers": [0, 2]}}
    distill(raw, tmp_path / "run")
    found = values(tmp_path / "run")
    assert all(0 <= value < math.inf for value in found) and any(found)


@pytest.mark.parametrize("family", PAIRS)
def test_the_encoder_of_a_pair_has_no_such_head(family, task_recipe):
    assert ARCHITECTURES[family].text_encoder
    raw = task_recipe("labels")
    raw["student"] = {**raw["student"], "model_type": family}
    _, problems = check(raw)
    assert any("encoder of a pair" in message for _, message in problems)


def test_the_folder_is_one_of_transformers(task_recipe, tmp_path):
    run = distill(task_recipe("labels"), tmp_path / "run")
    model = AutoModelForSequenceClassification.from_pretrained(run.student)
    assert tuple(model.config.id2label.values()) == LABELS
    classify = pipeline("text-classification", str(run.student), device="cpu")
    side = task_side(str(run.student))
    rows = prepare(task_recipe("labels")).rows.task.test
    answers = answers_of(side, rows, LABELS, max_length=24)
    said = [found["label"] for found in classify([row.text for row in rows], truncation=True)]
    assert said == [LABELS[number] for number in answers.best]
    run = distill(task_recipe("tags"), tmp_path / "tags")
    tagger = AutoModelForTokenClassification.from_pretrained(run.student)
    tokens = AutoTokenizer.from_pretrained(run.student)("the red house", return_tensors="pt")
    with torch.no_grad():
        assert tagger(**tokens).logits.shape[-1] == 2
    assert "AutoModelForTokenClassification" in (run.student / "README.md").read_text()


def first_loss(raw):
    """The loss of both objectives before the first step, on the held-out rows."""
    accelerator = Accelerator(cpu=True)
    setup = prepare(raw)
    student, teacher = build_models(setup, accelerator)
    learner = build_learner(setup, student, 0)
    return mean_values(learner, teacher, setup.stages[0], stage_held_out(setup, 0), accelerator)


def permuted(folder, order, to):
    """The same classifier with its labels in another order."""
    head = head_of(load_config(folder))
    model = load_task_model(folder, head)
    output = [m for m in model.modules() if getattr(m, "out_features", 0) == len(head.labels)][-1]
    output.weight.data = output.weight.data[order]
    output.bias.data = output.bias.data[order]
    labels = tuple(head.labels[number] for number in order)
    type(head)(head.kind, labels).set_on(model.config)
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(folder).save_pretrained(to)


def test_labels_are_matched_by_name(task_recipe, tmp_path):
    """A student that keeps its own order learns the same of a teacher that has another."""
    raw = task_recipe("labels")
    raw["student"] = raw["teacher"]
    permuted(raw["teacher"], [2, 0, 1], tmp_path / "other")
    assert first_loss(raw)["class_logits"] == pytest.approx(0.0, abs=1e-6)
    other = first_loss({**raw, "teacher": str(tmp_path / "other")})
    assert other["class_logits"] == pytest.approx(0.0, abs=1e-6)
    assert other["class_labels"] == first_loss(raw)["class_labels"]


def test_labels_that_are_numbers_are_named_in_the_recipe(task_recipe):
    raw = task_recipe("labels", labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    _, problems = check(raw)
    [(_, message)] = [p for p in problems if p[0] == "teacher.labels"]
    assert "'LABEL_0'" in message and "'statement'" in message and "say which" in message
    named = {f"LABEL_{number}": label for number, label in enumerate(LABELS)}
    setup = prepare({**raw, "teacher": {"model": raw["teacher"], "labels": named}})
    assert setup.models.student.head.labels == LABELS


def test_a_student_with_a_vocabulary_of_its_own(task_recipe, vocabulary, tmp_path):
    for task in ("pairs", "tags"):
        raw = task_recipe(task)
        raw["student"] = {**raw["student"], "tokenizer": vocabulary}
        distill(raw, tmp_path / task)
        assert all(0 < value < math.inf for value in values(tmp_path / task))


@pytest.mark.parametrize("task", ["labels", "tags"])
@pytest.mark.parametrize("family", ["bert", "roberta", "llama"])
def test_the_head_is_copied_beside_other_tokens_too(family, task, task_recipe, tmp_path):
    raw = task_recipe(task, family)
    tokens = make_tokenizer(vocabulary=95, padding_id=ARCHITECTURES[family].padding_id or 3)
    if ARCHITECTURES[family].causal:
        tokens.eos_token = "[SEP]"
    tokens.save_pretrained(tmp_path / "tokens")
    raw["student"] = {
        "tokenizer": str(tmp_path / "tokens"),
        "embedding_init": "mean",
        "init_from_teacher": {"layers": "first"},
    }
    setup = prepare(raw)
    student, teacher = build_models(setup, Accelerator(cpu=True))
    copied = dict(teacher.model.named_parameters())
    table = student.get_input_embeddings().weight
    assert len(table) < len(teacher.model.get_input_embeddings().weight)
    for name, weight in student.named_parameters():
        if weight is not table:
            torch.testing.assert_close(weight, copied[name].float(), msg=name)


def test_a_cache_of_tags_is_of_the_words_that_both_read(task_recipe, vocabulary, tmp_path):
    raw = task_recipe("tags")
    write_cache(prepare(raw), tmp_path / "signals", Kind(), Accelerator(cpu=True))
    raw["student"] = {**raw["student"], "tokenizer": vocabulary}
    raw["teacher"] = {"model": raw["teacher"], "cache": str(tmp_path / "signals")}
    with pytest.raises(CacheError, match=r"student\.tokenizer"):
        distill(raw, tmp_path / "run")


def test_rows_without_labels_are_learned_from_the_teacher(task_recipe, task_files, tmp_path):
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "rows": str(task_files / "plain")}
    setup = prepare(raw)
    assert setup.rows.dropped == 40  # those that are scored
    assert len(setup.rows.train) + len(setup.rows.held_out) == 200 + 80
    distill(raw, tmp_path / "run")
    alone = {**raw, "data": {"rows": str(task_files / "plain"), "max_length": 24}}
    alone["stages"] = [{"objectives": {"class_logits": {}}, "num_train_epochs": 1}]
    run = distill(alone, tmp_path / "alone")
    assert run.report["quality"] == {} and "task_answers" not in run.report


def test_controls_without_a_teacher_and_with_its_choices_alone(task_recipe, tmp_path):
    raw = task_recipe("labels")
    gold = {**raw, "teacher": None, "stages": [{"preset": "fine-tuning", "max_steps": 2}]}
    gold["student"] = {**raw["student"], "model_type": "bert", "tokenizer": raw["teacher"]}
    control = distill(gold, tmp_path / "gold")
    stage = {"objectives": {"class_labels": {"labels_from": "teacher"}}, "max_steps": 2}
    distill({**raw, "stages": [stage]}, tmp_path / "choices")
    evaluation = {**raw["evaluation"], "baseline": str(control.folder)}
    run = distill({**raw, "evaluation": evaluation}, tmp_path / "soft")
    assert "Against the student without a teacher" in run.report["notes"][0]
    page = (tmp_path / "soft" / "report" / "report.md").read_text(encoding="utf-8")
    assert "Calibration on labels" in page and "Agreement on labels" in page
    found = json.loads((tmp_path / "soft" / "report" / "report.json").read_text())
    assert set(found["task_answers"]["sureness"]) == {"student", "teacher", "no_distillation"}


def test_text_first_and_the_task_after_it(task_recipe, text_file, tmp_path):
    raw = task_recipe("labels")
    raw["data"] = {**raw["data"], "text": str(text_file)}
    general = {"objectives": {"relations": {}}, "max_steps": 2, "batch_size": 4}
    raw["stages"] = [general, {"preset": "classifier", "max_steps": 2, "batch_size": 4}]
    setup = prepare(raw)
    assert [stage.rows for stage in setup.stages] == [False, True]
    distill(raw, tmp_path / "run")
    again = {**raw, "student": str(tmp_path / "run" / "student"), "stages": [raw["stages"][1]]}
    again["data"] = {key: value for key, value in raw["data"].items() if key != "text"}
    assert first_loss(again)["class_labels"] < 5
    tiny = {**raw, "stages": [{"preset": "tinybert-task", "max_steps": 2, "batch_size": 4}]}
    distill(tiny, tmp_path / "tinybert")


def test_prompts_first_and_the_task_after_them(task_recipe, tmp_path):
    raw = task_recipe("labels", "llama")
    rows = [json.dumps({"prompt": said, "references": ["red house"]}) for said in make_text(80)]
    (tmp_path / "ask.train.jsonl").write_text("\n".join(rows))
    raw["data"] = {**raw["data"], "prompts": str(tmp_path / "ask"), "max_new_tokens": 8}
    general = {"objectives": {"relations": {}}, "max_steps": 2, "batch_size": 4}
    raw["stages"] = [general, *raw["stages"]]
    setup = prepare(raw)
    assert [stage.rows for stage in setup.stages] == [False, True]
    batches = [stage_batches(setup, 1).batch(0), *stage_held_out(setup, 1)]
    assert all((batch.student.predicted.sum(-1) == 1).all() for batch in batches)  # one of each row
    distill(raw, tmp_path / "run")


def test_a_model_is_scored_with_its_own_head(task_recipe, task_files):
    raw = task_recipe("tags")
    where = {"split": None, "max_length": 24}
    found = own_head_scores(raw["teacher"], [str(task_files / "tags")], **where)
    assert found["tags"].metric == "span_f1" and found["tags"].test_rows == 40
    with pytest.raises(EvaluationError, match="a tagging head"):
        own_head_scores(raw["teacher"], [str(task_files / "labels")], **where)
    other = task_recipe("labels", labels=("LABEL_0", "LABEL_1", "LABEL_2"))["teacher"]
    with pytest.raises(EvaluationError, match="by name"):
        own_head_scores(other, [str(task_files / "labels")], **where)


def test_a_tagger_that_marks_the_ends_of_spans(task_recipe, task_files, tmp_path):
    """Rows are put in the scheme of its head, learned in it, and scored by the same spans."""
    labels = ("O", "E-X", "B-X", "S-X", "I-X")
    raw = task_recipe("tags", labels=labels)
    setup = prepare(raw)
    known = {tag for row in setup.rows.train for tag in row.tags}
    assert known <= {*labels} and "S-X" in known and setup.models.student.head.labels == labels
    run = distill(raw, tmp_path / "run")
    student, places = str(run.folder / "student"), [str(task_files / "tags")]
    found = own_head_scores(student, places, split=None, max_length=24)["tags"]
    assert found.mean == pytest.approx(run.report["quality"]["tags"]["student"])


def test_notes_are_of_what_the_model_itself_reads(task_recipe, task_files, tmp_path):
    """Of as many tokens as it has positions; of rows with a text and words, the text."""
    file = task_files / "labels.dev.jsonl"
    rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()]
    for split, some in (("train", rows[:20]), ("dev", rows[20:])):
        lost = [{**row, "tokens": ["\x01", "a"], "tags": ["O", "O"]} for row in some]
        lines = "\n".join(map(json.dumps, lost))
        (tmp_path / f"joint.{split}.jsonl").write_text(lines, encoding="utf-8")
    raw = task_recipe("labels")
    command = ["evaluate", raw["teacher"], "--own-head", "--task", str(tmp_path / "joint")]
    done = CliRunner().invoke(app, [*command, "--max-length", "1000"])
    said = " ".join(done.output.split())
    assert done.exit_code == 0 and "without any token" not in said, said
    assert "more than" not in said
    model = load_task_model(raw["teacher"], head_of(load_config(raw["teacher"])))
    model.config.max_position_embeddings = 9
    type(model)(model.config).save_pretrained(raw["teacher"])
    said = " ".join(CliRunner().invoke(app, [*command, "--max-length", "1000"]).output.split())
    assert "rows have more than 9 tokens" in said and "the model reads no more" in said


def test_the_command_makes_a_teacher(teacher_folder, task_files, tmp_path):
    command = ["finetune", str(teacher_folder), "--task", str(task_files / "labels")]
    command += ["-o", str(tmp_path / "run"), "--num-train-epochs", "1", "--max-length", "24"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert head_of(load_config(str(tmp_path / "run" / "student"))) == TaskHead(
        "sequence", tuple(sorted(LABELS))
    )
    score = ["evaluate", str(tmp_path / "run"), "--own-head", "--task", str(task_files / "labels")]
    done = CliRunner().invoke(app, [*score, "--max-length", "24"])
    assert done.exit_code == 0 and "accuracy" in done.output


def evaluated(*words):
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--max-length", "24"])
    return done.exit_code, " ".join(f"{done.output} {done.exception or ''}".split())


def test_scores_without_training_say_how_rows_were_read(task_recipe, task_files, tmp_path):
    """Notes as for a model that is fine-tuned; what training alone would read is refused."""
    teacher = task_recipe("labels")["teacher"]
    score = [teacher, "--own-head", "--task", task_files / "labels"]
    rows = (task_files / "labels.train.jsonl").read_text(encoding="utf-8")
    (tmp_path / "one.jsonl").write_text(rows, encoding="utf-8")
    code, said = evaluated(teacher, "--own-head", "--task", tmp_path / "one.jsonl")
    assert code == 0 and "20 of its 200 training rows are held out" in said, said
    code, said = evaluated(*score, "--seeds", 5, "--search")
    assert code and "--seeds and --search would not be read" in said
    code, said = evaluated(*score, "--task", task_files / "tags", "-o", tmp_path / "out")
    assert code and "tagging" in said and "accuracy" not in said


def test_scores_are_added_to_those_of_the_same_model(task_recipe, task_files, tmp_path):
    teacher = task_recipe("labels")["teacher"]
    score = [teacher, "--own-head", "-o", tmp_path / "out", "--task"]
    assert evaluated(*score, task_files / "labels")[0] == 0
    rows = (task_files / "labels.train.jsonl").read_text(encoding="utf-8")
    (tmp_path / "more.jsonl").write_text(rows, encoding="utf-8")
    assert evaluated(*score, tmp_path / "more.jsonl")[0] == 0
    held = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert held.keys() == {"model", "fingerprint", "labels", "more"}
    other = task_recipe("labels", family="roberta")["teacher"]
    code, said = evaluated(other, *score[1:], task_files / "labels")
    assert code and "holds the results of" in said


def test_a_prompt_stands_before_the_first_text_of_a_pair(tokenizer):
    reader = Reader(tokenizer, 64, 2)
    row = Example("left words", "right words")
    plain, prompted = reader.read(row), replace(reader, prompt="ask : ").read(row)
    second = slice(plain.ids.index(tokenizer.sep_token_id), None)
    before = len(prompted.ids) - len(plain.ids)
    assert before > 0 and prompted.ids[before:][second] == plain.ids[second]
    assert [span for span in prompted.spans if span] == [span for span in plain.spans if span]


@pytest.mark.parametrize("task", ["labels", "tags"])
def test_a_plan_counts_what_a_classifier_says_once_for_each_text(task, task_recipe, tmp_path):
    raw = task_recipe(task)
    raw["stages"] = [{"objectives": {"class_logits": {}}, "max_steps": 4, "batch_size": 8}]
    setup = prepare(raw)
    size = write_cache(setup, tmp_path / "signals", Kind(), Accelerator(cpu=True))
    expected = cache_size(setup, Kind())
    of_each = len(HEADS[task].labels) * 4
    rows = setup.rows.train
    lengths = [len(teacher_reader(setup).read(row).ids) for row in rows]
    assert len(rows) < 500 and min(lengths) < raw["data"]["max_length"] == max(lengths)
    texts, tokens = 4 * 8, 4 * 8 * sum(lengths) / len(rows)
    assert expected.total == round(of_each * (texts if task == "labels" else tokens))
    assert expected.bytes_a_token == pytest.approx(expected.total / tokens, rel=1e-3)
    read = [stage_batches(setup, 0).batch(step).teacher for step in range(4)]
    read += [batch.teacher for batch in stage_held_out(setup, 0)]
    real = sum(int(tokens.mask.sum()) for tokens in read)
    assert size.bytes_a_token == pytest.approx(size.total / real)
    assert task == "tags" or size.total < 4 * expected.total  # with the held-out texts
