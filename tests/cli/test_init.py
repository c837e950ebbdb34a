"""`limbeck init`: every recipe that it writes is one that `limbeck plan` accepts."""

import io
import json
import sys

import pytest
import yaml
from conftest import make_chatting, make_model, make_text

from limbeck.cli import init as init_module
from limbeck.cli.main import main
from limbeck.recipe.check import prepare
from limbeck.recipe.draft.answers import KINDS, LEARNS_FROM, parse_size
from limbeck.student.shape import parameters_of_shape


def run(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, words)])
    monkeypatch.setenv("COLUMNS", "1000")  # in which the longest path is not broken
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, " ".join(said.err.split())


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("encoder")
    make_model(vocabulary=len(tokenizer), layers=4, hidden=32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory):
    """A decoder with a chat template, and a file of conversations."""
    folder = tmp_path_factory.mktemp("chatting")
    make_chatting(folder / "model", positions=256)
    rows = [
        [{"role": "user", "content": text[:6]}, {"role": "assistant", "content": text[:4]}]
        for text in make_text(100)
    ]
    lines = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    (folder / "chats.jsonl").write_text(lines, encoding="utf-8")
    return ["--teacher", folder / "model", "--prompts", folder / "chats.jsonl"]


@pytest.fixture
def combination(request, encoder, decoder, prompts, text_file, task_files, task_recipe, chatting):
    """The flags of a combination by its name."""
    plain = task_files / "plain.train.jsonl"
    text, labels, tags = ["--text", text_file], task_files / "labels", task_files / "tags"
    classifier = ["--kind", "classifier", "--teacher", task_recipe("labels")["teacher"]]
    generating = ["--kind", "decoder", "--teacher", decoder]
    vectors = ["--kind", "embeddings", "--teacher", encoder, "--rows", plain]
    general = ["--kind", "student", "--teacher", encoder, *text]
    return {
        "student": [*general, "--language", "en"],
        "student and a task": [*general, "--task", labels],
        "student with its own tokens": [*general, "--vocab-size", 95],
        "classifier with labels": [*classifier, "--task", labels],
        "classifier with rows": [*classifier, "--rows", plain],
        "classifier with both": [*classifier, "--task", labels, "--rows", plain],
        "scores": [
            *["--kind", "classifier", "--teacher", task_recipe("scores")["teacher"]],
            *["--task", task_files / "scores"],
        ],
        "tagger": ["--kind", "tagger", "--teacher", task_recipe("tags")["teacher"], "--task", tags],
        "embeddings": vectors,
        "embeddings of several": [*vectors, "--rows", f"{{path: {text_file}, text: text}}"],
        "decoder of text": [*generating, *text],
        "decoder of prompts": [*generating, "--prompts", prompts, "--task", prompts],
        "decoder of conversations": ["--kind", "decoder", *chatting, "--max-length", 64],
    }[request.param]


ALL = [
    "student",
    "student and a task",
    "student with its own tokens",
    "classifier with labels",
    "classifier with rows",
    "classifier with both",
    "scores",
    "tagger",
    "embeddings",
    "embeddings of several",
    "decoder of text",
    "decoder of prompts",
    "decoder of conversations",
]


@pytest.mark.parametrize("size", ["15K", "0.06MB", "1000ms"])
@pytest.mark.parametrize("combination", ALL, indirect=True)
def test_plan_accepts_what_is_written(monkeypatch, capsys, tmp_path, combination, size):
    file = tmp_path / "mine.yaml"
    words = ["init", file, "--max-length", 32, *combination, "--max-size", size]
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    text = file.read_text(encoding="utf-8")
    assert text in out and max(map(len, text.splitlines())) <= 130
    code, out, err = run(monkeypatch, capsys, "plan", file, "--no-timed")
    assert code == 0, err
    setup = prepare(yaml.safe_load(text))
    side = setup.models.student
    headed = side.architecture.causal and not setup.learns_vectors and side.head is None
    total, _ = parameters_of_shape(side.config, with_head=headed, architecture=side.architecture)
    if (wanted := parse_size(size).parameters) is not None:
        assert total <= wanted and f"{total / 1e6:.2f}M parameters" in text
    else:
        assert " ms for a text of" in text


