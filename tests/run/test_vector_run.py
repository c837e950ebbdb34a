"""A student of its teacher's vectors of texts: trained, resumed, cached, exported and scored."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import SMALL_VOCABULARY, losses, resumed_and_cached, same_run, train
from sentence_transformers import SentenceTransformer

from limbeck.activations import Activations
from limbeck.batch import Batch, Tokens
from limbeck.errors import CacheError, ModelError
from limbeck.evaluation.embeddings.encode import load_text_encoder
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.load import load_body
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.vectors import Dense, SentenceVectors
from limbeck.objectives import SentenceSimilarities
from limbeck.objectives import SentenceVectors as Objective
from limbeck.recipe.check import check, prepare
from limbeck.run.batches import stage_batches
from limbeck.run.cache import write_cache
from limbeck.run.cacheable import cache_size
from limbeck.run.distill import distill
from limbeck.run.task_batches import task_batches
from limbeck.run.trim import trim_model
from limbeck.run.vectors import vectors_identity
from limbeck.student.projections import Projections
from limbeck.teacher.manifest import Kind
from limbeck.tokenization.load import load_tokenizer

PROMPTS = {"query": "the old: ", "document": "a red: "}


@pytest.fixture
def recipe(raw_recipe, teacher_folder, task_files, tmp_path):
    """A recipe whose teacher is a folder of sentence-transformers."""
    folder = tmp_path / "embedder"
    export_sentence_model(
        load_body(str(teacher_folder)),
        load_tokenizer(str(teacher_folder)),
        SentenceVectors(24, pooling=Pooling(("mean",)), normalize=True),
        folder,
        settings=SentenceSettings(max_length=24, prompts=PROMPTS),
        card="",
    )
    stage = {"objectives": {"sentence_vectors": {}}, "max_steps": 4, "batch_size": 8}
    held_out = {"fraction": 0.1, "sequences": 8}
    data = {"rows": str(task_files / "pairs"), "max_length": 24, "held_out": held_out}
    return {**raw_recipe, "teacher": str(folder), "data": data, "stages": [stage]}


def test_a_run_resumes_learns_the_same_from_a_cache_and_loads(recipe, tmp_path, monkeypatch):
    recipe["training"] = {**recipe["training"], "save_steps": 1}
    run = resumed_and_cached(recipe, tmp_path, monkeypatch, rounding=1e-6)
    modules = json.loads((run.student / "modules.json").read_text(encoding="utf-8"))
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Dense", "3_Normalize"]
    texts = ["the red house", "never always under", "a"]
    library = SentenceTransformer(str(run.student), device="cpu").encode(texts)
    own = load_text_encoder(str(run.student), precision="float32").encode(texts)
    assert library.shape == (3, 24) and np.abs(library - own).max() < 1e-5
    assert "SentenceTransformer" in (run.student / "README.md").read_text(encoding="utf-8")


def test_hidden_states_of_the_text_behind_a_prompt(recipe, vocabulary, tmp_path):
    """Tokens of two vocabularies are linked wherever the teacher's prompt ends."""
    recipe["student"] = {**recipe["student"], "tokenizer": vocabulary}
    recipe["stages"][0] |= {
        "alignment": "match",
        "objectives": {"sentence_vectors": {}, "hidden_states": {"layers": {0: 1}}},
    }
    found = []
    for prompt in ("", "query"):
        raw = {**recipe, "teacher": {"model": recipe["teacher"], "prompt": prompt}}
        raw["data"]["max_length"] = 60
        found.append(stage_batches(prepare(raw), 0).batch(0))
    plain, prompted = found
    shift = prompted.teacher.mask.shape[1] - plain.teacher.mask.shape[1]
    assert shift > 0 and plain.links.groups.mask.sum() > 8
    assert torch.equal(plain.links.student, prompted.links.student)
    moved = prompted.links.teacher
    assert torch.equal(plain.links.teacher[:, 1:], moved[:, 1 + shift :])
    assert (moved[:, : 1 + shift] == -1).all()
    run = distill(raw, tmp_path / "run")
    assert run.report["quality"] is not None


def test_a_cache_serves_students_of_any_tokenizer(recipe, vocabulary, tmp_path):
    """The teacher reads the texts in its own tokens, whatever the student's are."""
    write_cache(prepare(recipe), tmp_path / "signals", Kind(), Accelerator(cpu=True))
    own = {**recipe, "student": {**recipe["student"], "tokenizer": vocabulary}}
    teacher = {"model": recipe["teacher"], "cache": str(tmp_path / "signals")}
    distill({**own, "teacher": teacher}, tmp_path / "cached")
    train(own, tmp_path / "live")
    same_run(tmp_path / "live", tmp_path / "cached", rounding=1e-6)


