import gzip
import json

import pytest

from limbeck.errors import DataError
from limbeck.evaluation.task_files import load_task
from limbeck.evaluation.tasks import TASKS, TaskKind, subsample


def write(folder, name, rows):
    content = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def pair(folder, train, test, name="task"):
    write(folder, f"{name}.train.jsonl", train)
    write(folder, f"{name}.dev.jsonl.gz", test)
    return str(folder / name)


TEXTS = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(
    ("rows", "kind", "headline"),
    [
        (TEXTS, TaskKind.CLASSIFICATION, "accuracy"),
        ([{"text": "a", "text_pair": "b", "label": 3}], TaskKind.REGRESSION, "spearman"),
        ([{"tokens": ["a", "b"], "tags": ["O", "B-X"]}], TaskKind.TAGGING, "span_f1"),
        (
            [{"tokens": ["a"], "tags": ["O"], "text": "a", "label": "i"}],
            TaskKind.JOINT,
            "intent_accuracy",
        ),
    ],
)
def test_the_kind_is_found_from_the_rows(tmp_path, rows, kind, headline):
    task = load_task(pair(tmp_path, rows, rows))
    assert (task.kind, task.headline, task.test_split) == (kind, headline, "dev")
    assert len(task.train) == len(task.test) == len(rows)


def test_known_tasks_have_their_own_metric(tmp_path):
    labels = ("equivalent", "different")
    rows = [{"text": "a", "text_pair": "b", "label": label} for label in labels]
    task = load_task(pair(tmp_path, rows, rows, name="mrpc"))
    assert (task.headline, task.positive) == ("f1", "equivalent")
    assert TASKS["mrpc"].positive == "equivalent"


def test_dev_is_taken_before_test_unless_another_is_named(tmp_path):
    location = pair(tmp_path, TEXTS, TEXTS)
    write(tmp_path, "task.test.jsonl", TEXTS[:1])
    assert load_task(location).test_split == "dev"
    assert len(load_task(location, test_split="test").test) == 1


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (TEXTS, [{"text": "c", "label": "z"}], "label 'z' .1 times. that the training file lacks"),
        (
            [{"tokens": ["a"], "tags": ["O"]}],
            [{"tokens": ["a"], "tags": ["B-X"]}],
            "tags 'B-X' .1 times. that the training file lacks",
        ),
        ([*TEXTS, {"text": "a", "label": 1}], TEXTS, "mixes kinds of rows"),
        ([{"tokens": ["a", "b"], "tags": ["O"]}], TEXTS, "line 1 of .* 2 tokens and 1 tags"),
        ([{"tokens": ["a"]}], TEXTS, "has only one of `tokens` and `tags`"),
        ([{"sentence": "a", "label": "x"}], TEXTS, "has the fields sentence, label; needed are"),
        ([{"text": "a", "label": {"x": 1}}], TEXTS, "neither a string nor a number"),
        ([{"text": "a", "label": ["x"]}], TEXTS, "mixes kinds of rows"),
        ([TEXTS[0], "{"], TEXTS, "line 2 of .* is not JSON"),
        (["[1]"], TEXTS, "is a list, not an object"),
        ([], TEXTS, "is empty"),
    ],
)
def test_broken_files_say_where(tmp_path, train, test, message):
    with pytest.raises(DataError, match=message):
        load_task(pair(tmp_path, train, test))


def test_missing_files_name_the_tasks_that_are_there(tmp_path):
    pair(tmp_path, TEXTS, TEXTS, name="other")
    with pytest.raises(DataError, match="task.train.jsonl.* tasks in .*: other"):
        load_task(str(tmp_path / "task"))
    with pytest.raises(DataError, match=r"othre\.train\.jsonl.* did you mean .*other\?"):
        load_task(str(tmp_path / "othre"))


def test_truncated_gzip_and_not_utf8(tmp_path):
    location = pair(tmp_path, TEXTS * 500, TEXTS * 500)
    file = tmp_path / "task.dev.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated or broken"):
        load_task(location)
    (tmp_path / "task.train.jsonl").write_bytes('{"text": "а"}'.encode("cp1251"))
    with pytest.raises(DataError, match="is not UTF-8"):
        load_task(location)


def test_subsamples_are_the_same_for_everyone(tmp_path):
    rows = [{"text": str(n), "label": "xy"[n % 2]} for n in range(50)]
    task = load_task(pair(tmp_path, rows, rows))
    one, two = (subsample(task, rows=10, seed=0) for _ in range(2))
    assert one == two and len(one.train) == 10 and len(one.test) == 50
    assert subsample(task, rows=10, seed=1) != one
    assert subsample(task, rows=None, seed=0) is task


def test_one_task_is_learned_and_another_scored(tmp_path):
    pair(tmp_path, TEXTS, TEXTS, name="sib200_en")
    location = pair(tmp_path, TEXTS, [{"text": "в", "label": "y"}], name="sib200_ru")
    task = load_task(str(tmp_path / "sib200_en>sib200_ru"))
    assert (task.name, task.headline) == ("sib200_en_to_sib200_ru", "accuracy")
    assert [row.text for row in (*task.train, *task.test)] == ["a", "b", "в"]
    elsewhere = load_task(f"{tmp_path / 'sib200_en'}>{location}")
    assert (elsewhere.name, elsewhere.train, elsewhere.test) == (task.name, task.train, task.test)
    for wrong in (
        f"{location}>",
        f"{location}>sib200_ru",
        f">{location}",
        f"{location}>{location}",
    ):
        with pytest.raises(DataError, match="names one task; give two"):
            load_task(wrong)
    with pytest.raises(DataError, match="neither .*sib200_de.dev"):
        load_task(str(tmp_path / "sib200_en>sib200_de"), test_split="dev")
