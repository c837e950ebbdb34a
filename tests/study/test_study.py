"""Studies: their trainings, their problems, and one that is carried out, killed and resumed."""

import io
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_model
from rich.console import Console

from limbeck.errors import DivergedError, RecipeError, TrainingError
from limbeck.recipe.check import prepare
from limbeck.reports.comparison import as_markdown, tables
from limbeck.reports.study_results import StudyResult
from limbeck.run.distill import distill
from limbeck.run.probe import Probe
from limbeck.study import compare as module
from limbeck.study.arms import prepare_study, tokens_of
from limbeck.study.compare import compare
from limbeck.study.schema import read_study
from limbeck.system.locks import claim


@pytest.fixture
def task(tmp_path) -> str:
    chance = ["old house", "red garden", "a letter", "the river"]
    rows = [json.dumps({"text": chance[n % 4], "label": "xy"[n % 2]}) for n in range(24)]
    for split in ("train", "dev"):
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return str(tmp_path / "toy")


@pytest.fixture
def raw(raw_recipe, task) -> dict:
    stage = {"max_steps": 4, "batch_size": 4}
    settings = {"num_train_epochs": 1, "max_length": 16}
    evaluation = {"tasks": [task], "seeds": 2, "finetuning": settings, "cost": False}
    return {
        "name": "toy",
        "recipe": {**raw_recipe, "stages": [stage], "evaluation": evaluation},
        "students": {"two": {}, "one": {"student.num_hidden_layers": 1}},
        "arms": {
            "none": {"stages.0.preset": "no-distillation"},
            "MHA": {"stages.0.preset": "minilmv2"},
            "HS": {"stages.0.preset": "hidden-last"},
        },
        "control": "none",
        "kept_gigabytes": 0.1,
        "draws": 100,
    }


def test_every_arm_runs_on_every_student_in_an_order_that_shares_signals(raw):
    _, runs = prepare_study({**raw, "seeds": 2, "leave_out": ["one/HS"]})
    places = [run.place for run in runs]
    assert places == [
        f"arms/{student}/{arm}/{seed}"
        for arm, students in (("none", ("two", "one")), ("MHA", ("two", "one")), ("HS", ("two",)))
        for student in students
        for seed in (0, 1)
    ]
    assert {tokens_of(run.setup) for run in runs} == {4 * 4 * 16}
    assert [run.setup.recipe.seed for run in runs][:2] == [0, 1]
    alone = prepare(runs[1].raw)
    assert (alone.recipe, alone.stages) == (runs[1].setup.recipe, runs[1].setup.stages)


def test_tokens_may_differ_by_the_rounding_of_stages_to_steps(raw):
    labels = {"objectives": {"labels": {}}, "batch_size": 4}
    raw["recipe"]["stages"] = [{**labels, "tokens": 100_000}]
    raw["arms"] = {
        "none": {},
        "twice": {"stages": [{**labels, "tokens": 33_300}, {**labels, "tokens": 66_700}]},
    }
    _, runs = prepare_study(raw)
    assert len({tokens_of(run.setup) for run in runs}) == 2


def problems_of(raw) -> str:
    with pytest.raises(RecipeError) as caught:
        prepare_study(raw)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control": "plain"}, "control: is 'plain', which is no arm; use one of none, MHA, HS"),
        ({"leave_out": ["one/HSS"]}, "names 'one/HSS', which is no STUDENT/ARM"),
        ({"leave_out": ["one/none"]}, "the control is measured for every student"),
        ({"arms": {"none": {}}}, "arms"),
        ({"draws": 3}, "draws"),
        ({"sedes": 3}, "did you mean 'seeds'"),
    ],
)
def test_problems_of_the_study_itself(raw, change, message):
    assert message in problems_of({**raw, **change})


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"stages.0.preset": "minilmv2"}, "one/X differs in nothing from one/MHA"),
        # Another name for the same value.
        ({"stages.0.objectives": {"relations": {"teacher_layer": "last"}}}, "differs in nothing"),
        (
            {"stages.0.preset": "minilmv2", "stages.0.max_steps": 5},
            "reads 320 tokens and the control",
        ),
        ({"stages.0.preset": "minilm3"}, "arms.X: stages.0.preset"),
        ({"stages.3.preset": "minilmv2"}, "no place 'stages.3.preset'"),
        (
            {"evaluation.seeds": 1},
            "sets 'evaluation.seeds', but all arms must be measured in the same way",
        ),
    ],
)
def test_problems_of_arms_are_named(raw, arm, message):
    raw["arms"]["X"] = arm
    assert message in problems_of(raw)