def test_vectors_of_another_activation_are_others(recipe, tmp_path):
    """A cache of the one is none of the other, though all weights are the same."""
    found = set()
    for activation in ("Tanh", "Identity"):
        folder = tmp_path / activation
        torch.manual_seed(0)
        export_sentence_model(
            load_body(recipe["teacher"]),
            load_tokenizer(recipe["teacher"]),
            SentenceVectors(24, dense=[Dense(24, 8, activation=activation)]),
            folder,
            settings=SentenceSettings(max_length=24),
            card="",
        )
        found.add(vectors_identity(prepare({**recipe, "teacher": str(folder)})))
    assert len(found) == 2


def test_a_cache_of_one_pass_serves_many(recipe, tmp_path):
    """Every text is cached once, so that neither more passes nor their size need more of it."""
    stage = recipe["stages"][0]
    texts = prepare(recipe).rows.train
    assert 300 < len(texts) < 48 * stage["batch_size"]
    signals = tmp_path / "signals"
    cached = {"model": recipe["teacher"], "cache": str(signals)}

    def recipe_of(steps, **changes):
        return {**recipe, "stages": [{**stage, "max_steps": steps}], **changes}

    short = write_cache(prepare(recipe_of(20)), signals, Kind(), Accelerator(cpu=True))
    with pytest.raises(CacheError, match="for 28 of the 48 steps"):
        distill(recipe_of(100, teacher=cached), tmp_path / "run")
    size = write_cache(prepare(recipe_of(100)), signals, Kind(), Accelerator(cpu=True))
    assert short.total < size.total
    again = write_cache(prepare(recipe_of(200)), signals, Kind(), Accelerator(cpu=True))
    assert again.total == size.total
    assert cache_size(prepare(recipe_of(100)), Kind()) == cache_size(
        prepare(recipe_of(200)), Kind()
    )
    train(recipe_of(100), tmp_path / "live")
    distill(recipe_of(100, teacher=cached), tmp_path / "run")
    same_run(tmp_path / "live", tmp_path / "run", rounding=1e-5)


def test_the_student_comes_nearer(recipe, tmp_path):
    recipe["stages"][0] |= {"max_steps": 60, "optimizer": {"learning_rate": 3e-3}}
    distill(recipe, tmp_path / "run")
    held_out = [r[4]["sentence_vectors"] for r in losses(tmp_path / "run") if r[4]]
    assert 0 < held_out[-1] < 0.8 * held_out[0] < math.inf


def test_similarities_alone_keep_the_students_width(recipe, tmp_path):
    """No Dense layer is needed, and the same steps in smaller parts learn the same."""
    stage = recipe["stages"][0]
    stage["objectives"] = {"sentence_similarities": {"group_size": 4}}
    stage |= {"max_steps": 40, "optimizer": {"learning_rate": 3e-3}}
    run = distill(recipe, tmp_path / "run")
    held_out = [r[4]["sentence_similarities"] for r in losses(tmp_path / "run") if r[4]]
    assert 0 < held_out[-1] < 0.8 * held_out[0]
    modules = json.loads((run.student / "modules.json").read_text(encoding="utf-8"))
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    stage["micro_batch_size"] = 4
    distill(recipe, tmp_path / "parts")
    whole, parts = ([r[3] for r in losses(tmp_path / name) if r[3]] for name in ("run", "parts"))
    for one, other in zip(whole, parts, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({}, "batch_size", "multiple of 32"),
        ({"batch_size": 64, "micro_batch_size": 16}, "micro_batch_size", "multiple of 32"),
        ({"objectives": {"sentence_similarities": {"group_size": 2}}}, "group_size", "3 or more"),
        ({"objectives": {"sentence_similarities": {"temperature": 0}}}, "temperature", "above 0"),
    ],
)
def test_groups_that_cannot_be(recipe, change, field, said):
    recipe["stages"][0] |= {"objectives": {"sentence_similarities": {}}, **change}
    _, problems = check(recipe)
    [message] = [message for path, message in problems if path.endswith(field)]
    assert said in message


def test_pairs_are_two_texts_and_prompts_are_the_teachers(recipe):
    setup = prepare({**recipe, "teacher": {"model": recipe["teacher"], "prompt": "query"}})
    assert len(setup.rows.train) + len(setup.rows.held_out) == 2 * 200
    assert all(row.text_pair is None for row in setup.rows.train)
    batch = task_batches(setup, held_out=False, size=4).batch(0)
    read = setup.models.teacher.tokenizer.batch_decode(
        batch.teacher.input_ids, skip_special_tokens=True
    )
    said = setup.models.student.tokenizer.batch_decode(
        batch.student.input_ids, skip_special_tokens=True
    )
    for one, other in zip(read, said, strict=True):
        prefix, rest = one[:7], one[7:].strip()  # the colon is no token here
        assert prefix == "the old" and rest.startswith(other[:20])
    plain = task_batches(prepare(recipe), held_out=False, size=4).batch(0)
    assert plain.one_vocabulary  # the folder has no default prompt