@pytest.mark.parametrize(
    ("size", "layers", "width", "said"),
    [
        # The teacher has four layers of 32, of which one has 8,544 parameters.
        ("0.035M", 3, 32, "copied as wide as they are"),
        ("0.026M", 2, 32, "copied as wide as they are"),
        ("0.0172M", 2, 24, "Depth and width are reduced alike"),
        ("0.013M", 4, 16, "Depth and width are reduced alike"),
    ],
)
def test_layers_are_copied_whole_where_half_of_them_fit(
    monkeypatch, capsys, tmp_path, encoder, text_file, size, layers, width, said
):
    file = tmp_path / "mine.yaml"
    words = ["--teacher", encoder, "--kind", "student", "--text", text_file, "--max-size", size]
    code, _, err = run(monkeypatch, capsys, "init", file, *words)
    assert code == 0, err
    text = file.read_text(encoding="utf-8")
    student = yaml.safe_load(text)["student"]
    assert (student["num_hidden_layers"], student["hidden_size"]) == (layers, width)
    assert said in " ".join(text.replace("#", "").split())
    assert ("width" in student["init_from_teacher"]) == (width < 32)


@pytest.mark.parametrize(("size", "rate"), [("0.026M", 3e-4), ("0.013M", 1e-3)])
def test_layers_nearly_as_wide_as_the_teachers_get_a_lower_rate(
    monkeypatch, capsys, tmp_path, encoder, task_files, size, rate
):
    file = tmp_path / "mine.yaml"
    words = ["--teacher", encoder, "--kind", "embeddings", "--max-size", size]
    rows = ["--rows", task_files / "plain.train.jsonl"]
    assert run(monkeypatch, capsys, "init", file, *words, *rows)[0] == 0
    (stage,) = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    assert stage["optimizer"]["learning_rate"] == rate


def test_nothing_is_replaced(monkeypatch, capsys, tmp_path, encoder, text_file):
    words = ["--teacher", encoder, "--kind", "student", "--text", text_file, "--max-size", "20K"]
    file = tmp_path / "mine.yaml"
    file.write_text("mine", encoding="utf-8")
    code, _, err = run(monkeypatch, capsys, "init", file, *words)
    assert code == 1 and "is there already" in err
    assert file.read_text(encoding="utf-8") == "mine"
    (tmp_path / "new-vocabulary").mkdir()
    other = [*words, "--vocab-size", 95]
    code, _, err = run(monkeypatch, capsys, "init", tmp_path / "new.yaml", *other)
    assert code == 1 and "new-vocabulary is there already" in err


