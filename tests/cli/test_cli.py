import errno
import json
import os
import sys

import pytest
import yaml

from limbeck.cli.main import main
from limbeck.evaluation.cost import Cost, Latency


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["limbeck", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def recipe_file(raw_recipe, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw_recipe), encoding="utf-8")
    return file


def test_plan_shows_layers_sizes_and_a_probe(monkeypatch, capsys, recipe_file):
    code, out, _ = run(monkeypatch, capsys, "plan", recipe_file)
    assert code == 0
    assert "learns from" in out and "teacher layer" in out
    assert "4 x 16" in out and "384" in out and " s " in out and "GB" in out


def test_plan_shows_every_problem_and_fails(monkeypatch, capsys, recipe_file):
    code, _, err = run(
        monkeypatch, capsys, "plan", recipe_file, "--set", "data.text=x.txt", "--set", "seed=-1"
    )
    assert code == 1
    assert "2 problems" in err and "data.text.0" in err and "seed" in err
    assert "Traceback" not in err


def test_distill_then_evaluate(monkeypatch, capsys, recipe_file, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "distill", recipe_file, "-o", tmp_path / "run")
    assert code == 0 and "The student has" in out
    rows = [json.dumps({"text": "old house", "label": label}) for label in ("x", "y") * 8]
    for split in ("train", "dev"):
        (tmp_path / f"toy.{split}.jsonl").write_text("\n".join(rows))
    student, task = tmp_path / "run" / "student", tmp_path / "toy"
    options = ["--task", task, "--seeds", 2, "--num-train-epochs", 1, "--max-length", 16]
    code, out, _ = run(monkeypatch, capsys, "evaluate", student, *options, "--json")
    assert code == 0
    found = json.loads(out.strip().splitlines()[-1])
    assert found["toy"]["mean"] == 0.5 and len(found["toy"]["seeds"]) == 2
    assert not {"labels", "tags"} & found["toy"]["seeds"][0].keys()
    one = ["--seeds", 1, "-o", tmp_path / "kept"]
    code, out, _ = run(monkeypatch, capsys, "evaluate", student, *options, *one)
    kept = json.loads((tmp_path / "kept" / "evaluation.json").read_text(encoding="utf-8"))
    assert code == 0 and "{" not in out and kept["toy"]["spread"] is None


@pytest.mark.parametrize(("token", "shown"), [(None, False), (2.5, True)])
def test_evaluate_shows_what_a_model_costs(monkeypatch, capsys, teacher_folder, token, shown):
    latencies = (Latency(1, 16, 0.002, 0.003), Latency(32, 64, 0.5, 0.75))
    cost = Cost(1234, 567, 4.9, 1000, 10_000_000, 2, "float32", 64, 2.0, latencies, token)
    monkeypatch.setattr("limbeck.evaluation.cost.measure_cost", lambda model, threads: cost)
    code, out, _ = run(monkeypatch, capsys, "evaluate", teacher_folder, "--cost", "--json")
    assert code == 0 and json.loads(out.strip().splitlines()[-1])["cost"]["parameters"] == 1234
    lines = [line.split() for line in out.splitlines()]
    assert ["1", "16", "2.00", "3.00", "500"] in lines
    assert ["32", "64", "500.00", "750.00", "64"] in lines
    assert ["peak", "memory,", "MB", "10"] in lines and ["vocabulary", "1,000"] in lines
    assert (["ms", "a", "generated", "token", "2.5"] in lines) == shown
    assert "task" not in out  # no empty table of tasks


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (
            ["--max-train-samples", 0],
            "max_train_samples: Input should be greater than or equal to 1",
        ),
        (["--num-train-epochs", "inf"], "finetuning.num_train_epochs"),
        (["--max-new-tokens", 0], "generation.max_new_tokens"),
        (["--max-eval-samples", -1], "generation.max_eval_samples"),
        (["--pooling", "most"], "finetuning.pooling"),
        ([], "nothing is named that the model is scored on"),
    ],
)
def test_evaluate_refuses_what_makes_no_sense(monkeypatch, capsys, teacher_folder, options, named):
    code, _, err = run(monkeypatch, capsys, "evaluate", teacher_folder, *options)
    assert code == 1 and named in " ".join(err.split()) and "Traceback" not in err


