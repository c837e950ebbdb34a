"""The plain results of a study, and its report."""

import copy
import json

import pytest

from limbeck.reports.comparison import (
    as_html,
    as_markdown,
    comparison_headline,
    comparison_table,
    metrics_table,
    tables,
    training_table,
    write_comparison,
)
from limbeck.reports.comparison_search import search_notes, search_tables
from limbeck.reports.study_results import StudyResult


def quality(value: float) -> dict:
    return {
        "toy": {
            "metric": "accuracy",
            "test_rows": 10,
            "training_rows": 20,
            "mean": value,
            "spread": 0.01,
            "values": [value - 0.01, value + 0.01],
            "means": {"accuracy": value, "bits_per_byte": value},
            "by_training": {"bits_per_byte": [value, value + 0.1]},
        }
    }


def arm(name: str, value: float, gap: dict | None) -> dict:
    return {
        "arm": name,
        "student": "small",
        "cost": {"parameters": 5_000_000, "cpu_ms_per_sentence": 2.0},
        "quality": quality(value),
        "mean": value,
        "spread": 0.01,
        "training": {"tokens": 1000, "seconds": 60.0},
        "held_out_before": {"labels": 2.0},
        "held_out": {"labels": 1.0},
        "by_position": {},
        "runs": [f"arms/small/{name}/{seed}" for seed in range(2)],
        "against_control": gap,
    }


def search(name: str, chosen: int) -> dict:
    trainings = [
        {"values": {"rate": rate}, "score": score, "loss": loss, "run": f"search/small/{name}/{n}"}
        for n, (rate, score, loss) in enumerate(
            [(0.5, 0.7, 1.0), (0.25, 0.8, 0.5), (1.0, None, None)]
        )
    ]
    where = {"arm": name, "student": "small", "metric": "accuracy", "rows": 50}
    return {**where, "trainings": trainings, "chosen": chosen}


@pytest.fixture
def plain() -> dict:
    """The content of a report.json, keys in its order."""
    gap = {"mean": 0.1, "low": 0.05, "high": 0.15, "p": 0.01, "seeds": 2}
    return {
        "name": "a study",
        "limbeck_version": "0.1.0",
        "command": "limbeck compare study.yaml -o study",
        "again": "limbeck distill study/RUN/recipe.yaml -o ANOTHER_FOLDER",
        "control": "none",
        "trainings": 2,
        "fine_tunings": 1,
        "teacher": {
            "quality": quality(0.9),
            "mean": 0.9,
            "spread": 0.0,
            "name": "teacher",
            "cost": {"parameters": 20_000_000, "cpu_ms_per_sentence": 8.0},
        },
        "students": {"small": {"parameters": 5_000_000, "cpu_ms_per_sentence": 2.0}},
        "rows": [arm("none", 0.6, None), arm("best", 0.7, gap)],
        "notes": ["a note"],
        "search": [search("none", 0), search("best", 1)],
        "pending": [],
    }


