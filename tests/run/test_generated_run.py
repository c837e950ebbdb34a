"""Whole runs over prompts: every policy, what is learned from what, resuming, and bad recipes."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TOKENS, make_text, rows_are_those_of_the_whole, stopped_and_whole, train
from rich.console import Console
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from limbeck.data.prompts import Prompt, read_prompts
from limbeck.errors import DataError, EvaluationError, RecipeError
from limbeck.evaluation.finetune import FinetuneSettings
from limbeck.evaluation.generation_scores import score_generation
from limbeck.evaluation.rouge import rouge_l
from limbeck.evaluation.seeds import evaluate_tasks
from limbeck.evaluation.settings import GenerationSettings
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.text_generator import TextGenerator
from limbeck.recipe.check import prepare
from limbeck.recipe.methods import METHODS
from limbeck.recipe.parse_policy import KINDS
from limbeck.reports.comparison import metrics_table
from limbeck.reports.generation import positions_table
from limbeck.reports.study_results import StudyResult
from limbeck.run.accelerator import build_accelerator
from limbeck.run.distill import distill
from limbeck.run.generate_samples import generate_samples
from limbeck.run.models import build_models
from limbeck.run.plan import exported_student
from limbeck.run.probe import probe
from limbeck.run.prompt_batches import generated_batches, prompt_batches
from limbeck.student.shape import parameters_of_shape
from limbeck.study.compare import compare
from limbeck.tokenization.learn import as_transformers, blank_tokenizer, learn_tokenizer
from limbeck.tokenization.prompts import answered


@pytest.fixture
def raw(raw_recipe, decoder, prompts):
    raw_recipe["teacher"] = decoder
    raw_recipe["data"] = {
        "prompts": prompts,
        "max_length": 40,
        "max_new_tokens": 16,
        "held_out": {"fraction": 0.1, "sequences": 8},
    }
    raw_recipe["stages"] = [
        {
            "policy": "switch",
            "objectives": {"logits": {}, "labels": {"weight": 0.5}},
            "max_steps": 4,
            "batch_size": 4,
        }
    ]
    raw_recipe["training"] |= {"logging_steps": 2}
    return raw_recipe


@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_gives_a_student_that_generates(raw, tmp_path, prompts, kind):
    raw["stages"][0]["policy"] = kind
    raw["evaluation"] |= {"tasks": [prompts], "generation": {"max_new_tokens": 12}, "seeds": 2}
    run = distill(raw, tmp_path / "run")
    student = AutoModelForCausalLM.from_pretrained(run.student)
    assert student.config.vocab_size == TOKENS
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    steps = [record for record in log if "objectives" in record]
    if kind == "corpus":
        assert "teacher_wrote" not in steps[-1]
    else:
        assert all(0 <= share <= 1 for record in steps for share in record["teacher_wrote"])
        assert 1 <= steps[-1]["written_length"] <= 16
    if kind in ("student", "mixed", "teacher"):
        assert steps[-1]["teacher_wrote"] == [float(kind == "teacher")] * 3
    quality = run.report["quality"]["toy"]
    assert quality["metric"] == "rouge_l" and 0 <= quality["student"] <= 1
    assert quality["seeds"]["student"][0] == quality["seeds"]["student"][1]
    metrics = quality["metrics"]["student"]
    assert metrics.keys() == {
        *("rouge_l", "bits_per_byte", "perplexity", "ended", "words"),
        *("cut_prompts", "cut_references"),
        *(f"bits_per_byte_{third}_third" for third in ("first", "middle", "last")),
    }
    by_position = run.report["by_position"]
    assert all(len(parts) == 3 for parts in by_position.values()) and len(by_position) == 3
    assert any("lost their beginning" in note for note in run.report["notes"])
    assert any("12 tokens at most, greedy" in note for note in run.report["notes"])
    assert not any("fine-tuned" in note for note in run.report["notes"])
    page = (run.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert ("Who generated" in page) == (kind != "corpus")
    assert "on its own text" in page and f"{metrics['perplexity']:.1f}" in page
    assert probe(prepare(raw), 0).seconds_per_step > 0


def batches_of(raw):
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, ".")
    student, teacher = build_models(setup, accelerator)
    read = prompt_batches(setup, held_out=False, size=4, seed=setup.recipe.seed)
    return read, generated_batches(setup, 0, read, student, teacher.model, accelerator), setup


def test_labels_learn_from_the_corpus_and_all_else_from_generated_text(raw):
    read, generated, _ = batches_of(raw)
    batch = generated.batch(3)
    corpus = read.batch(3).student
    assert torch.equal(batch.student.input_ids, corpus.input_ids)
    assert torch.equal(batch.student.predicted, corpus.predicted)
    view = batch.links.view
    assert batch.teacher is view and batch.compared.student is view
    for row, number in enumerate(read.numbers(3)):
        prompt = read.table.prompts[number]
        assert view.input_ids[row, : len(prompt)].tolist() == prompt.tolist()
        first = int(view.predicted[row].int().argmax())
        assert first == len(prompt) - 1 and int(view.predicted[row].sum()) <= 16
    assert not torch.equal(view.input_ids[:, :20], corpus.input_ids[:, :20])
    again = batches_of(raw)[1].batch(3)
    assert torch.equal(again.teacher.input_ids, batch.teacher.input_ids)
    assert not torch.equal(generated.batch(2).teacher.labels[:, :16], batch.teacher.labels[:, :16])
    assert generated.facts() and not generated.facts()


def test_rows_do_not_depend_on_those_beside_them(raw):
    read, generated, _ = batches_of(raw)
    rows_are_those_of_the_whole(read, 3)
    rows_are_those_of_the_whole(generated, 3)


def test_labels_may_learn_from_generated_text(raw):
    raw["stages"][0]["policy"] = {"kind": "teacher", "labels": "generated"}
    raw["stages"][0]["objectives"] = {"labels": {}}
    batch = batches_of(raw)[1].batch(0)
    assert batch.student is batch.teacher and batch.links is None


def test_a_share_of_the_prompts_keeps_its_response(raw):
    raw["stages"][0]["policy"] = {"kind": "mixed", "fraction": 0.5}
    raw["stages"][0]["objectives"] = {"logits": {}}
    read, generated, _ = batches_of(raw)
    kept = total = 0
    for number in range(20):
        rows = read.batch(number).student
        found = generated.batch(number).student
        for row in range(4):
            width = min(rows.mask[row].sum(), found.mask[row].sum())
            same = torch.equal(found.input_ids[row, :width], rows.input_ids[row, :width])
            kept += same and bool(found.mask[row].sum() == rows.mask[row].sum())
            total += 1
    assert 0.3 < kept / total < 0.7


def test_generated_texts_are_replayed(raw):
    raw["stages"][0]["policy"] = {"kind": "student", "replay_ratio": 0.5, "replay_buffer_size": 6}
    raw["stages"][0]["objectives"] = {"logits": {}}
    _, generated, _ = batches_of(raw)
    seen, again = set(), 0
    for number in range(12):
        batch = generated.batch(number).student
        texts = {
            tuple(row[real].tolist()) for row, real in zip(batch.input_ids, batch.mask, strict=True)
        }
        again += len(texts & seen)
        seen |= texts
    assert 12 <= again <= 34 and len(generated.state()["rows"]) == 6


def test_the_end_is_predicted_where_it_is_the_padding_too():
    tokens = answered([np.array([5, 6])], [np.array([7, 2])], pad=2)
    assert tokens.labels[tokens.predicted].tolist() == [7, 2]
    both = answered([np.array([5, 6]), np.array([5])], [np.array([7, 2]), np.array([2])], pad=2)
    assert both.labels[both.predicted].tolist() == [7, 2, 2]
    assert both.mask.sum(-1).tolist() == [4, 2]


def test_prompts_are_predicted_where_the_loss_is_on_all(raw):
    raw["stages"][0]["policy"] = {"kind": "student", "fraction": 0.5}
    raw["data"]["loss_on"] = "all"
    raw["stages"][0]["objectives"] = {"labels": {}, "logits": {}}
    references, generated, _ = batches_of(raw)
    for tokens in (
        references.batch(0).student,
        (batch := generated.batch(0)).student,
        batch.teacher,
    ):
        for row in range(len(tokens.mask)):
            ids = tokens.input_ids[row, tokens.mask[row]].tolist()
            assert tokens.labels[row, tokens.predicted[row]].tolist() == ids[1:]


def test_long_prompts_lose_their_beginning(raw):
    raw["data"] |= {"max_length": 20, "max_new_tokens": 12}
    table = batches_of(raw)[0].table
    assert table.truncated_prompts > 0 and table.truncated_responses > 0
    assert max(map(len, table.prompts)) == 8 and max(map(len, table.responses)) == 12
    begin = prepare(raw).models.student.tokenizer.bos_token_id
    assert {int(prompt[0]) for prompt in table.prompts} == {begin}


def test_arms_of_a_study_share_prompts_that_they_tokenize_alike(raw):
    one, other = (prompt_batches(prepare(raw), held_out=False, size=4).table for _ in range(2))
    raw["data"]["max_length"] = 30
    assert other is one and prompt_batches(prepare(raw), held_out=False, size=4).table is not one


def test_layers_computed_again_give_the_same_student(raw, tmp_path, trained):
    whole = trained(raw)
    raw["training"] |= {"gradient_checkpointing": True}
    again = train(raw, tmp_path / "again")
    mine, theirs = (load_file(f / "student" / "model.safetensors") for f in (whole, again))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_packed_documents_that_do_not_see_one_another(raw, tmp_path, text_file):
    raw["data"] = {"text": str(text_file), "max_length": 40, "held_out": {"fraction": 0.1}}
    raw["stages"][0].pop("policy")
    losses = []
    for apart in (True, False):
        raw["data"]["isolate_documents"] = apart
        run = distill(raw, tmp_path / f"{apart}")
        losses.append(run.report["held_out"]["labels"]["before"])
    assert losses[0] != losses[1]
    raw["data"]["packing"] = False
    raw["data"]["isolate_documents"] = True
    with pytest.raises(
        RecipeError, match="data.isolate_documents: is for packed text that decoders read"
    ):
        distill(raw, tmp_path / "run")


@pytest.mark.parametrize(
    "policy", ["switch", "mixed", {"kind": "student", "replay_ratio": 0.6}], ids=str
)
def test_a_stopped_run_resumes_to_the_same_student(raw, tmp_path, monkeypatch, policy):
    raw["stages"][0]["policy"] = policy
    raw["training"] |= {"save_steps": 2}
    mine, theirs = stopped_and_whole(raw, tmp_path, monkeypatch, 3)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_other_micro_batches_give_the_same_student(raw, tmp_path, trained):
    whole = trained(raw)
    raw["stages"][0]["micro_batch_size"] = 1
    split = train(raw, tmp_path / "split")
    mine, theirs = (load_file(f / "student" / "model.safetensors") for f in (whole, split))
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-5)


def test_a_study_compares_policies_by_what_they_generate(raw, tmp_path, prompts):
    raw["evaluation"] |= {
        "tasks": [prompts],
        "generation": {"max_new_tokens": 8, "max_eval_samples": 10},
        "seeds": 1,
    }
    arms = {kind: {"stages.0.policy": kind} for kind in ("corpus", "student")}
    study = {"name": "toy", "recipe": raw, "arms": arms, "control": "corpus", "draws": 100}
    report = compare(study, tmp_path / "study")
    rows = {row["arm"]: row for row in report["rows"]}
    assert rows["student"]["quality"]["toy"]["test_rows"] == 10
    low, high = (rows["student"]["against_control"][end] for end in ("low", "high"))
    assert low <= rows["student"]["mean"] - rows["corpus"]["mean"] <= high
    kept = tmp_path / "study" / "arms" / "student" / "student" / "0" / "evaluation"
    parts = json.loads((kept / "by_position.json").read_text("utf-8"))["by_position"]
    assert rows["student"]["by_position"] == parts and len(parts["agreement_on_own_text"]) == 3
    said = (tmp_path / "study" / "report" / "report.md").read_text("utf-8")
    assert "## student, toy: every metric\n" in said
    bits = rows["corpus"]["quality"]["toy"]["means"]["bits_per_byte"]
    assert f"| {bits:.3f} |" in said
    assert "| same top token as the teacher, on its own text |" in said
    assert "least to most" not in said  # of one training
    for row, values in ((rows["corpus"], [1.0, 2.0]), (rows["student"], [0.9, 1.95])):
        row["quality"]["toy"]["by_training"]["bits_per_byte"] = values
        row["runs"] = [f"arms/student/{row['arm']}/{seed}" for seed in (0, 1)]
    result = StudyResult.from_json(report)
    head, *lines = metrics_table(result, "student", "toy")
    assert head[-1] == "bits per byte against corpus, least to most of the trainings"
    assert {line[0]: line[-1] for line in lines}["student"] == "-0.1000 to -0.0500"
    by_position = {"bits_per_piece": [1.0, 2.0, None]}
    alone = replace(result.rows[0], arm="alone", by_position=by_position)
    *_, last = positions_table([*result.rows, alone])
    assert last == ["alone", "1.000, 2.000, ", "", ""]


@pytest.mark.parametrize(
    ("place", "value", "field", "message"),
    [
        ("policy", "swich", "stages.0.policy.kind", "did you mean 'switch'"),
        ("policy", {"kind": "switch", "tao": 1}, "stages.0.policy.tao", "did you mean 'tau'"),
        ("policy", {"kind": "switch", "tau": 1}, "stages.0.policy.tau", "give 0 to ln 2"),
        (
            "policy",
            {"kind": "switch", "decay": "constant", "rate": 0.1},
            "stages.0.policy.rate",
            "which a constant one does not",
        ),
        (
            "policy",
            {"kind": "corpus", "replay_ratio": 0.5},
            "stages.0.policy.replay_ratio",
            "corpus generates",
        ),
        ("policy", {"kind": "switch", "rate": -1}, "stages.0.policy.rate", "0 or more"),
        ("policy", {"kind": "mixed", "fraction": 2}, "stages.0.policy.fraction", "give 0 to 1"),
        (
            "policy",
            {"kind": "student", "replay_ratio": 1.0},
            "stages.0.policy.replay_ratio",
            "less than 1",
        ),
        (
            "policy",
            {"kind": "student", "draft_length": 0},
            "stages.0.policy.draft_length",
            "1 or more",
        ),
        (
            "policy",
            {"kind": "speculative", "top_k": TOKENS},
            "stages.0.policy.top_k",
            "student generates alone; give fewer",
        ),
        ("tokens", 1000, "stages.0.tokens", "give max_steps"),
        ("max_new_tokens", 39, "data.max_new_tokens", "leave room"),
        ("prompts", "./nowhere", "data.prompts.0", "neither"),
        ("prompts", [], "data.text", "give text, prompts, or the rows"),
    ],
)
def test_problems_say_what_to_change(raw, tmp_path, place, value, field, message):
    where = raw["data"] if place in raw["data"] else raw["stages"][0]
    where[place] = value
    if place == "tokens":
        where["max_steps"] = None
    with pytest.raises(RecipeError, match=message) as caught:
        distill(raw, tmp_path / "run")
    assert field in str(caught.value)


def test_a_policy_that_needs_a_teacher_is_refused_without_one(raw, tmp_path):
    raw["student"] |= {"model_type": "llama", "tokenizer": raw["teacher"]}
    raw["teacher"] = None
    with pytest.raises(RecipeError, match="asks it; name one"):
        distill(raw, tmp_path / "run")


def test_other_tokens_cannot_be_generated_with(raw, tmp_path):
    blank = blank_tokenizer("bytes", lowercase=False)
    learn_tokenizer(make_text(300), blank, vocab_size=270).save_pretrained(tmp_path / "v")
    raw["student"]["tokenizer"] = str(tmp_path / "v")
    raw["stages"][0]["objectives"] = {"labels": {}}
    with pytest.raises(RecipeError, match="alignment: boundaries"):
        distill(raw, tmp_path / "run")


@pytest.mark.parametrize("embeddings", ["mean", "weighted"])
def test_other_tokens_may_read_references(raw, tmp_path, embeddings):
    blank = blank_tokenizer("bytes", lowercase=False)
    learn_tokenizer(make_text(300), blank, vocab_size=270).save_pretrained(tmp_path / "v")
    raw["student"] |= {"tokenizer": str(tmp_path / "v"), "embedding_init": embeddings}
    raw["stages"][0] |= {"policy": "corpus", "objectives": {"labels": {}}}
    run = distill(raw, tmp_path / "run")
    assert run.report["by_position"].keys() == {"bits_per_piece"}
    table = load_file(run.student / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.isfinite(table).all()


def test_prompts_that_the_students_tokens_do_not_cover(raw, tmp_path):
    tokens = {"<unk>": 0, "<s>": 1, "</s>": 2, "猫": 3}
    words = Tokenizer(models.WordLevel(tokens, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    as_transformers(words, special).save_pretrained(tmp_path / "v")
    raw["student"] |= {"tokenizer": str(tmp_path / "v")}
    raw["stages"][0] |= {"policy": "corpus", "objectives": {"labels": {}}}
    with pytest.raises(RecipeError, match=r"turns 100.0% of the tokens of .* into unknown ones"):
        distill(raw, tmp_path / "run")
    # Only the beginning of a long prompt is looked at, and of its reference.
    row = {"prompt": "猫 " * 4000, "references": ["dog " * 200]}
    (tmp_path / "long.train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    raw["data"]["prompts"] = str(tmp_path / "long")
    with pytest.raises(RecipeError, match=r"turns 7.\d% of the tokens of .* into unknown ones"):
        distill(raw, tmp_path / "run")


def test_encoders_do_not_generate(raw, teacher_folder, prompts, tmp_path):
    raw["teacher"] = str(teacher_folder)
    with pytest.raises(RecipeError, match="are for decoders"):
        distill(raw, tmp_path / "run")
    task = load_task(prompts)
    with pytest.raises(EvaluationError, match="is an encoder"):
        score_generation(str(teacher_folder), task, settings=GenerationSettings(), seed=0)


def test_sampled_answers_differ_by_seed_and_are_kept(decoder, prompts, tmp_path):
    options = {
        "settings": FinetuneSettings(),
        "generation": GenerationSettings(max_new_tokens=8, temperature=1.0),
        "seeds": [0, 1],
        "results": {"toy": tmp_path / "toy.json"},
    }
    task = load_task(prompts)
    scores = evaluate_tasks(decoder, [task], **options)["toy"]
    assert scores.seeds[0].labels != scores.seeds[1].labels
    assert scores.seeds[0].metrics["perplexity"] == scores.seeds[1].metrics["perplexity"]
    kept = (tmp_path / "toy.json").read_text()
    assert evaluate_tasks(decoder, [task], **options)["toy"] == scores
    assert (tmp_path / "toy.json").read_text() == kept
    with pytest.raises(EvaluationError, match="leave no room"):
        score_generation(decoder, task, settings=GenerationSettings(max_new_tokens=79), seed=0)


def test_answers_are_those_of_prompts_asked_alone(decoder, prompts):
    generator, settings = (
        TextGenerator.load(decoder),
        GenerationSettings(max_new_tokens=8, batch_size=4),
    )
    rows = list(read_prompts(prompts))[:10]
    rows[3] = Prompt(" ".join(row.text for row in rows[:6]), rows[3].references)
    table = generator.table(rows, settings)
    together, _ = generator.answers(table.prompts, settings, seed=0)
    alone = [generator.answers([prompt], settings, seed=0)[0][0] for prompt in table.prompts]
    assert together == alone and len({len(prompt) for prompt in table.prompts}) > 2
    pairs, short = [
        [(p.tolist(), r.tolist()) for p, r in zip(t.prompts, t.responses, strict=True)]
        for t in (table, table.by_length())
    ]
    assert sorted(short) == sorted(pairs) and short != pairs
    lengths = [len(prompt) + len(response) for prompt, response in short]
    assert lengths == sorted(lengths)


def test_rouge_knows_every_script():
    for text in ("Красный дом у реки", "the red house", "हिन्दी में पाठ", "été là-bas"):
        assert rouge_l([text], text) == 1.0
    assert rouge_l(["красный дом"], "сад река") == 0.0
    assert rouge_l(["кот спал", "красный дом"], "Красный, дом!") == 1.0
    assert rouge_l(["дом"], "") == 0.0
    assert rouge_l(["你好世界"], "你好，世人") == pytest.approx(3 / 4)  # each letter is a word
    assert rouge_l(["caf\u00e9"], "Cafe\u0301") == 1.0
    # Longest common subsequence by hand: 2 of 3 words said, 2 of 4 expected.
    assert rouge_l(["a b c d"], "a x c") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))


@pytest.mark.parametrize(
    ("low_rank", "trainable"),
    [
        ({"rank": 4}, "all"),
        ({"parameter_ratio": 0.5, "target_modules": "all", "whiten": False}, "low_rank"),
        ({"energy": 0.8, "export": "dense"}, "low_rank"),
        ({"kind": "lora", "rank": 2}, "all"),
    ],
    ids=["rank", "parameter_ratio", "energy", "lora"],
)
def test_a_student_with_low_rank_layers(raw, tmp_path, monkeypatch, low_rank, trainable):
    raw["student"] = {
        "init_from_teacher": {"layers": "first"},
        "low_rank": low_rank,
    }  # the teacher's sizes
    raw["stages"][0] |= {"trainable": trainable, "optimizer": {"learning_rate": 0.01}}
    raw["training"] |= {"save_steps": 2}
    run = distill(raw, tmp_path / "whole")
    student, teacher = (load_file(f"{f}/model.safetensors") for f in (run.student, raw["teacher"]))
    dense = low_rank.get("kind") == "lora" or low_rank.get("export") == "dense"
    assert (student.keys() == teacher.keys()) == dense
    alike = {
        name
        for name in student.keys() & teacher.keys()
        if torch.equal(student[name], teacher[name])
    }
    notes = " ".join(run.report["notes"])
    assert ("layers are low-rank, of rank" in notes) != dense
    frozen = trainable == "low_rank" or low_rank.get("kind") == "lora"
    assert bool(alike) == frozen
    if frozen:
        assert "model.embed_tokens.weight" in alike
    smaller = run.report["student"]["parameters"] < run.report["teacher"]["parameters"]
    assert smaller != dense
    planned = exported_student(prepare(raw))  # each of these ranks is known beforehand
    size = parameters_of_shape(planned.config, with_head=True, architecture=planned.architecture)
    assert size[0] == run.report["student"]["parameters"]
    learned = run.report["training"]["trainable_parameters"]
    assert (learned < 0.5 * run.report["teacher"]["parameters"]) == frozen
    whole, again = stopped_and_whole(raw, tmp_path, monkeypatch, 3)
    assert all(torch.equal(again[name], student[name]) for name in student)
    assert whole.keys() == student.keys()


def test_nothing_would_learn(raw, tmp_path):
    raw["stages"][0]["trainable"] = "low_rank"
    with pytest.raises(RecipeError, match=r"stages\.0\.trainable: is low_rank, but the student"):
        distill(raw, tmp_path / "run")


def test_a_low_rank_teacher_teaches_a_dense_student(raw, tmp_path):
    raw["student"] = {"init_from_teacher": {"layers": "first"}, "low_rank": {"rank": 4}}
    raw["teacher"] = str(train(raw, tmp_path / "first") / "student")
    raw["student"] = {"init_from_teacher": {"layers": "first"}}
    with pytest.raises(RecipeError, match="cannot take low-rank layers"):
        distill(raw, tmp_path / "second")
    raw["student"]["init_from_teacher"] = None
    run = distill(raw, tmp_path / "second")
    assert "model.layers.0.mlp.up_proj.weight" in load_file(run.student / "model.safetensors")


@pytest.mark.parametrize(
    ("low_rank", "message"),
    [
        ({}, "has no size; give one"),
        ({"rank": 3, "energy": 0.5}, "has rank, energy; give one"),
        ({"rank": 16}, "is 16; low-rank layers are smaller than dense ones up to rank 15"),
        ({"rank": 3, "target_modules": ["up"]}, "no linear layer's path ends in up"),
        ({"kind": "lora", "parameter_ratio": 0.5}, "takes `rank` alone"),
        ({"rank": 3, "export": "adapters"}, "to a `student.model`; name it"),
    ],
)
def test_low_rank_layers_that_cannot_be(raw, tmp_path, low_rank, message):
    raw["student"]["low_rank"] = low_rank
    raw["student"] |= {"hidden_size": 24, "intermediate_size": 48}
    with pytest.raises(RecipeError, match=message):
        distill(raw, tmp_path / "run")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_one_line(raw, name):
    raw["student"] = {"init_from_teacher": {"layers": "first"}}
    raw["stages"] = [{"max_steps": 2, "batch_size": 4}]
    setup = prepare({**raw, "method": name})
    (stage,) = setup.stages
    assert stage.policy is not None
    assert ("labels" in stage.objectives) == (name != "on-policy")
    lowered = setup.recipe.student.low_rank
    assert (lowered is not None) == (name in ("lora", "low-rank", "long-sequence"))
    raw["stages"][0]["policy"] = {"kind": "switch", "tau": 0.25}
    changed = prepare({**raw, "method": name}).stages[0].policy
    assert changed.rule.tau == 0.25


def test_a_method_that_there_is_not(raw):
    with pytest.raises(RecipeError, match="method: no method is called 'skt'; did you mean 'skd'"):
        prepare({**raw, "method": "skt"})


def test_distillation_without_any_data(raw, tmp_path, decoder, monkeypatch):
    said = Console(record=True, file=io.StringIO())
    found = generate_samples(
        decoder, tmp_path / "texts", rows=40, max_new_tokens=20, seed=1, console=said
    )
    assert re.search(r"\d+ of 40 texts did not come to their end in 20", said.export_text())
    assert found == {"texts.train.jsonl": 38, "texts.dev.jsonl": 2}
    lines = (tmp_path / "texts.train.jsonl").read_text(encoding="utf-8").strip().split("\n")
    assert all(json.loads(line)["prompt"] == "" for line in lines)
    assert len(set(lines)) > 30
    raw["data"]["prompts"] = str(tmp_path / "texts")
    read, generated, _ = batches_of(raw)
    begin = prepare(raw).models.student.tokenizer.bos_token_id
    assert all(prompt.tolist() == [begin] for prompt in read.table.prompts)
    assert generated.batch(0).teacher.input_ids[:, 0].tolist() == [begin] * 4
    distill(raw, tmp_path / "run")
    with pytest.raises(EvaluationError, match="reads 80 tokens"):
        generate_samples(decoder, tmp_path / "more", rows=2, max_new_tokens=80)
    with pytest.raises(DataError, match="1 texts of 20 tokens"):
        generate_samples(decoder, tmp_path / "more", rows=1, max_new_tokens=20)
    with pytest.raises(DataError, match="the temperature is 0; give more than 0"):
        generate_samples(decoder, tmp_path / "more", rows=4, max_new_tokens=8, temperature=0.0)
    monkeypatch.setattr(TextGenerator, "text", lambda self, row: " ")
    with pytest.raises(EvaluationError, match="none of 32 texts of .* has a letter"):
        generate_samples(decoder, tmp_path / "more", rows=4, max_new_tokens=8)
    assert not list(tmp_path.glob("more*"))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_exported_decoder_ends_its_texts_as_its_tokenizer_does(
    raw_recipe, decoder, tmp_path, family
):
    del raw_recipe["teacher"]
    sizes = {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
    }
    raw_recipe["student"] = {**sizes, "model_type": family, "tokenizer": decoder}
    raw_recipe["stages"] = [{"objectives": {"labels": {}}, "max_steps": 1, "batch_size": 2}]
    folder = distill(raw_recipe, tmp_path / "run").student
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (
        model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id
    )
    assert model.generation_config.bos_token_id == tokenizer.bos_token_id


def test_queries_are_asked_of_their_meetings(tmp_path):
    rows = [{"meeting": m, "prompt": f"what of {m}?", "references": ["yes"]} for m in "aba"]
    meetings = [{"meeting": m, "document": f"they spoke of {m}"} for m in "ab"]
    for name, some in (("q", rows), ("q_meetings", meetings)):
        for split in ("train", "dev"):
            lines = "\n".join(json.dumps(row) for row in some)
            (tmp_path / f"{name}.{split}.jsonl").write_text(lines)
    found = [prompt.text for prompt in read_prompts(str(tmp_path / "q"))]
    assert found == [f"they spoke of {m}\nwhat of {m}?" for m in "aba"]
    assert [row.text for row in load_task(str(tmp_path / "q")).test] == found
    (tmp_path / "q_meetings.dev.jsonl").write_text(json.dumps(meetings[0]))
    with pytest.raises(
        DataError, match="line 2 of .* refers to the meeting 'b', which is not among"
    ):
        load_task(str(tmp_path / "q"))
    (tmp_path / "q_meetings.dev.jsonl").unlink()
    with pytest.raises(DataError, match="q_meetings.dev.jsonl"):
        load_task(str(tmp_path / "q"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_caches_of_generation_are_a_part_of_the_memory(raw, tmp_path, precision):
    raw["stages"][0]["policy"] = {"kind": "switch", "precision": precision}
    run = distill(raw, tmp_path / "run")
    setup, batches = prepare(raw), batches_of(raw)[1]
    assert batches.held_bytes() == 0
    batches.batch(0)
    size = 2 if precision == "bfloat16" else 4
    static = next(iter(batches._readers._kept.values())).static
    both = sum(
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        for config in (side.config for side in (setup.models.student, setup.models.teacher))
    )
    assert batches.held_bytes() == size * both * static.rows * static.places
    log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    told = [record["memory"]["caches"] for record in log if "memory" in record]
    assert told and set(told) == {batches.held_bytes()}
    assert run.report["training"]["memory"]["caches"] == batches.held_bytes()
    assert "caches of generation" in (run.folder / "report" / "report.md").read_text()
    assert probe(setup, 0).memory["caches"] == batches.held_bytes()
