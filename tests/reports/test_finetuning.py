"""The report says what was chosen for each model, and where one may not be at its best."""

import json
from dataclasses import asdict

import pytest
from test_run_results import NOTHING, QUALITY, SIZE

from limbeck.reports.finetuning import finetuning_notes, search_notes
from limbeck.reports.report import as_html, as_markdown, write_report
from limbeck.reports.run_results import RunResult
from limbeck.reports.search_results import SearchResult, Trial

RATES = (1e-4, 3e-4, 1e-3)


def searched(*scores: float | None, rates=(3e-4,) * 3, most: float = 8.0) -> SearchResult:
    """Trials of 2, 4 and 8 epochs, with their scores."""
    trials = [
        Trial(rate, epochs, score, None if score is None else 1 - score, 9.0)
        for rate, epochs, score in zip(rates, (2.0, 4.0, 8.0), scores, strict=True)
    ]
    return SearchResult("accuracy", RATES, most, 270, 30, trials)


def run(search: dict[str, SearchResult], **changes) -> RunResult:
    plain = {"name": "toy", "limbeck_version": "0.1.0", **NOTHING, "student": SIZE}
    plain |= {"teacher": {**SIZE, "name": "large"}, "quality": {"toy": {**QUALITY, **changes}}}
    plain["quality"]["toy"]["search"] = {
        role: json.loads(json.dumps(asdict(found))) for role, found in search.items()
    }
    return RunResult.from_json(plain)


def test_the_best_trial_is_chosen_and_of_equal_ones_the_shortest():
    assert searched(0.5, 0.75, 0.75).chosen.num_train_epochs == 4.0
    assert searched(0.5, 0.7, 0.75).chosen.num_train_epochs == 8.0
    assert searched(None, 0.1, None).chosen.num_train_epochs == 4.0
    equal = [Trial(1e-3, 2.0, 0.5, 0.9, 1.0), Trial(1e-4, 2.0, 0.5, 0.8, 1.0)]
    found = SearchResult("accuracy", RATES, 8.0, 1, 1, equal)
    assert found.chosen.learning_rate == 1e-4  # the lower loss
    assert found.curve == [(2.0, 0.5)] and found.epochs == 4.0


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (searched(0.5, 0.9, 0.8), []),
        (searched(0.5, 0.8, 0.9), ["best after the most epochs that were tried (8)"]),
        (
            searched(0.5, 0.8, 0.9, rates=(1e-4, 1e-3, 1e-3), most=20.0),
            ["best at the highest learning rate that was tried (0.001)"],
        ),
        (
            searched(0.9, 0.8, 0.7, rates=(1e-4, 1e-3, 1e-3)),
            ["best at the lowest learning rate that was tried (0.0001)"],
        ),
    ],
)
def test_what_lies_at_an_edge_had_not_converged(search, expected):
    assert search.limits() == expected
    assert len(search_notes(search)) == len(expected)
    assert all(note.startswith("had not converged: it is best ") for note in search_notes(search))


def test_a_report_shows_rates_curves_and_warnings(tmp_path):
    result = run(
        {"teacher": searched(0.5, 0.6, 0.7), "student": searched(0.5, 0.8, 0.7)},
        teacher=0.7,
        student=0.8,
        no_distillation=0.6,
    )
    markdown = as_markdown(result)
    assert "| toy | teacher | 0.0003 | 8 | accuracy | 70.0 | 30 | 14 |" in markdown
    assert "| toy | student | 0.0003 | 4 | accuracy | 80.0 | 30 | 14 |" in markdown
    assert "| task | model | 2 | 4 | 8 |" in markdown
    assert "| toy | student | 50.0 | 80.0 | 70.0 |" in markdown
    assert "Learning curves: toy" in as_html(result)
    notes = finetuning_notes(result)
    assert [note.partition(":")[0] for note in notes] == ["teacher on toy"] * 2
    assert "had not converged: it is best after the most epochs that were tried (8)" in notes[0]
    assert "it scores below its student (70.0 &lt; 80.0)" in markdown
    assert "give the search more" in notes[1]
    write_report(result, [], tmp_path)
    saved = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert RunResult.from_json(saved) == result
    assert saved["quality"]["toy"]["search"]["student"]["trials"][1]["score"] == 0.8


def test_without_a_search_a_teacher_below_its_student_is_still_named():
    result = run({}, teacher=0.7, student=0.8, no_distillation=0.75)
    notes = finetuning_notes(result)
    assert len(notes) == 2
    assert "below its student" in notes[0] and "below the student without distillation" in notes[1]
    assert all("give finetuning more num_train_epochs, or a search" in note for note in notes)
    assert not any("Learning curves" in text for text in (as_markdown(result), as_html(result)))
    assert "search" not in result.to_json()["quality"]["toy"]
    assert finetuning_notes(run({}, teacher=0.9, student=0.8)) == []
    assert finetuning_notes(run({}, metrics={"teacher": {"rouge_l": 0.1}}, teacher=0.1)) == []


def test_scores_that_are_not_finite_are_left_out_of_curves():
    search = searched(None, 0.6, 0.7)
    assert search.curve == [(4.0, 0.6), (8.0, 0.7)]
    markdown = as_markdown(run({"student": search}))
    assert "| toy | student | 60.0 | 70.0 |" in markdown