def test_a_problem_that_many_trainings_share_is_said_once(raw):
    raw["recipe"]["teacher"] = "./missing"
    text = problems_of(raw)
    assert "the study has 1 problem:\n  every arm: teacher.model: the model folder" in text


def test_problems_of_students_are_named(raw):
    raw["students"]["two"] = {**raw["students"]["two"], "student.num_attention_heads": 5}
    text = problems_of(raw)
    assert "students.two: student.num_attention_heads" in text and "arms." not in text


def test_names_that_would_leave_the_folder(raw):
    raw["arms"]["../x"] = {"stages.0.preset": "logits"}
    assert "may hold only letters" in problems_of(raw)
    del raw["arms"]["../x"]
    raw["students"][".."] = {"student.hidden_size": 32}
    assert "may hold only letters" in problems_of(raw)


def test_names_that_cannot_be_those_of_files(raw):
    arm, preset = "д" * 51, {"stages.0.preset": "logits"}
    assert f"arms.{arm}: has 102 bytes" in problems_of(
        {**raw, "arms": {**raw["arms"], arm: preset}}
    )
    alike = {**raw, "arms": {**raw["arms"], "Дом": preset, "дом": preset}}
    assert "arms.дом: is 'Дом' but for capitals" in problems_of(alike)
    # YAML reads `no` and `0.5` as what they are.
    text = problems_of({**raw, "arms": {**raw["arms"], False: preset}, "students": {0.5: {}}})
    assert ": the name is read as False, no text; write it in quotes" in text
    assert "students.0.5: the name is read as 0.5" in text


def test_files(raw, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw["recipe"]), encoding="utf-8")
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({**raw, "recipe": "recipe.yaml"}), encoding="utf-8")
    found = read_study(file, ["data.max_length=8"])
    _, runs = prepare_study(found)
    assert {run.setup.recipe.data.max_length for run in runs} == {8}
    with pytest.raises(RecipeError, match="has no `=`"):
        read_study(file, ["data.max_length"])
    file.write_text(yaml.safe_dump({**raw, "recipe": "recipe.yaml", "set": ["a"]}))
    with pytest.raises(RecipeError, match="set: Input should be a valid dictionary"):
        prepare_study(read_study(file, ["data.max_length=8"]))


def test_a_study_is_carried_out_and_resumes_where_it_stopped(raw, tmp_path, monkeypatch):
    folder, started = tmp_path / "study", []
    real = module.train_run

    def counted(setup, place, console, accelerator, **options):
        started.append(place.relative_to(folder).as_posix())
        if len(started) == 3:
            raise KeyboardInterrupt
        real(setup, place, console, accelerator, **options)

    monkeypatch.setattr(module, "train_run", counted)
    with pytest.raises(KeyboardInterrupt):
        compare(raw, folder)
    half = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert [(row["arm"], row["student"]) for row in half["rows"]] == [
        ("none", "two"),
        ("none", "one"),
    ]
    before = {p: p.stat().st_mtime_ns for p in folder.glob("arms/*/none/0/student/*.safetensors")}
    monkeypatch.setattr(module, "train_run", real)
    report = compare(raw, folder)
    assert len(before) == 2 and all(p.stat().st_mtime_ns == when for p, when in before.items())

    assert {(row["arm"], row["student"]) for row in report["rows"]} == {
        (arm, student) for arm in raw["arms"] for student in raw["students"]
    }
    for row in report["rows"]:
        values = row["quality"]["toy"]["values"]
        assert row["mean"] == pytest.approx(sum(values) / 2) and len(values) == 2
        assert row["training"]["tokens"] == 256 and row["held_out"]
        if row["arm"] == "none":
            assert row["against_control"] is None
        else:
            control = next(
                r for r in report["rows"] if r["arm"] == "none" and r["student"] == row["student"]
            )
            gap = row["against_control"]
            assert gap["mean"] == pytest.approx(row["mean"] - control["mean"])
            assert gap["low"] <= gap["mean"] <= gap["high"] and gap["seeds"] == 2
    assert report["teacher"]["quality"]["toy"]["mean"] > 0
    text = as_markdown(StudyResult.from_json(report))
    for named in (
        "two: scores",
        "one: scores",
        "none (control)",
        "arms/one/HS/0",
        "Size and speed",
        "other test rows and other fine-tunings",
        "every arm was trained once",
    ):
        assert named in text
    assert "<svg" in (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert not (folder / "signals").exists()  # nobody needs them again


@pytest.mark.parametrize(
    ("trainings", "named", "heading"),
    [
        (1, "for other test rows alone", "95 % interval, rows alone"),
        (2, "for other test rows and other trainings", "95 % interval"),
    ],
)
def test_the_interval_names_the_chance_that_it_covers(raw, tmp_path, trainings, named, heading):
    raw = {**raw, "seeds": trainings, "students": {"one": {"student.num_hidden_layers": 1}}}
    raw["arms"] = {name: raw["arms"][name] for name in ("none", "MHA")}
    raw["recipe"]["evaluation"]["seeds"] = 1
    report = compare(raw, tmp_path / "study")
    (gap,) = (row["against_control"] for row in report["rows"] if row["arm"] == "MHA")
    assert gap["seeds"] == trainings
    result = StudyResult.from_json(report)
    assert named in as_markdown(result)
    assert heading in tables(result)[0][1][0]


def test_another_process_takes_what_is_left_and_does_not_report(raw, tmp_path):
    folder, held = tmp_path / "study", "arms/one/MHA/0"
    with claim(folder / "claims", "study"), claim(folder / "claims", held):
        assert compare(raw, folder) == {}
    students = {p.parent.relative_to(folder).as_posix() for p in folder.glob("arms/*/*/0/student")}
    assert len(students) == 5 and held not in students
    assert len(list(folder.glob("arms/*/*/0/evaluation/*.json"))) == 5
    assert not (folder / "report").exists() and (folder / "signals").exists()  # of all that follow
    before = {p: p.stat().st_mtime_ns for p in folder.glob("arms/*/*/0/student/*.safetensors")}
    assert len(compare(raw, folder)["rows"]) == 6 and not (folder / "signals").exists()
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())