def test_a_vocabulary_of_its_own_and_text(recipe, vocabulary, text_file, tmp_path):
    recipe["student"] = {**recipe["student"], "tokenizer": vocabulary}
    run = distill(recipe, tmp_path / "own")
    assert len(load_tokenizer(str(run.student))) == SMALL_VOCABULARY
    text = {"text": str(text_file), "max_length": 24, "held_out": recipe["data"]["held_out"]}
    _, problems = check({**recipe, "data": text})
    assert "data.rows" in dict(problems)["data.text"]
    recipe["student"].pop("tokenizer")
    _, problems = check({**recipe, "data": text})
    assert "a row is one text" in dict(problems)["data.packing"]
    distill({**recipe, "data": {**text, "packing": False}}, tmp_path / "text")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"stages.matryoshka_dims": [400]}, "matryoshka_dims", "24 coordinates"),
        ({"stages.matryoshka_dims": [0]}, "matryoshka_dims", "1 or more"),
        ({"teacher": None}, "sentence_vectors", "needs a teacher"),
        ({"teacher.prompt": "qery"}, "prompt", "(query, document); give one of them, or the text"),
    ],
)
def test_what_cannot_be_learned(recipe, change, field, said):
    for key, value in change.items():
        if key == "teacher.prompt":
            recipe["teacher"] = {"model": recipe["teacher"], "prompt": value}
        elif key == "teacher":
            recipe["student"] |= {"model_type": "bert", "tokenizer": recipe.pop("teacher")}
        else:
            recipe["stages"][0]["objectives"]["sentence_vectors"] = {key.split(".")[1]: value}
    _, problems = check(recipe)
    [message] = [message for path, message in problems if path.endswith(field)]
    assert said in message


@pytest.mark.parametrize("own", [False, True])
def test_a_pooling_that_cannot_be_saved_is_refused(recipe, tmp_path, own):
    """As version 6 of the library may write it; it was found after the training."""
    odd = tmp_path / "odd"
    shutil.copytree(recipe["teacher"], odd)
    settings = {"embedding_dimension": 24, "pooling_mode": ["mean", "cls"]}
    (odd / "1_Pooling" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    if own:
        recipe["student"] = {"model": str(odd)}
    else:
        recipe["teacher"] = str(odd)
    _, problems = check(recipe)
    said = dict(problems)["student.model" if own else "teacher.model"]
    assert "mean + cls" in said and "cls + mean" in said
    with pytest.raises(ModelError, match="concatenates cls"):  # before any text is read
        trim_model(str(odd), [str(tmp_path / "none.txt")], tmp_path / "trimmed", fraction=1.0)


def test_a_prompt_without_vectors_is_refused(raw_recipe):
    raw_recipe["teacher"] = {"model": raw_recipe["teacher"], "prompt": "query"}
    _, problems = check(raw_recipe)
    assert "sentence_vectors" in dict(problems)["teacher.prompt"]


@pytest.mark.parametrize("measure", ["cosine", "mse"])
def test_distances_are_those_of_plain_loops(measure):
    chance = torch.Generator().manual_seed(0)
    mine, theirs = (torch.randn(3, 8, generator=chance) for _ in range(2))
    ids, real = torch.zeros(3, 2, dtype=torch.long), torch.tensor([[1, 1], [1, 0], [0, 0]]).bool()
    batch = Batch(*[Tokens(ids, real, ids, real)] * 2)  # the last row is padding alone
    expected = []
    for width in (8, 4):
        for a, b in zip(mine[:2, :width].tolist(), theirs[:2, :width].tolist(), strict=True):
            dot = sum(x * y for x, y in zip(a, b, strict=True))
            size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            squares = sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / width
            expected.append(1 - dot / size if measure == "cosine" else squares)
    objective = Objective(measure=measure, matryoshka_dims=(8, 4))
    vectors = (Activations(sentence_vectors=found) for found in (mine, theirs))
    found = objective.total(*vectors, batch, Projections({}, seed=0))
    assert objective.count(batch) == 2
    assert float(found) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_similarities_are_those_of_plain_loops():
    chance = torch.Generator().manual_seed(1)
    mine, theirs = (torch.randn(6, width, generator=chance) for width in (5, 8))
    real = torch.tensor([1, 1, 1, 1, 0, 1]).bool()[:, None]  # the fifth row is padding alone
    ids = torch.zeros(6, 1, dtype=torch.long)
    batch = Batch(*[Tokens(ids, real, ids, real)] * 2)

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    expected, texts = 0.0, 0
    for group in ([0, 1, 2, 3], [5]):  # of the second group one text is left
        for i in group:
            others = [j for j in group if j != i]
            texts += bool(others)
            logs = []
            for vectors in (theirs.tolist(), mine.tolist()):
                powers = [math.exp(cosine(vectors[i], vectors[j]) / 0.1) for j in others]
                logs.append([math.log(power / sum(powers)) for power in powers])
            expected += sum(math.exp(p) * (p - q) for p, q in zip(*logs, strict=True))
    objective = SentenceSimilarities(temperature=0.1, group_size=4)
    vectors = (Activations(sentence_vectors=found) for found in (mine, theirs))
    found = objective.total(*vectors, batch, Projections({}, seed=0))
    assert objective.count(batch) == texts == 4
    assert float(found) == pytest.approx(expected, rel=1e-5)
