"""Values that are searched for every arm: chosen on held-out rows, resumed, reported."""

import json
import math

import pytest
import yaml
from conftest import make_text

from limbeck.errors import DivergedError, RecipeError, TrainingError
from limbeck.reports.comparison import as_html, as_markdown
from limbeck.reports.study_results import StudyResult
from limbeck.reports.study_search import ArmSearch, SearchTraining
from limbeck.run.task_answers import answers_of, columns_of, task_side
from limbeck.study import compare as comparing
from limbeck.study import search as module
from limbeck.study.arms import prepare_study
from limbeck.study.compare import compare
from limbeck.study.held_out import held_out_score, held_out_task
from limbeck.study.schema import arm_recipes, check_study_form, parse_study

RATE = "stages.0.optimizer.learning_rate"


@pytest.fixture
def raw(task_recipe) -> dict:
    recipe = task_recipe("labels")
    recipe["data"]["held_out"]["fraction"] = 0.3
    recipe["stages"] = [{"max_steps": 3, "batch_size": 8}]
    return {
        "name": "toy",
        "recipe": recipe,
        "arms": {
            "gold": {"stages.0.objectives": {"class_labels": {}}},
            "soft": {"stages.0.objectives": {"class_logits": {}}},
        },
        "control": "gold",
        "search": {RATE: [1e-4, 3e-2, 1e-3]},
        "kept_gigabytes": 0.1,
        "draws": 100,
        "seeds": 2,
    }


@pytest.fixture
def text_raw(raw, raw_recipe) -> dict:
    """A study of text: no task, so the held-out loss decides."""
    recipe = {**raw_recipe, "stages": [{"max_steps": 3, "batch_size": 4}]}
    arms = {"none": {"stages.0.preset": "no-distillation"}, "MHA": {"stages.0.preset": "minilmv2"}}
    return {**raw, "recipe": recipe, "arms": arms, "control": "none", "seeds": 1}


def problems_of(raw) -> str:
    with pytest.raises(RecipeError) as caught:
        prepare_study(raw)
    return str(caught.value)


def test_the_best_on_held_out_rows_is_chosen_and_every_seed_trains_with_it(raw, tmp_path):
    report = compare(raw, tmp_path / "study")
    _, runs = prepare_study(raw)
    assert [run.place for run in runs] == [
        f"search/student/{arm}/{number}" for arm in ("gold", "soft") for number in range(3)
    ]
    for search in report["search"]:
        mine = [run for run in runs if run.arm == search["arm"]]
        plain = []
        for run, training in zip(mine, search["trainings"], strict=True):
            assert training["values"] == run.values and training["run"] == run.place
            # What the saved student says of the rows that were held out, counted here.
            side = task_side(str(tmp_path / "study" / run.place / "student"))
            rows, head = run.setup.rows.held_out, run.setup.models.student.head
            labels = columns_of(head, run.setup.rows.scored)
            best = answers_of(side, rows, labels, max_length=24).best
            right = [labels[n] == row.label for n, row in zip(best, rows, strict=True)]
            assert training["score"] == pytest.approx(sum(right) / len(rows))
            plain.append((sum(right) / len(rows), -training["loss"]))
        assert search["chosen"] == plain.index(max(plain))
        assert (search["metric"], search["rows"]) == ("accuracy", len(rows))
        chosen = search["trainings"][search["chosen"]]["values"][RATE]
        for seed in (0, 1):
            file = tmp_path / "study" / f"arms/student/{search['arm']}/{seed}/recipe.yaml"
            trained = yaml.safe_load(file.read_text(encoding="utf-8"))
            assert trained["stages"][0]["optimizer"]["learning_rate"] == chosen
            assert trained["seed"] == seed
    assert {row["arm"]: len(row["runs"]) for row in report["rows"]} == {"gold": 2, "soft": 2}
    result = StudyResult.from_json(report)
    for text in (as_markdown(result), as_html(result)):
        assert "values chosen on held-out rows" in text and "chosen" in text
        assert "by accuracy with its own head on" in text


def test_the_loss_decides_where_there_is_no_task(text_raw, tmp_path):
    report = compare(text_raw, tmp_path / "study")
    for search in report["search"]:
        losses = []
        for training in search["trainings"]:
            lines = (tmp_path / "study" / training["run"] / "log.jsonl").read_text().splitlines()
            (last,) = [r["held_out"] for r in map(json.loads, lines) if "held_out" in r][-1:]
            assert training["loss"] == pytest.approx(sum(last.values()))
            losses.append(training["loss"])
        assert search["metric"] is None and search["chosen"] == losses.index(min(losses))
    assert "by the arm's own loss on what is held out" in as_markdown(StudyResult.from_json(report))