def test_results_are_what_stands_in_the_file(plain, tmp_path):
    found = StudyResult.from_json(copy.deepcopy(plain))
    write_comparison(found, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == plain == found.to_json()
    assert text == json.dumps(plain, indent=1, ensure_ascii=False) + "\n"
    assert StudyResult.from_json(json.loads(text)) == found


def test_names_of_any_script_are_drawn(plain, recwarn):
    """matplotlib has no letters of Chinese, and said so of each; a browser has."""
    plain["rows"][1]["arm"] = "最好"
    assert "最好" in as_html(StudyResult.from_json(plain)).partition("<svg")[2]
    assert [str(one.message) for one in recwarn if "Glyph" in str(one.message)] == []


def test_an_arm_that_is_called_teacher_is_not_the_teacher(plain):
    assert {row[0] for row in tables(StudyResult.from_json(plain))[0][1]} >= {"teacher", "best"}
    plain["rows"][1]["arm"] = "teacher"
    plain["teacher"]["cost"] = {"parameters": 20_000_000, "cpu_ms_per_sentence": 9.0}
    found = StudyResult.from_json(plain)
    shown = dict(tables(found))
    (scores,) = (table for heading, table in shown.items() if "standard deviation" in heading)
    named = ["the teacher", "teacher", "none (control)"]
    assert [row[0] for row in scores[1:]] == named
    assert [row[0] for row in shown["small, toy: every metric, mean over seeds"][1:]] == [
        *named[:2],
        "none",
    ]
    assert shown["Size and speed"][1][:2] == ["the teacher", "20.0M"]
    assert as_html(found).count(">the teacher</text>") == 2


def test_long_names_leave_room_for_the_lines_of_a_drawing(plain):
    plain["rows"][1]["arm"] = name = "hidden-states-of-every-layer-" * 4 + "cosine"
    page = as_html(StudyResult.from_json(plain))
    drawings = page[page.index("<svg") :].partition("<h2")[0]
    assert name in page and name not in drawings
    assert drawings.count(">hidden-state…-layer-cosine</text>") == 3
    assert "points, with the 95 % interval" in drawings


def test_names_of_tasks_are_text_in_headings(plain):
    for row in (*plain["rows"], plain["teacher"]):
        row["quality"] = {"t<b>oy": row["quality"]["toy"]}
    found = StudyResult.from_json(plain)
    assert "<b>" not in as_markdown(found) and "## small, t&lt;b&gt;oy: every" in as_markdown(found)


def test_what_has_not_ended_is_named(plain, tmp_path):
    plain["pending"] = ["arms/small/best/1", *(f"arms/large/best/{seed}" for seed in range(2))]
    found = StudyResult.from_json(plain)
    assert comparison_headline(found).endswith("4 of 7 trainings have ended.")
    (table,) = (table for heading, table in tables(found) if heading == "Not trained yet")
    assert table == [["student", "arm", "seeds"], ["small", "best", "1"], ["large", "best", "0, 1"]]
    write_comparison(found, tmp_path, drawn=False)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Not trained yet" in page and "<svg" not in page and "<svg" in as_html(found)


def test_a_study_without_tasks_says_why_nothing_is_scored(plain):
    for row in plain["rows"]:
        row |= {"mean": None, "against_control": None, "quality": {}}
    found = StudyResult.from_json(plain)
    assert comparison_headline(found) == (
        "All 4 trainings have ended. They are not scored, because the study names no task"
        " (evaluation.tasks)."
    )


def test_numbers_that_are_not_finite_become_null(plain, tmp_path):
    plain["rows"][1] |= {"mean": float("nan"), "against_control": None}
    write_comparison(StudyResult.from_json(plain), tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail)["rows"][1]["mean"] is None


def test_the_table_of_a_search(plain):
    found = StudyResult.from_json(plain)
    ((_, table),) = search_tables(found.search)
    assert table[0] == ["arm", "rate", "accuracy × 100", "held-out loss", "chosen"]
    assert table[1] == ["none", "0.5", "70.0", "1", "chosen"]
    assert table[5] == ["best", "0.25", "80.0", "0.5", "chosen"]
    assert table[6] == ["best", "1", "", "not finite", ""]
    said, *limits = search_notes(found.search)
    assert "by 3 trainings with the first seed, by accuracy with its own head on 50" in said
    assert [limit.split(":")[1] for limit in limits] == [
        " best (small) is best at the lowest rate that was tried (0.25)"
    ]
    assert search_tables([]) == search_notes([]) == []


def test_the_tables_and_the_sentence(plain):
    found = StudyResult.from_json(plain)
    assert comparison_headline(found) == (
        "The best arm is best (70.0, 77.8% of the teacher), +10.0 over none [+5.0, +15.0]."
    )
    rows = comparison_table(found, "small")
    assert rows[0] == [
        *("arm", "toy (accuracy)", "mean", "kept", "against none", "95 % interval", "p")
    ]
    assert rows[1] == ["teacher", "90.0 ± 1.0", "90.0", "", "", "", ""]
    assert rows[2][0] == "best" and rows[2][4:] == ["+10.0", "+5.0 to +15.0", "0.010"]
    assert rows[3] == ["none (control)", "60.0 ± 1.0", "60.0 ± 1.0", "66.7%", "", "", ""]
    assert [row[-1] for row in metrics_table(found, "small", "toy")[1:]] == [
        *("", "+0.1000 to +0.1000", "")
    ]
    assert training_table(found, "small")[1][3] == "1 min 0 s"
    assert "- a note" in as_markdown(found)