def test_the_first_process_waits_for_what_others_have_taken(raw, tmp_path):
    folder, held = tmp_path / "study", "arms/two/none/0"
    file = folder / "report" / "report.json"
    rows = []

    def other():
        with claim(folder / "claims", held) as mine:
            began.set()
            assert mine
            while len(rows) < 5:
                time.sleep(0.05)
                rows[:] = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []

    began = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(other)
        began.wait()
        report = compare(raw, folder)
        done.result(timeout=60)
    assert {(row["student"], row["arm"]) for row in rows} == {
        (row["student"], row["arm"]) for row in report["rows"]
    } - {("two", "none")}
    assert len(report["rows"]) == 6


def test_an_arm_that_fails_in_the_end_leaves_the_others_in_the_report(raw, tmp_path, monkeypatch):
    folder, held = tmp_path / "study", ["arms/two/none/0", "arms/one/none/0"]
    real = module.train_run

    def failing(setup, place, console, accelerator, **options):
        if place == folder / held[0]:
            raise TrainingError("cannot be trained")
        real(setup, place, console, accelerator, **options)

    def taken(claims, name, *, wait=False):
        return nullcontext(False) if name in held and not wait else claim(claims, name, wait=wait)

    monkeypatch.setattr(module, "train_run", failing)
    monkeypatch.setattr(module, "claim", taken)
    with pytest.raises(TrainingError, match="cannot be trained"):
        compare(raw, folder)
    report = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    assert [row["runs"] for row in report["rows"] if row["arm"] == "none"] == [[held[1]]]
    assert len(report["rows"]) == 5


def test_an_arm_that_diverges_stops_no_other(raw, tmp_path, monkeypatch):
    real, arms = module.train_run, {name: raw["arms"][name] for name in ("MHA", "none")}
    study = {**raw, "students": {"one": {"student.num_hidden_layers": 1}}, "arms": arms}

    def diverging(setup, place, *arguments, **options):
        if "MHA" in place.parts:
            raise DivergedError("the loss is not finite")
        return real(setup, place, *arguments, **options)

    monkeypatch.setattr(module, "train_run", diverging)
    said = Console(record=True, width=200, file=io.StringIO())
    with pytest.raises(DivergedError, match="MHA, one, seed 0: the loss is not finite"):
        compare(study, tmp_path / "study", console=said)
    assert "error: MHA, one, seed 0: the loss is not finite" in said.export_text()
    report = json.loads((tmp_path / "study" / "report" / "report.json").read_text("utf-8"))
    assert [row["arm"] for row in report["rows"]] == ["none"]
    monkeypatch.setattr(module, "train_run", real)
    assert len(compare(study, tmp_path / "study")["rows"]) == 2