def test_a_search_resumes_and_the_chosen_training_is_not_repeated(raw, tmp_path, monkeypatch):
    raw["search"] = {RATE: [1e-4, 3e-2]}
    folder, trained = tmp_path / "study", []

    def counted(real, most):
        def train(setup, place, console, accelerator, **options):
            if not (place / "student").exists():
                trained.append(place.relative_to(folder).as_posix())
            if len(trained) == most:
                raise KeyboardInterrupt
            real(setup, place, console, accelerator, **options)

        return train

    real = module.train_run
    for most in (3, 7):  # within the search, and after it
        monkeypatch.setattr(module, "train_run", counted(real, most))
        monkeypatch.setattr(comparing, "train_run", counted(real, most))
        with pytest.raises(KeyboardInterrupt):
            compare(raw, folder)
    monkeypatch.setattr(module, "train_run", counted(real, 0))
    monkeypatch.setattr(comparing, "train_run", counted(real, 0))
    report = compare(raw, folder)
    stopped = {trained[2], trained[6]}
    assert {place for place in trained if trained.count(place) > 1} == stopped
    assert sorted(set(trained)) == [
        "arms/student/gold/1",
        "arms/student/soft/1",
        *(f"search/student/{arm}/{number}" for arm in ("gold", "soft") for number in range(2)),
    ]
    for search in report["search"]:
        chosen = folder / search["trainings"][search["chosen"]]["run"] / "student"
        first = folder / "arms" / "student" / search["arm"] / "0" / "student"
        weights = "model.safetensors"
        assert (chosen / weights).read_bytes() == (first / weights).read_bytes()


def test_a_value_at_the_end_of_any_list_leaves_every_training_in_its_place(raw):
    decay = "stages.0.optimizer.weight_decay"

    def places(rates, decays):
        recipes, _ = arm_recipes(parse_study({**raw, "search": {RATE: rates, decay: decays}}))
        return {(recipe.arm, recipe.point): recipe.values for recipe in recipes}

    before = places([1e-4, 1e-3], [0.0, 0.1])
    after = places([1e-4, 1e-3, 1e-2], [0.0, 0.1, 0.2])
    assert len(before) == 8 and len(after) == 18 and before.items() <= after.items()


def test_a_value_without_a_finite_loss_is_the_worst(raw, tmp_path, monkeypatch):
    real = module.train_run

    def diverging(least):
        def train(setup, place, console, accelerator, **options):
            if setup.stages[0].optimizer.learning_rate >= least:
                raise DivergedError("the loss is not finite")
            real(setup, place, console, accelerator, **options)

        return train

    monkeypatch.setattr(module, "train_run", diverging(1e-3))
    report = compare({**raw, "seeds": 1}, tmp_path / "some")
    assert [search["chosen"] for search in report["search"]] == [0, 0]
    assert "not finite" in as_markdown(StudyResult.from_json(report))
    monkeypatch.setattr(module, "train_run", diverging(0.0))
    with pytest.raises(TrainingError, match="not finite with any of the searched values"):
        compare(raw, tmp_path / "none")


@pytest.mark.parametrize(
    ("values", "chosen", "edge"),
    [
        ([1.0, 2.0, 3.0], 2, "highest"),
        ([3.0, 1.0, 2.0], 1, "lowest"),
        ([1.0, 3.0, 2.0], 2, None),
        ([1.0], 0, None),
        (["linear", "cosine"], 1, None),
        ([True, False], 0, None),
    ],
)
def test_a_warning_where_the_chosen_value_is_at_the_end(values, chosen, edge):
    trainings = [SearchTraining({"rate": value}, 0.5, 1.0, "") for value in values]
    limits = ArmSearch("soft", "small", "accuracy", 10, trainings, chosen).limits()
    assert [edge in limit for limit in limits] == ([True] if edge else [])


