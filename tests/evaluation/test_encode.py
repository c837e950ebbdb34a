"""Vectors of texts by any folder, and what they are worth."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import make_model, make_text
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from limbeck.errors import EvaluationError, ModelError
from limbeck.evaluation.embeddings.encode import DOCUMENT, QUERY, load_text_encoder
from limbeck.evaluation.embeddings.files import Pairs, Retrieval
from limbeck.evaluation.embeddings.measure import EmbeddingTasks, Prompts, evaluate_embeddings
from limbeck.evaluation.embeddings.scores import retrieval_scores, similarity_scores
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.load import load_body
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.vectors import Dense, SentenceVectors
from limbeck.tokenization.load import load_tokenizer

TEXTS = make_text(23, seed=5)
PROMPTS = {"query": "red ", "passage": "old ", "cluster": "house "}


@pytest.fixture
def folder(tmp_path, tokenizer):
    """Writes a folder of sentence-transformers."""

    def written(name="st", *, dense=(), pooling=None, hidden=24, seed=0, **settings):
        export_sentence_model(
            make_model(vocabulary=len(tokenizer), hidden=hidden, seed=seed),
            tokenizer,
            SentenceVectors(hidden, dense=dense, pooling=pooling, normalize=True),
            tmp_path / name,
            settings=SentenceSettings(16, **settings),
            card="",
        )
        return str(tmp_path / name)

    return written


@pytest.fixture
def plain(teacher_folder):
    return load_text_encoder(str(teacher_folder), precision="float32")


def test_a_plain_encoder_has_the_mean_of_each_text(plain, teacher_folder):
    found = plain.encode(TEXTS, batch_size=5)
    assert (found.shape, found.dtype) == ((len(TEXTS), 24), np.float32)
    body, tokenizer = load_body(str(teacher_folder)), load_tokenizer(str(teacher_folder))
    for text, row in zip(TEXTS, found, strict=True):
        states = body(**tokenizer(text, return_tensors="pt")).last_hidden_state
        assert np.allclose(states[0].mean(0).detach(), row, atol=1e-5)
    assert "the mean of its last hidden states" in plain.notes[0]


def test_a_plain_decoder_frames_texts_as_its_tokenizer_does(decoder):
    encoder = load_text_encoder(decoder, pooling="lasttoken", precision="float32")
    assert encoder.notes == ()
    found = encoder.encode(TEXTS, batch_size=7)
    body, tokenizer = load_body(decoder), load_tokenizer(decoder)
    for text, row in zip(TEXTS, found, strict=True):
        ids = tokenizer(text, return_tensors="pt").input_ids[:, : encoder.max_length]
        states = body(input_ids=ids).last_hidden_state
        assert np.allclose(states[0, -1].detach(), row, atol=1e-5)


def test_a_text_without_tokens_is_refused(decoder):
    with pytest.raises(EvaluationError, match="finds no token in the text ''"):
        load_text_encoder(decoder).encode(["a", ""])
    with pytest.raises(EvaluationError, match="no text to encode"):
        load_text_encoder(decoder).encode([])


def test_bfloat16_is_near(plain, teacher_folder):
    half = load_text_encoder(str(teacher_folder), precision="bfloat16")
    assert (plain.half, half.half) == (False, True)
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(plain.encode(TEXTS), half.encode(TEXTS), strict=True)
    ]
    assert 0.99 < min(cosines) < 1


def test_special_tokens_in_a_text_are_text_and_in_a_prompt_are_not(plain):
    spelled = plain.encode(["red [MASK] house"])
    assert np.allclose(plain.encode(["house"], prompt="red [MASK] "), spelled) is False
    assert np.allclose(plain.encode(["red [ mask ] house"]), spelled, atol=1e-5)


def test_a_folder_may_lower_case_texts(folder, tmp_path):
    place = folder(pooling=Pooling(("cls",)))
    settings = tmp_path / "st" / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    texts = [text.upper() for text in TEXTS]
    found = load_text_encoder(place, precision="float32").encode(texts)
    theirs = SentenceTransformer(place, device="cpu", local_files_only=True)
    assert np.abs(found - theirs.encode(texts, show_progress_bar=False)).max() < 1e-5


def test_how_long_a_text_may_be(folder, teacher_folder):
    place = folder()
    assert load_text_encoder(place).max_length == 16
    assert load_text_encoder(place, max_length=11).max_length == 11
    assert load_text_encoder(place, max_length=1000).max_length == 80  # the positions of the model
    assert load_text_encoder(str(teacher_folder)).max_length == 80
    with pytest.raises(ModelError, match="read 2 tokens of a text, of which 2 are special.* 3 or"):
        load_text_encoder(place, max_length=2)


def test_prompts(folder):
    encoder = load_text_encoder(folder(prompts=PROMPTS, default_prompt="cluster"))
    assert encoder.prompt(None) == "house "
    assert encoder.prompt(None, QUERY) == "red "
    assert encoder.prompt(None, DOCUMENT) == "old "
    assert encoder.prompt("query") == "red "
    assert encoder.prompt("document", DOCUMENT) == encoder.prompt("corpus") == "old "
    assert encoder.prompt("cluster", QUERY) == "house "
    assert encoder.prompt("search: ") == "search: "
    assert encoder.prompt("", QUERY) == ""
    with pytest.raises(ModelError, match=r"'qery' \(query, passage, cluster\).* as 'qery: '"):
        encoder.prompt("qery")


def test_a_plain_folder_has_no_prompts(plain):
    assert plain.prompt(None) == plain.prompt(None, QUERY) == ""
    with pytest.raises(ModelError, match=r"no prompt of the name 'query' \(it has none\)"):
        plain.prompt("query", QUERY)


def test_poolings_joined_by_a_sign(folder):
    place = folder()
    assert load_text_encoder(place, pooling="cls + mean").vectors.width == 48
    assert load_text_encoder(place, pooling="cls", truncate_dim=3).vectors.width == 3
    with pytest.raises(ModelError, match="'first' is not known"):
        load_text_encoder(place, pooling="cls+first")


def test_another_similarity_is_noted(folder):
    assert load_text_encoder(folder()).notes == ()
    noted = load_text_encoder(folder("dot", similarity="dot")).notes
    assert "names the similarity 'dot', and cosine is computed" in noted[0]


def test_vectors_that_are_not_finite_are_refused(folder, tmp_path):
    place = folder(dense=[Dense(24, 4)])
    encoder = load_text_encoder(place)
    with torch.no_grad():
        encoder.vectors.dense[0].linear.bias.fill_(math.nan)
    with pytest.raises(EvaluationError, match="gives 23 of 23 texts a vector that is not finite"):
        encoder.encode(TEXTS)
    file = tmp_path / "st" / "2_Dense" / "model.safetensors"
    save_file({name: weight / 0 for name, weight in load_file(file).items()}, file)
    with pytest.raises(ModelError, match="not finite; copy the model again"):
        load_text_encoder(place)


def tasks():
    pairs = Pairs("own", tuple(TEXTS[:10]), tuple(TEXTS[10:20]), tuple(map(float, range(10))))
    relevant = tuple(frozenset({n}) for n in range(5))
    return EmbeddingTasks(
        (pairs,), (Retrieval("search", tuple(TEXTS[:5]), tuple(TEXTS[5:]), relevant),), (pairs,)
    )


def test_every_task_is_scored(folder):
    encoder = load_text_encoder(folder(prompts=PROMPTS), precision="float32")
    found = evaluate_embeddings(encoder, tasks(), prompts=Prompts(document="the "))
    assert [(score.task, score.kind, score.rows, score.width) for score in found] == [
        ("own", "similarity", 10, 24),
        ("search", "retrieval", 5, 24),
        ("own", "bitext", 10, 24),
    ]
    pairs, queries = tasks().similarity[0], tasks().retrieval[0]
    left, right = encoder.encode(pairs.left), encoder.encode(pairs.right)
    assert found[0].scores == similarity_scores(left, right, np.array(pairs.labels))
    asked = encoder.encode(queries.queries, prompt="red ")
    read = encoder.encode(queries.corpus, prompt="the ")
    assert found[1].scores == retrieval_scores(asked, read, queries.relevant)
    assert found[1].prompts == {"query": "red ", "document": "the "}
    assert found[1].documents is None
    plain = json.loads(json.dumps(found[1].to_json()))
    assert plain["metric"] == "ndcg_at_10"
    assert plain["scores"]["recall_at_1"].keys() == {"score", "low", "high"}


def test_documents_by_another_model(folder):
    student = folder("student", hidden=16, dense=[Dense(16, 24)], seed=1)
    encoder, teacher = load_text_encoder(student), load_text_encoder(folder(prompts=PROMPTS))
    found = evaluate_embeddings(encoder, tasks(), documents=teacher)
    queries = tasks().retrieval[0]
    asked, read = encoder.encode(queries.queries), teacher.encode(queries.corpus, prompt="old ")
    assert found[1].scores == retrieval_scores(asked, read, queries.relevant)
    assert found[1].documents == teacher.name
    assert found[1].prompts == {"query": "", "document": "old "}
    assert [score.documents for score in (found[0], found[2])] == [None, None]


def test_vectors_of_other_widths_cannot_be_compared(folder):
    encoder = load_text_encoder(folder("student", hidden=16))
    teacher = load_text_encoder(folder())
    said = "have 16 coordinates and those of .* 24, so queries and documents cannot be compared"
    with pytest.raises(EvaluationError, match=said):
        evaluate_embeddings(encoder, tasks(), documents=teacher)
