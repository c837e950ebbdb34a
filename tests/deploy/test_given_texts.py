"""What users give a loaded file: texts, pairs, words and prompts."""

import numpy as np
import pytest
from conftest import make_text
from exported import model_folder

from limbeck.data.words import words_of
from limbeck.deploy.batches import example_of
from limbeck.deploy.export import export
from limbeck.deploy.exported_model import ExportedModel
from limbeck.deploy.formats import FLOAT32
from limbeck.deploy.settings import ExportSettings
from limbeck.deploy.source import load_source
from limbeck.errors import ExportError, ModelError
from limbeck.evaluation.tasks import Example
from limbeck.export.sentence_transformers import SentenceSettings

ONLY = ExportSettings(formats=(FLOAT32,), keep=0.0, timed=False, threads=1)
PROMPTS = {"query": "the house ", "document": "[MASK] red "}


def exported(folder, family, task, **fields):
    """The source of a tiny model, and its loaded file."""
    model = model_folder(folder / "model", family, task, **fields)
    export(str(model), folder / "files", ONLY)
    return load_source(str(model)), ExportedModel(folder / "files", threads=1)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    settings = SentenceSettings(48, PROMPTS, "query")
    return exported(tmp_path_factory.mktemp("vectors"), "bert", "vectors", settings=settings)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("pairs"), "bert", "pairs")


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("tagger"), "distilbert", "tags")


@pytest.mark.parametrize("prompt", ["query", "document", "passage", "a [MASK]: ", "", None])
def test_prompts_are_those_of_evaluate(vectors, prompt):
    source, file = vectors
    texts = make_text(5)
    expected = source.encoder.encode(texts, prompt=source.encoder.prompt(prompt))
    assert file.encode(texts, prompt=prompt) == pytest.approx(expected, abs=1e-5)


def test_a_prompt_that_the_model_does_not_have(vectors):
    _, file = vectors
    with pytest.raises(ModelError, match="no prompt of the name 'qurey' .query, document.*'qurey"):
        file.encode(["a text"], prompt="qurey")


def test_one_text_has_one_vector(vectors):
    _, file = vectors
    one = file.encode("the old house")
    assert one.shape == (10,)
    assert one == pytest.approx(file.encode(["the old house"])[0])
    assert file.encode(np.array(["the old house", "river"])).shape == (2, 10)


def test_pairs_are_tuples_or_lists_of_two_texts(pairs):
    _, file = pairs
    found = file.logits([["the old house", "a garden"], ("the old house", "a garden"), "the old"])
    assert found[0] == pytest.approx(found[1])
    assert file.logits([("the old",)])[0] == pytest.approx(found[2], abs=1e-5)
    assert example_of(["query", "document"]) == Example(text="query", text_pair="document")


def test_a_tagger_has_a_row_for_each_word(tagger):
    _, file = tagger
    words = ["the", "", "house", " ", "river"]
    [found] = file.logits([words])
    assert np.isnan(found).all(1).tolist() == [False, True, False, True, False]
    [read] = file.logits([["the", "house", "river"]])
    assert found[[0, 2, 4]] == pytest.approx(read, abs=1e-4)
    longer = ["the"] * 2 * file.max_length
    [found] = file.logits([longer])
    assert found.shape == (len(longer), 2)
    missing = np.isnan(found).all(1)
    assert missing.sum() == len(longer) - (file.max_length - 2)
    assert missing[file.max_length - 2 :].all()
    assert file.logits([[]])[0].shape == (0, 2)


def test_a_tagger_splits_a_text_into_words(tagger):
    _, file = tagger
    text = "The old house, over-river."
    [found] = file.logits([text])
    [expected] = file.logits([list(words_of(text))])
    assert found.shape == (len(words_of(text)), 2)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ab", "'ab' is one text, and a list of texts is needed"),
        (None, "None is given, and a list of texts is needed"),
        (3, "3 is given, and a list"),
        ({"text": "a"}, "is given, and a list"),
        ({"a", "b"}, "is given, and a list"),  # in no order, which answers have
        ([None], "None is given as a text, and a string is needed, or a tuple or list of two"),
        ([1.5], "1.5 is given as a text"),
        ([()], r"\(\) is given as a text"),
        ([("a", "b", "c")], "is given as a text"),
        ([["a"]], r"\['a'\] is given as a text"),
        ([["a", "b", "c"]], "is given as a text"),
        ([("a", None)], "is given as a text"),
        ([], "there is no text"),
        (["a\ud800"], r"'a\\ud800' has half a letter .'\\ud800', a lone surrogate., which is no"),
        ([("a", "\udfff")], "has half a letter"),
    ],
)
def test_what_is_no_text(pairs, given, said):
    _, file = pairs
    with pytest.raises(ExportError, match=said):
        file.logits(given)


@pytest.mark.parametrize("given", [("a", "b"), (), [1, 2], None, 3])
def test_what_are_no_words(tagger, given):
    _, file = tagger
    with pytest.raises(ExportError, match="given to a tagger, which needs a list of words"):
        file.logits([given])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "None is given, and a list of texts is needed"),
        ([None], "None is given as a text, and a string is needed"),
        (["a", ("b", "c")], r"\('b', 'c'\) is given as a text"),
        ([], "there is no text"),
        (["\ud800"], "has half a letter"),
        ("\ud800", "has half a letter"),
    ],
)
def test_what_has_no_vector(vectors, given, said):
    _, file = vectors
    with pytest.raises(ExportError, match=said):
        file.encode(given)


@pytest.mark.parametrize(
    ("prompt", "said"), [(3, "3 is given as a text, and a string"), ("\ud800: ", "half a letter")]
)
def test_what_is_no_prompt(vectors, prompt, said):
    _, file = vectors
    with pytest.raises(ExportError, match=said):
        file.encode(["a text"], prompt=prompt)


@pytest.mark.parametrize("size", [0, -1, 2.5, None])
def test_batches_have_texts(vectors, pairs, size):
    for call in (vectors[1].encode, pairs[1].logits):
        with pytest.raises(ExportError, match=f"batch_size is {size}; give a whole number"):
            call(["a text"], batch_size=size)