def test_equal_scores_are_decided_by_the_loss():
    trainings = [SearchTraining({}, score, loss, "") for score, loss in ((0.5, 1.0), (0.5, 0.9))]
    assert max(trainings, key=lambda training: training.rank) is trainings[1]
    assert SearchTraining({}, None, None, "").rank < SearchTraining({}, 0.0, 9.0, "").rank


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({RATE: []}, f"search.{RATE}: has 0 entries; give 1 or more"),
        ({RATE: 1e-3}, "should be a valid list"),
        ({RATE: [1e-3, 0.001]}, "names 0.001 twice"),
        ({"evaluation.seeds": [1, 2]}, "all arms must be measured in the same way"),
        ({"data.max_length": [8, 16]}, "must read and hold out the same rows"),
        ({"seed": [1, 2]}, "trains with the study's first seed"),
        ({RATE: [1e-3, -1.0]}, f"arms.soft (student) with {RATE} -1.0: stages.0"),
        ({"stages.0.optimiser.learning_rate": [1e-3]}, "did you mean 'optimizer'"),
        ({"stages.3.max_steps": [3, 4]}, "no place 'stages.3.max_steps'"),
        ({"stages.0.objectives": [{"class_labels": {}}]}, "sets 'stages.0.objectives', but the"),
        (
            {"stages.0.objectives.class_logits.temperature": [1, 2]},
            "arms.gold: has no objective 'class_logits'",
        ),
        ({"stages.0": [{}], RATE: [1e-3]}, "decide the same field"),
        ({"stages.0.max_steps": [3, 6]}, "tokens and the control"),
    ],
)
def test_bad_searches_are_refused(raw, search, message):
    assert message in problems_of({**raw, "search": search})


def test_an_arm_that_sets_a_searched_field(raw):
    raw["arms"]["soft"][RATE] = 1e-3
    assert f"arms.soft: sets '{RATE}', but the study searches {RATE}" in problems_of(raw)
    del raw["arms"]["soft"][RATE]
    raw["set"] = {"stages.0.optimizer": {"learning_rate": 1e-3}}
    assert "set: sets 'stages.0.optimizer', but the study searches" in problems_of(raw)
    raw["set"] = {"stages.0.optimizer": {"warmup_ratio": 0.1}}
    assert len(prepare_study(raw)[1]) == 6
    check_study_form(raw)


def test_a_problem_of_every_value_is_said_once(raw):
    raw["recipe"]["student"]["hidden_size"] = 15
    text = problems_of(raw)
    assert text.count("every arm: student.num_attention_heads") == 1 and " with stages" not in text


def test_fields_that_change_the_loss_that_decides(text_raw):
    del text_raw["arms"]["none"]
    text_raw["arms"] |= {"HS": {"stages.0.preset": "hidden-last"}}
    text_raw["control"] = "HS"
    masked = {"stages.0.masking.mlm_probability": [0.1, 0.3]}
    assert "changes what the held-out loss measures" in problems_of({**text_raw, "search": masked})
    sizes = {"stages.0.batch_size": [2, 4], "stages.0.max_steps": [3]}
    assert "tokens and the control" in problems_of({**text_raw, "search": sizes})


def test_held_out_rows_without_labels_leave_it_to_the_loss(raw, tmp_path):
    rows = [json.dumps({"text": text}) for text in make_text(40, seed=11)]
    (tmp_path / "more.train.jsonl").write_text("\n".join(rows), encoding="utf-8")
    raw["recipe"]["data"]["rows"] = [str(tmp_path / "more")]
    _, (run, *_) = prepare_study(raw)
    labelled = held_out_task(run.setup)
    assert labelled.test and all(row.label for row in labelled.test)
    assert len(labelled.test) < len(run.setup.rows.held_out)


def test_several_fields_make_a_grid_of_their_product(raw):
    search = {RATE: [1e-3, 1e-2], "stages.0.optimizer.warmup_ratio": [0.0, 0.1]}
    _, runs = prepare_study({**raw, "search": search})
    mine = [run for run in runs if run.arm == "soft"]
    assert [tuple(run.values.values()) for run in mine] == [
        (1e-3, 0.0),
        (1e-3, 0.1),
        (1e-2, 0.0),
        (1e-2, 0.1),
    ]
    settings = [run.setup.stages[0].optimizer for run in mine]
    assert [(s.learning_rate, s.warmup_ratio) for s in settings] == [
        tuple(run.values.values()) for run in mine
    ]


def test_a_loss_that_is_not_finite_gives_no_score(raw, tmp_path):
    _, (run, *_) = prepare_study(raw)
    record = {"stage_number": 0, "step": 3, "held_out": {"class_labels": math.nan}}
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    found = held_out_score(run.setup, tmp_path)
    assert found.score is None and found.loss is None
