"""One sentence in the tokens of two vocabularies, and what both expect at its longest word."""

from dataclasses import replace

import pytest
from conftest import make_model, make_text, make_tokenizer
from transformers import AutoModelForMaskedLM

from limbeck.evaluation.two_readings import TokenizedModel, two_readings
from limbeck.models.families import ARCHITECTURES
from limbeck.reports.model_results import ModelResult
from limbeck.reports.report import as_markdown
from limbeck.reports.run_results import RunResult
from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer


@pytest.fixture
def readers():
    small = learn_tokenizer(
        make_text(300), blank_tokenizer("unigram", lowercase=True), vocab_size=55
    )
    architecture = ARCHITECTURES["bert"]
    return {
        "teacher": TokenizedModel(make_tokenizer(), make_model("bert"), architecture),
        "student": TokenizedModel(small, None, architecture),
    }


def test_groups_hold_all_tokens_and_spell_the_same(readers):
    text = "the old house in the garden"
    found = two_readings(text, readers)
    for side, reader in enumerate(readers.values()):
        tokens = [token for group in found.groups for token in group[side]]
        assert tokens == reader.tokenizer.tokenize(text)
    for theirs, mine in found.groups:
        spelled = ["".join(tokens).replace("##", "").replace("▁", "") for tokens in (theirs, mine)]
        assert spelled[0] == spelled[1]


def test_the_longest_word_is_hidden_from_who_can_expect_something(readers):
    found = two_readings("the old garden", readers, count=3)
    assert found.hidden == "garden" and found.expected["student"] == []
    gaps = found.expected["teacher"]
    assert len(gaps) == len(readers["teacher"].tokenizer.tokenize("garden"))
    for best in gaps:
        shares = [share for _, share in best]
        assert len(shares) == 3 and shares == sorted(shares, reverse=True) and sum(shares) <= 1


def test_a_report_shows_both(readers):
    found = two_readings("the old garden", readers, count=2)
    student = ModelResult(1_000_000, 0, 4.0, 55, name="student")
    result = RunResult("toy", "0.1.0", None, None, student, two_readings=found)
    text = as_markdown(result)
    assert "in the tokens of both" in text and "garden, gap 1" in text
    assert "in the tokens of both" not in as_markdown(replace(result, two_readings=None))


def short_model():
    config = make_model("bert").config
    config.max_position_embeddings = 4
    return AutoModelForMaskedLM.from_config(config)


def test_a_reader_of_shorter_texts_expects_nothing(readers):
    theirs = readers["teacher"]
    short = theirs._replace(model=short_model())
    found = two_readings("the old garden and the red house", {**readers, "teacher": short})
    assert found.groups and found.expected["teacher"] == []