def test_a_full_disk_and_a_folder_that_may_not_be_written(
    monkeypatch, capsys, recipe_file, tmp_path
):
    for number in (errno.ENOSPC, errno.EROFS):

        def fails(*_, number=number, **__):
            raise OSError(number, os.strerror(number), "table.arrow")

        monkeypatch.setattr("limbeck.run.distill.distill", fails)
        code, _, err = run(monkeypatch, capsys, "distill", recipe_file, "-o", tmp_path / "run")
        assert code == 1 and "Traceback" not in err
        assert "table.arrow: " + os.strerror(number) in " ".join(err.split())


def test_evaluate_says_where_a_decoder_agrees_with_its_teacher(
    monkeypatch, capsys, decoder, prompts, teacher_folder
):
    words = ["evaluate", decoder, "--task", prompts, "--seeds", 1, "--max-new-tokens", 12]
    code, out, _ = run(
        monkeypatch, capsys, *words, "--max-eval-samples", 4, "--teacher", decoder, "--json"
    )
    parts = json.loads(out.strip().splitlines()[-1])["by_position"]["toy"]
    assert code == 0 and "last minus" in " ".join(out.split())
    assert parts["agreement_on_references"] == parts["agreement_on_own_text"] == [1.0] * 3
    code, _, err = run(monkeypatch, capsys, *words, "--teacher", teacher_folder)
    assert code == 1 and "only decoders generate texts" in " ".join(err.split())
    code, _, err = run(monkeypatch, capsys, "evaluate", decoder, "--teacher", decoder)
    assert code == 1 and "--teacher needs a task of prompts" in " ".join(err.split())


def test_plan_counts_the_prompts_that_are_too_long(
    monkeypatch, capsys, raw_recipe, decoder, prompts, tmp_path
):
    raw = {**raw_recipe, "teacher": decoder}
    raw["data"] = {"prompts": prompts, "max_length": 24, "max_new_tokens": 16}
    raw["stages"] = [{"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 2}]
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    code, out, _ = run(monkeypatch, capsys, "plan", file, "--no-timed")
    assert code == 0 and "were too long and lost their beginning" in " ".join(out.split())


def test_a_file_where_a_folder_should_be(monkeypatch, capsys, recipe_file):
    code, _, err = run(monkeypatch, capsys, "distill", recipe_file, "-o", recipe_file)
    assert code == 1 and "is a file; give a folder" in " ".join(err.split())


def test_list(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "list", "objectives")
    assert code == 0 and "relations" in out and "teacher_layer" in out
    code, out, _ = run(monkeypatch, capsys, "list", "tasks")
    assert "sst2" in out and "rucola" in out
    for what, named in (
        ("presets", "uniform+top"),
        ("divergences", "alpha 0.2,"),
        ("layer-maps", "0: 1+3"),
        ("policies", "fraction 0.5"),
    ):
        code, out, _ = run(monkeypatch, capsys, "list", what)
        assert code == 0 and named in " ".join(out.split())
    code, _, err = run(monkeypatch, capsys, "list", "everything")
    assert code == 1 and "use objectives or presets" in err
    code, _, err = run(monkeypatch, capsys, "list", "methodes")
    assert code == 1 and "list is 'methodes'; did you mean 'methods'?" in " ".join(err.split())


def test_help_names_every_command(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "--help")
    for name in ("demo", "plan", "distill", "compare", "evaluate", "list"):
        assert name in out


def test_help_says_of_every_command_a_whole_sentence(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(monkeypatch, capsys, "--help")
    commands = out[out.index("Commands:") :].splitlines()[1:]
    assert len(commands) > 15
    assert [line for line in commands if line and not line.endswith(".")] == []
    assert "..." not in "".join(commands)