GENERAL = ["--teacher", "ENCODER", "--kind", "student", "--text", "TEXT"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--teacher and --kind and --max-size are missing"),
        (["--kind", "student"], "--teacher and --max-size are missing"),
        (["--teacher", "ENCODER", "--kind", "student"], "--max-size is missing"),
        (["--teacher", "ENCODER", "--kind", "student", "--max-size", "20K"], "give --text"),
        (
            [*GENERAL, "--max-size", "small"],
            "give megabytes (20MB), parameters (5M) or milliseconds",
        ),
        ([*GENERAL, "--max-size", "0MB"], "the size '0MB' is none"),
        ([*GENERAL, "--max-size", "20K", "--kind", "poet"], "kind is 'poet'; use student or"),
        ([*GENERAL, "--max-size", "20K", "--rows", "TEXT"], "--rows is for the kind classifier or"),
        ([*GENERAL, "--max-size", "20K", "--tokens", 0], "--tokens is 0"),
        ([*GENERAL, "--max-size", "100M"], "and the teacher has"),
        ([*GENERAL, "--max-size", "1K"], "the smallest student with"),
        ([*GENERAL, "--max-size", "0.0001ms"], "a student of one layer takes"),
        (
            [*GENERAL, "--max-size", "20K", "--kind", "decoder"],
            "is an encoder; give --kind student",
        ),
        (
            [*GENERAL, "--max-size", "20K", "--teacher", "DECODER"],
            "is a decoder; give --kind decoder",
        ),
        (
            [*GENERAL, "--max-size", "20K", "--teacher", "nowhere/a/b"],
            "teacher.model: the model folder",
        ),
        ([*GENERAL, "--max-size", "20K", "--text", "lost.txt"], "data.text.1"),
        (
            ["--teacher", "ENCODER", "--kind", "classifier", "--task", "TASK", "--max-size", "20K"],
            "limbeck finetune",
        ),
        (
            ["--teacher", "ENCODER", "--kind", "embeddings", "--rows", "{a", "--max-size", "20K"],
            "is no mapping",
        ),
    ],
)
def test_what_is_missing_or_impossible(
    monkeypatch, capsys, tmp_path, encoder, decoder, text_file, task_files, words, said
):
    """Without a terminal nothing is asked, and nothing is written."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    named = {"ENCODER": encoder, "DECODER": decoder, "TEXT": text_file}
    named["TASK"] = task_files / "labels"
    file = tmp_path / "mine.yaml"
    code, _, err = run(monkeypatch, capsys, "init", file, *(named.get(w, w) for w in words))
    assert code == 1 and said in err and "Traceback" not in err
    assert not file.exists()


def test_on_a_terminal_it_asks(monkeypatch, capsys, tmp_path, encoder, text_file):
    class Terminal:
        def isatty(self):
            return True

    asked = []
    answers = iter([encoder, "student", str(text_file), "20K", "en"])

    def prompt(question, **_):
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(init_module.typer, "prompt", prompt)
    file = tmp_path / "mine.yaml"
    code, out, err = run(monkeypatch, capsys, "init", file)
    assert code == 0, err
    assert len(asked) == 5 and "sst2" in out
    assert yaml.safe_load(file.read_text())["data"]["text"] == str(text_file)


def test_a_size_that_the_vocabulary_does_not_leave_room_for(
    monkeypatch, capsys, tmp_path, text_file
):
    """A teacher whose table is most of it: the student gets tokens of its own."""
    from limbeck.tokenization.learn import blank_tokenizer, learn_tokenizer

    words = [f"{a}{b}{c}" for a in "bcdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]
    texts = [" ".join(words[n::7]) for n in range(7)] + make_text(300)
    more = tmp_path / "more.txt"
    more.write_text("\n".join(texts * 3), encoding="utf-8")
    tokenizer = learn_tokenizer(
        texts * 3, blank_tokenizer("wordpiece", lowercase=True), vocab_size=600
    )
    folder = tmp_path / "wide"
    make_model(vocabulary=len(tokenizer), layers=4, hidden=32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    monkeypatch.setattr("limbeck.recipe.draft.sizing._VOCABULARIES", (500, 200))
    monkeypatch.setattr("limbeck.recipe.draft.sizing._LEAST_WIDTH_SHARE", 2.0)
    file = tmp_path / "mine.yaml"
    options = ["--teacher", folder, "--kind", "student", "--text", more, "--max-size", "15_000"]
    code, _, err = run(monkeypatch, capsys, "init", file, *options)
    assert code == 0, err
    raw = yaml.safe_load(file.read_text())
    assert raw["student"]["tokenizer"] == str(tmp_path / "mine-vocabulary")
    assert "mixed" in raw["stages"][0] and "tokens of its own" in file.read_text()
    assert run(monkeypatch, capsys, "plan", file, "--no-timed")[0] == 0


def test_each_kind_says_what_it_learns_from():
    assert [*LEARNS_FROM] == [*KINDS]
    assert json.dumps(LEARNS_FROM).count("text") == 2
