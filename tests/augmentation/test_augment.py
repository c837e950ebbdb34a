"""Rows made of those of a task: one file, the same bytes, and no scored row among them."""

import json
from collections import Counter

import pytest
from conftest import make_text

from limbeck.augmentation.augment import (
    ALIKE,
    EDITS,
    KNOWN,
    MASKED,
    NEIGHBORS,
    NO_WORD,
    SCORED,
    SPANS,
    TWICE,
    augment,
)
from limbeck.augmentation.settings import AugmentSettings
from limbeck.augmentation.source_rows import read_source_rows
from limbeck.data.rows import parse_location
from limbeck.errors import DataError, LimbeckError
from limbeck.evaluation.leaks import key_of
from limbeck.evaluation.mapped_rows import read_mapped_rows, source_of
from limbeck.evaluation.task_files import load_rows
from limbeck.recipe.parse import parse
from limbeck.recipe.task_rows import rows_of


def both(model, **changed):
    exact = {"precision": "float32", "device": "cpu", "copies": 2, "top_k": 5, "spans": True}
    return AugmentSettings(masked=str(model), **exact | changed)


def write(folder, name, rows):
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / name).write_text(lines, encoding="utf-8")


def read(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("task", "fields"),
    [("labels", {"text"}), ("pairs", {"text", "text_pair"}), ("tags", {"tokens"})],
)
def test_rows_of_every_form_are_made_and_read_again(
    task_files, teacher_folder, tmp_path, task, fields
):
    settings = both(teacher_folder)
    files = [tmp_path / name for name in ("one.jsonl", "deep/er/two.jsonl")]
    found = [augment([str(task_files / task)], file, settings) for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    rows = read(files[0])
    assert all(row.keys() == fields for row in rows)
    assert found[0].kept.keys() == {MASKED, SPANS} and sum(found[0].kept.values()) == len(rows)
    # Of 240 rows 200 are learned from; every copy is kept or counted.
    left = len(read_source_rows([str(task_files / task)]).rows)
    for way, kept in found[0].kept.items():
        assert kept + sum(found[0].dropped[way].values()) == 2 * left
    keys = [key_of(row) for row in load_rows(str(files[0]))]
    source = read_source_rows([str(task_files / task)])
    assert len(set(keys)) == len(keys)
    assert not {*keys} & {key_of(row) for row in [*source.rows, *source.scored]}
    other = tmp_path / "other.jsonl"
    augment([str(task_files / task)], other, both(teacher_folder, seed=1))
    assert other.read_bytes() != files[0].read_bytes()


def test_scored_rows_are_never_made(tmp_path):
    """Spans of these rows would make all scored rows, of dev and of test."""
    train = [{"text": text, "label": "x"} for text in ("red house", "old garden", "river")]
    write(tmp_path, "t.train.jsonl", [*train, {"text": "Stone.", "label": "x"}])
    write(tmp_path, "t.dev.jsonl", [{"text": "RED -- garden!", "label": "x"}])
    write(
        tmp_path,
        "t.test.jsonl",
        [{"text": "river, red", "label": "x"}, {"text": "stone", "label": "x"}],
    )
    write(tmp_path, "t.ood.jsonl", [{"text": "house old", "label": "x"}])
    write(tmp_path, "t.more.train.jsonl", [{"text": "garden red", "label": "x"}])
    write(tmp_path, "u.dev.jsonl", [{"text": "garden river", "label": "x"}])
    settings = AugmentSettings(spans=True, copies=300)
    location = [str(tmp_path / "t")]
    found = augment(
        location, tmp_path / "a.jsonl", settings, scored=[str(tmp_path / "u.dev.jsonl")]
    )
    made = {row["text"] for row in read(tmp_path / "a.jsonl")}
    assert "garden red" in made and "old house" in made
    assert not {"red garden", "river red", "house old", "garden river", "stone river"} & made
    assert {SCORED, TWICE} <= found.dropped[SPANS].keys()
    assert any("dev 1, ood 1, test 2" in note for note in found.notes)
    assert any("of 4 training rows 1 is scored too" in note for note in found.notes)


def test_a_table_has_the_rows_held_out_that_a_task_of_it_has(tmp_path):
    lines = [f'"{text}",{n % 2}' for n, text in enumerate(make_text(80, seed=4))]
    (tmp_path / "reviews.csv").write_text("\n".join(["body,stars", *lines]), encoding="utf-8")
    location = {"path": str(tmp_path / "reviews.csv"), "text": "body", "label": "stars"}
    task = read_mapped_rows(source_of(parse_location(location)), None)
    source = read_source_rows([location])
    assert [row.text for row in source.scored] == [row.text for row in task.test]
    assert [row.text for row in source.rows] == [row.text for row in task.train]
    named = read_source_rows([location | {"split": {"dev": 0.3, "test": 0.2}}])
    assert [len(named.rows), len(named.scored)] == [40, 40]


def test_splits_of_a_folder_are_scored_under_any_name(tmp_path):
    for split, texts in (("train", ["a b", "c d"]), ("validation", ["a d"]), ("test", ["c b"])):
        write(tmp_path, f"{split}.jsonl", [{"text": text} for text in texts])
    source = read_source_rows([str(tmp_path)])
    assert Counter(row.text for row in source.scored) == Counter(["a d", "c b"])
    assert "dev 1, test 1" in source.notes[0]


def test_russian_rows(tmp_path, teacher_folder):
    texts = ["Красный дом, старый сад.", "Река всегда тихо ответил", "друг никогда не ответил"]
    write(tmp_path, "ru.train.jsonl", [{"text": text} for text in texts])
    augment([str(tmp_path / "ru")], tmp_path / "a.jsonl", both(teacher_folder, copies=3))
    rows = [row["text"] for row in read(tmp_path / "a.jsonl")]
    assert len(rows) >= 12 and any("," in row and row.endswith(".") for row in rows)


def test_rows_without_words_are_counted(tmp_path, teacher_folder):
    write(tmp_path, "t.train.jsonl", [{"text": text} for text in ("我爱你", "ภาษาไทย", "12:30")])
    place = [str(tmp_path / "t")]
    with pytest.raises(DataError, match="no new row .* of 3 row.*without a word to replace"):
        augment(place, tmp_path / "a.jsonl", both(teacher_folder, spans=False))
    found = augment(place, tmp_path / "a.jsonl", both(teacher_folder))
    assert found.dropped[MASKED] == {NO_WORD: 6} and found.kept[SPANS] > 0


def test_the_new_rows_are_learned_from(task_files, tmp_path, task_recipe):
    file = tmp_path / "more.jsonl"
    found = augment([str(task_files / "labels")], file, AugmentSettings(spans=True, copies=1))
    raw = task_recipe("labels")
    raw["data"] = raw["data"] | {"rows": [str(file)]}
    recipe, _ = parse(raw)
    rows = rows_of(recipe.data, predict=None, split=None)
    assert rows.dropped == 0
    assert len(rows.train) + len(rows.held_out) == 200 + found.kept[SPANS]


def test_texts_are_paired(task_files, tmp_path, task_recipe):
    """Of a task of pairs and of plain texts together; a pair of the task is not made again."""
    write(tmp_path, "more.jsonl", [{"text": text} for text in make_text(30, seed=9)])
    file, settings = tmp_path / "new.jsonl", AugmentSettings(neighbors=True, edits=True, copies=2)
    places = [str(task_files / "pairs"), str(tmp_path / "more.jsonl")]
    found = augment(places, file, settings)
    rows = read(file)
    assert all(row.keys() == {"text", "text_pair"} for row in rows)
    assert found.kept.keys() == {NEIGHBORS, EDITS} and min(found.kept.values()) > 0
    source = read_source_rows(places)
    keys = [key_of(row) for row in load_rows(str(file))]
    assert len(set(keys)) == len(keys)
    assert not {*keys} & {key_of(row) for row in [*source.rows, *source.scored]}
    raw = task_recipe("pairs")
    raw["data"] = raw["data"] | {"rows": [str(file)]}
    learned = rows_of(parse(raw)[0].data, predict=None, split=None)
    assert learned.dropped == 0


def test_scored_pairs_are_never_made(tmp_path):
    train = [{"text": "the red house fell", "text_pair": "old garden", "label": "x"}]
    train += [{"text": "The red house stood", "text_pair": "river", "label": "y"}]
    scored = {"text": "the red house stood!", "text_pair": "The red house fell", "label": "x"}
    write(tmp_path, "t.train.jsonl", train)
    write(tmp_path, "t.dev.jsonl", [scored])
    settings = AugmentSettings(neighbors=True, edits=True, copies=3)
    found = augment([str(tmp_path / "t")], tmp_path / "a.jsonl", settings)
    assert found.dropped[NEIGHBORS][SCORED] == 2 and found.kept[NEIGHBORS] == 0


def test_neighbors_of_a_text_are_others_than_its_own_partner(tmp_path):
    row = {"text": "the old town was flooded", "text_pair": "the old town was flooded again"}
    other = {"text": "the old town was rebuilt", "text_pair": "shares fell"}
    write(tmp_path, "t.train.jsonl", [row, other])
    file = tmp_path / "a.jsonl"
    found = augment([str(tmp_path / "t")], file, AugmentSettings(neighbors=True, copies=1))
    assert found.kept[NEIGHBORS] == 2 and KNOWN not in found.dropped[NEIGHBORS]
    assert all(other["text"] in made.values() for made in read(file))


def test_a_text_and_itself_are_no_pair(tmp_path):
    write(tmp_path, "t.train.jsonl", [{"text": text} for text in ("one", "Two", "three")])
    file = tmp_path / "a.jsonl"
    found = augment([str(tmp_path / "t")], file, AugmentSettings(edits=True, copies=20))
    assert found.dropped[EDITS][ALIKE] > 0 and found.kept[EDITS] > 0
    assert all(len(set(key_of(row))) == 2 for row in load_rows(str(file)))


@pytest.mark.parametrize(
    ("row", "predict", "field"),
    [
        ({"label": "x", "tags": ["O", "O"]}, None, "text"),
        ({"label": "x", "tags": ["O", "O"]}, "tags", "tokens"),
        ({"tags": ["O", "O"]}, None, "tokens"),
        ({"tags": ["O", "O"]}, "label", "text"),
        ({}, None, "text"),
    ],
)
def test_rows_of_a_text_and_words(tmp_path, row, predict, field):
    """Classifiers read the text, taggers the words; a scored row is made in neither form."""
    rows = [{"text": f"w{n}n't", "tokens": [f"w{n}", "n't"], **row} for n in range(9)]
    write(tmp_path, "t.train.jsonl", rows)
    scored = [{"text": "W1n't w2n't", "tokens": ["w1", "n't", "n't"], **row}]
    write(tmp_path, "t.dev.jsonl", [{**scored[0], "tags": ["O"] * 3}] if "tags" in row else scored)
    settings = AugmentSettings(spans=True, copies=40, predict=predict)
    found = augment([str(tmp_path / "t")], tmp_path / "a.jsonl", settings)
    assert {name for made in read(tmp_path / "a.jsonl") for name in made} == {field}
    assert found.dropped[SPANS][SCORED] > 0
    texts, words = (9, 0) if field == "text" else (0, 9)
    assert f"{texts} are read as texts, for a label, and {words} as words" in " ".join(found.notes)


BAD = [
    (
        {},
        {"top_k": 3, "min_similarity": 0.2},
        "--top-k would not be read without --masked; .*"
        "--min-similarity would not be read without --neighbors",
    ),
    ({}, {"masked": None, "spans": False}, "no way to make rows is chosen"),
    ({}, {"copies": 0}, "copies is 0; give 1 to 1,000"),
    ({}, {"replace_prob": 0.0}, "replace_prob is 0; give more than 0"),
    ({}, {"top_k": 0, "batch_size": 0}, "top_k is 0; give 1 or more; batch_size is 0"),
    ({}, {"seed": -1}, "seed is -1"),
    ({"locations": []}, {}, "no rows are named"),
    ({}, {"min_similarity": 1.0}, "min_similarity is 1; give 0 or more"),
    ({"locations": ["words"]}, {"spans": False, "neighbors": True}, "lists of words .* paired"),
    ({}, {"edits": True}, "the rows are texts, of which --masked and --spans make texts"),
    ({"locations": ["one"]}, {"spans": False, "edits": True}, "1 text cannot be paired"),
    ({}, {"spans": False, "neighbors": True}, "all are unlike; .* a lower --min-similarity"),
    ({"locations": ["nowhere/t"]}, {}, "t.train.jsonl"),
    ({"locations": ["t", "pairs"]}, {}, r"several forms: pairs of texts .* and texts"),
    ({"locations": ["prompts"]}, {}, "is a prompt with references"),
    ({"locations": ["one"]}, {}, "spans of 1 row cannot be joined"),
    ({"locations": ["same"]}, {}, "all 1 training rows are scored rows too"),
    ({"scored": ["pairs"]}, {}, "pairs has no split that is scored"),
    ({"output": "a.txt"}, {}, "ends in .jsonl"),
    ({"output": "t.train.jsonl"}, {}, "is there already"),
    ({"output": "t.train.jsonl/a.jsonl"}, {}, "t.train.jsonl is a file; give a folder"),
    ({"output": "t.more.jsonl"}, {}, "would be read as a split of .*t; give another folder"),
    ({"output": "a/b.jsonl", "locations": ["."]}, {}, "would be read as a split of"),
]


@pytest.mark.parametrize(("given", "settings", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_input(tmp_path, given, settings, said):
    rows = [{"text": text, "label": "x"} for text in ("red house", "old garden")]
    for name in ("t.train", "t.dev", "same.train", "same.dev", "one.train"):
        some = rows[:1] if name in ("one.train", "same.train") else rows
        write(
            tmp_path, f"{name}.jsonl", [{"text": "a b", "label": "x"}] if name == "t.dev" else some
        )
    write(tmp_path, "pairs.train.jsonl", [{"text": "a", "text_pair": "b"}])
    write(tmp_path, "words.train.jsonl", [{"tokens": ["a", "b"]}])
    write(tmp_path, "prompts.train.jsonl", [{"prompt": "a", "references": ["b"]}])
    before = {file.name for file in tmp_path.rglob("*")}
    locations = [str(tmp_path / name) for name in given.get("locations", ["t"])]
    scored = [str(tmp_path / name) for name in given.get("scored", [])]
    output = tmp_path / given.get("output", "a.jsonl")
    with pytest.raises(LimbeckError, match=said):
        augment(locations, output, AugmentSettings(**{"spans": True} | settings), scored=scored)
    assert {file.name for file in tmp_path.rglob("*")} == before


def test_known_rows_are_counted(tmp_path):
    write(tmp_path, "t.train.jsonl", [{"text": text} for text in ("a", "b", "a b", "b a")])
    found = augment(
        [str(tmp_path / "t")], tmp_path / "a.jsonl", AugmentSettings(spans=True, copies=40)
    )
    assert found.dropped[SPANS][KNOWN] > 0
    assert not {"a b", "b a"} & {row["text"] for row in read(tmp_path / "a.jsonl")}
