"""Unigram learns from documents that are evenly spaced, and says so; the sample is even."""

import itertools
import json
from io import StringIO

import pytest
from rich.console import Console

from limbeck.errors import DataError
from limbeck.tokenization import learn
from limbeck.tokenization.folders import learn_vocabulary
from limbeck.tokenization.learn import evenly_spaced


@pytest.mark.parametrize("characters", [1, 10, 100, 333, 999])
def test_a_sample_is_even_and_in_order(characters):
    documents = [f"{number:05}" for number in range(1000)]
    found = [int(text) for text in evenly_spaced(iter(documents), characters)]
    assert sum(5 for _ in found) <= max(5, characters)
    assert found == sorted(set(found))
    gaps = [two - one for one, two in itertools.pairwise(found)]
    if gaps:
        assert max(gaps) <= 2 * min(gaps) + 1
        assert 5 * len(found) >= 0.5 * characters


def test_all_documents_are_taken_where_they_are_few():
    assert evenly_spaced(["one", "", "two"], 6) == ["one", "", "two"]
    assert evenly_spaced([], 6) == []


def test_unigram_learns_from_a_sample_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.tokenization.folders.UNIGRAM_SAMPLE", 600)
    file = tmp_path / "text.txt"
    file.write_text("".join(f"the cat sat on mat {n}\n" for n in range(200)), encoding="utf-8")
    for kind, size in (("unigram", 30), ("wordpiece", 40)):
        said = StringIO()
        learn_vocabulary(
            [str(file)], tmp_path / kind, vocab_size=size, kind=kind, console=Console(file=said)
        )
        report = json.loads((tmp_path / kind / "report.json").read_text(encoding="utf-8"))
        sampled = kind == "unigram"
        assert ("learned_from_characters" in report) == sampled
        assert ("evenly spaced" in said.getvalue()) == sampled
    assert report["tokens"] == 40
    assert learn.UNIGRAM_SAMPLE == 3_000_000


def test_an_empty_sample_is_refused(tmp_path):
    with pytest.raises(DataError, match="sample_characters is 0; give 1 or more"):
        learn_vocabulary(["x.txt"], tmp_path / "v", vocab_size=9, sample_characters=0)
