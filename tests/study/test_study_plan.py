"""What `limbeck plan` says of a study, and what is said where a file is of the other kind."""

import pytest
import yaml

from limbeck.cli.main import run_command
from limbeck.errors import RecipeError
from limbeck.recipe.check import prepare
from limbeck.run.probe import Probe
from limbeck.study.arms import prepare_study
from limbeck.study.plan import study_probes, study_tables
from limbeck.study.schema import check_study_form


@pytest.fixture
def raw(raw_recipe) -> dict:
    return {
        "recipe": {**raw_recipe, "stages": [{"preset": "minilmv2", "max_steps": 4}]},
        "students": {"two": {}, "one": {"student.num_hidden_layers": 1}},
        "arms": {
            "none": {"stages.0.preset": "no-distillation"},
            "MHA": {},
            "narrow": {"student.hidden_size": 8},
        },
        "control": "none",
        "seeds": 3,
    }


def test_a_row_for_every_training_but_for_its_seed(raw):
    study, runs = prepare_study(raw)
    probes = [[Probe(2.0 * number, 10**9 * number, {})] for number in range(len(runs))]
    (_, models), _, (heading, rows) = study_tables(study, runs, probes)
    assert heading == "Trainings: 18"
    assert [row[0] for row in models] == [
        "",
        "teacher",
        "student two",
        "student one",
        "student two, narrow",
        "student one, narrow",
    ]
    assert [row[1] for row in models[2:]] == ["2", "1", "2", "1"]
    assert [row[2] for row in models[2:]] == ["16", "16", "8", "8"]
    assert len(rows) == 1 + 6 + 1
    first = [runs.index(run) for run in runs if run.seed == runs[0].seed]
    for row, number in zip(rows[1:-1], first, strict=True):
        assert row[:2] == [runs[number].student, runs[number].arm]
        assert row[2:4] == ["4", "2,048"]
        assert row[5] == (f"{number}.0 GB" if number else "")
    assert rows[-1][0] == "in all"
    assert rows[-1][4] == "20 min"  # 4 steps of 2 x (0 + ... + 17) seconds


def test_a_search_and_what_follows_it(raw):
    raw["search"] = {"stages.0.optimizer.learning_rate": [1e-4, 1e-3]}
    study, runs = prepare_study(raw)
    _, _, (heading, rows) = study_tables(study, runs, [[Probe(1.0, None, {})]] * len(runs))
    assert heading == f"Trainings: {12 + 6 * 2}"
    assert rows[1][2] == "stages.0.optimizer.learning_rate 0.0001"
    assert len(rows) == 1 + 12 + 1
    assert rows[-1][-2] == "96 s"  # 24 trainings of 4 steps


def test_equal_times(raw):
    raw["equal"] = {"seconds": 60}
    study, runs = prepare_study(raw)
    _, _, (_, rows) = study_tables(study, runs, [[Probe(0.5, None, {})]] * len(runs))
    assert [row[2:5] for row in rows[1:-1]] == [["120", "61,440", "60 s"]] * 6
    _, _, (_, rows) = study_tables(study, runs, None)
    assert [row[2:] for row in rows[1:]] == [[""] * 4] * 6


def test_trainings_that_cost_the_same_are_probed_once(raw, monkeypatch):
    asked = []
    monkeypatch.setattr("limbeck.study.plan.probe", lambda setup, stage: asked.append(setup))
    raw["search"] = {"stages.0.optimizer.learning_rate": [1e-4, 1e-3]}
    _, runs = prepare_study(raw)
    probes = study_probes(runs)
    assert (len(runs), len(probes), len(asked)) == (12, 12, 6)


def test_the_command_plans_a_study(raw, tmp_path, monkeypatch, capsys):
    raw["recipe"]["stages"][0]["batch_size"] = 4
    raw |= {"students": {"two": {}}, "seeds": 1}
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["limbeck", "plan", str(file), "--set", "data.max_length=8"])
    assert run_command() == 0
    said = capsys.readouterr().out
    assert "Trainings: 3" in said and "in all" in said and "128" in said
    monkeypatch.setattr("sys.argv", ["limbeck", "plan", str(file), "--set", "data.max_length=-8"])
    assert run_command() == 1
    assert "every arm: data.max_length" in capsys.readouterr().err


def test_a_study_in_place_of_a_recipe_and_the_other_way_round(raw, raw_recipe):
    with pytest.raises(RecipeError, match=r"1 problem.*\n.*is a study.*`limbeck compare`"):
        prepare(raw)
    with pytest.raises(RecipeError, match=r"1 problem.*\n.*is a recipe.*`limbeck distill`"):
        check_study_form(raw_recipe)