def test_a_process_that_dies_leaves_its_arm_to_others(tmp_path):
    code = "import sys, time; from pathlib import Path; from limbeck.system.locks import claim\n"
    code += "with claim(Path(sys.argv[1]), 'a/b') as mine: print(mine, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"True\n"
        with claim(tmp_path, "a/b") as mine:
            assert not mine
        other.kill()
    with claim(tmp_path, "a/b", wait=True) as mine:
        assert mine


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_arm_alone_gives_the_same_student(raw, tokenizer, tmp_path, precision):
    """Sharing the teacher's signals changes nothing; the recipe in the arm's folder is complete."""
    raw["recipe"]["training"]["precision"] = precision
    raw = {
        **raw,
        "students": {"two": {}},
        "arms": {n: raw["arms"][n] for n in ("none", "MHA", "HS")},
    }
    rate = {"stages.0.optimizer.learning_rate": 1e-3}
    raw["arms"]["MHA-twice"] = {**raw["arms"]["MHA"], **rate}
    raw["arms"]["HS-twice"] = {**raw["arms"]["HS"], **rate}
    torch.manual_seed(1)
    other = make_model(vocabulary=len(tokenizer), layers=2)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    raw["arms"]["HS-other"] = {**raw["arms"]["HS"], "teacher": str(tmp_path / "other")}
    raw["recipe"]["evaluation"]["tasks"] = []
    report = compare(raw, tmp_path / "study")
    for arm in ("MHA-twice", "HS-twice", "HS-other"):
        (place,) = next(row["runs"] for row in report["rows"] if row["arm"] == arm)
        file = tmp_path / "study" / place / "recipe.yaml"
        alone = distill(yaml.safe_load(file.read_text(encoding="utf-8")), tmp_path / arm).folder
        weights = Path("student") / "model.safetensors"
        assert (alone / weights).read_bytes() == (tmp_path / "study" / place / weights).read_bytes()


def test_arms_of_other_sizes_show_what_they_cost(raw, tmp_path):
    raw["students"] = {"two": {}}
    none = raw["arms"]["none"]
    raw["arms"] = {
        "none": none,
        "again": {**none, "seed": 7},
        "short": {**none, "student.num_hidden_layers": 1},
    }
    raw["recipe"]["evaluation"]["tasks"] = []
    report = compare(raw, tmp_path / "study")
    sizes = {row["arm"]: row["cost"]["parameters"] for row in report["rows"]}
    assert sizes["none"] == sizes["again"] > sizes["short"]
    (table,) = (
        table
        for heading, table in tables(StudyResult.from_json(report))
        if heading == "Size and speed"
    )
    assert [row[0] for row in table[1:]] == ["teacher", "two", "two, short"]


def test_equal_time_gives_the_fast_arm_more_steps(raw, tmp_path, monkeypatch):
    seconds = {"none": 0.01, "MHA": 0.02, "HS": 0.04}

    def probe(setup, number):
        arm = setup.recipe.name.removeprefix("toy: ").split(",")[0]
        return Probe(seconds[arm], None, {})

    monkeypatch.setattr("limbeck.study.equal_time.probe", probe)
    raw = {**raw, "students": {"one": {"student.num_hidden_layers": 1}}, "equal": {"seconds": 0.08}}
    raw["recipe"]["evaluation"]["tasks"] = []
    report = compare(raw, tmp_path / "study")
    tokens = {row["arm"]: row["training"]["tokens"] for row in report["rows"]}
    assert tokens == {"none": 8 * 64, "MHA": 4 * 64, "HS": 2 * 64}
    probed = json.loads((tmp_path / "study" / "probes.json").read_text())
    assert probed["arms/one/HS/0"]["steps"] == [2]
    alone = pytest.raises(TrainingError, match="another process is at .* equal tokens")
    with claim(tmp_path / "study" / "claims", "study"), alone:
        compare(raw, tmp_path / "study")
    raw["equal"] = {"seconds": 0.16}  # the trained arms belong to another study now
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        compare(raw, tmp_path / "study")
    # Which leaves the probes with which they resume.
    assert json.loads((tmp_path / "study" / "probes.json").read_text()) == probed


def test_a_study_of_maskings(raw):
    none = raw["arms"]["none"]
    raw["arms"] = {
        f"m{n}": {**none, "stages.0.masking": {"mlm_probability": n / 100}} for n in (15, 40)
    }
    _, runs = prepare_study({**raw, "control": "m15"})
    assert {run.setup.maskings[0].mlm_probability for run in runs} == {0.15, 0.4}
