"""`limbeck evaluate` on vectors of texts."""

import json
import shutil
import sys

import numpy as np
import pytest
from conftest import make_model, make_text
from safetensors.torch import load_file, save_file

from limbeck.cli.main import main
from limbeck.evaluation.embeddings.encode import load_text_encoder
from limbeck.evaluation.embeddings.scores import similarity_scores
from limbeck.models.locate import fingerprint

TEXTS = make_text(24, seed=9)


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def files(tmp_path):
    pairs = [
        {"text": a, "text_pair": b, "label": n % 5}
        for n, (a, b) in enumerate(zip(TEXTS[:12], TEXTS[12:], strict=True))
    ]
    corpus = [{"id": n, "text": text} for n, text in enumerate(TEXTS)]
    queries = [{"id": n, "text": text, "relevant": [n]} for n, text in enumerate(TEXTS[:9])]
    contents = {"own.dev": pairs, "both": pairs, "own.corpus": corpus, "own.queries": queries}
    for name, rows in contents.items():
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def test_every_task_is_scored_and_saved(monkeypatch, capsys, teacher_folder, files):
    own, both = files / "own", files / "both"
    tasks = ["--similarity", own, "--retrieval", own, "--bitext", both]
    options = ["--query-prompt", "red: ", "--precision", "float32", "-o", files / "out", "--json"]
    code, out, _ = run(monkeypatch, capsys, teacher_folder, *tasks, *options)
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    kept = {"model": str(teacher_folder), "fingerprint": fingerprint(str(teacher_folder)), **found}
    assert kept == json.loads((files / "out" / "evaluation.json").read_text())
    scores = found["embeddings"]
    assert [(score["kind"], score["rows"]) for score in scores] == [
        ("similarity", 12),
        ("retrieval", 9),
        ("bitext", 12),
    ]
    assert scores[1]["prompts"] == {"query": "red: ", "document": ""}
    for word in (
        "the mean of its last hidden states",
        "ndcg_at_10",
        "before every query: 'red: '",
        "spearman",
    ):
        assert word in " ".join(out.split())
    assert "standard deviation" not in out  # no table of tasks that there are none of
    run(monkeypatch, capsys, teacher_folder, *tasks[:2], "-o", files / "out")
    again = json.loads((files / "out" / "evaluation.json").read_text())["embeddings"]
    assert sorted(one["kind"] for one in again) == ["bitext", "retrieval", "similarity"]


def test_results_of_other_weights_are_not_added(
    monkeypatch, capsys, teacher_folder, files, tmp_path
):
    """A model that was trained again stood beside the scores that it had before."""
    model = shutil.copytree(teacher_folder, tmp_path / "model")
    options = ["--precision", "float32", "-o", tmp_path / "out"]
    assert run(monkeypatch, capsys, model, "--similarity", files / "own", *options)[0] == 0
    before = (tmp_path / "out" / "evaluation.json").read_text()
    weights = load_file(model / "model.safetensors")
    save_file({name: 2 * one for name, one in weights.items()}, model / "model.safetensors")
    code, _, err = run(monkeypatch, capsys, model, "--bitext", files / "both", *options)
    assert code == 1 and "its files have changed since" in " ".join(err.split())
    assert (tmp_path / "out" / "evaluation.json").read_text() == before


def test_as_many_tokens_are_read_as_are_wanted(monkeypatch, capsys, teacher_folder, files):
    found = []
    for length in (4, 60, None):
        encoder = load_text_encoder(str(teacher_folder), max_length=length, precision="float32")
        vectors = [encoder.encode(texts) for texts in (TEXTS[:12], TEXTS[12:])]
        labels = np.array([n % 5 for n in range(12)], dtype=float)
        expected = similarity_scores(*vectors, labels)["spearman"].score
        options = ["--precision", "float32", "--json"]
        options += ["--max-length", length] if length else []
        code, out, _ = run(
            monkeypatch, capsys, teacher_folder, "--similarity", files / "own", *options
        )
        assert code == 0
        [scored] = json.loads(out.splitlines()[-1])["embeddings"]
        assert scored["scores"]["spearman"]["score"] == pytest.approx(expected)
        found.append(expected)
    assert found[0] != found[1] == found[2]


def test_documents_by_another_model(monkeypatch, capsys, teacher_folder, files, tokenizer):
    make_model(vocabulary=len(tokenizer), hidden=16).save_pretrained(files / "student")
    tokenizer.save_pretrained(files / "student")
    options = ["--retrieval", files / "own", "--documents", teacher_folder, "--json"]
    code, _, err = run(monkeypatch, capsys, files / "student", *options)
    assert code == 1 and "have 16 coordinates" in " ".join(err.split())
    options += ["--truncate-dim", 8, "--sentence-pooling", "cls"]
    code, out, _ = run(monkeypatch, capsys, files / "student", *options)
    score = json.loads(out.splitlines()[-1])["embeddings"][0]
    assert (code, score["width"], score["documents"]) == (0, 8, str(teacher_folder))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--documents", "other"], "--documents is given, and no task that reads it"),
        (["--query-prompt", "query: ", "--truncate-dim", 3], "--query-prompt and --truncate-dim"),
        (["--retrieval", "own", "--text-prompt", "a: "], "--text-prompt is given"),
        (["--retrieval", "own", "--query-prompt", "query"], "no prompt of the name 'query'"),
        (["--retrieval", "own", "--sentence-pooling", "first"], "the pooling 'first' is not known"),
        (["--similarity", "both"], "both.test.jsonl nor both.test.jsonl.gz is there"),
        (["--bitext", "own", "--truncate-dim", 0], "--truncate-dim"),
    ],
)
def test_what_makes_no_sense(monkeypatch, capsys, teacher_folder, files, options, said):
    monkeypatch.chdir(files)
    code, _, err = run(monkeypatch, capsys, teacher_folder, *options)
    assert code != 0 and said in " ".join(err.split()) and "Traceback" not in err
