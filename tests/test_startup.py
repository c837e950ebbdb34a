"""Help, lists and the refusal of a misspelt file import nothing heavy, so they come at once."""

import json
import subprocess
import sys

import pytest

from limbeck.cli.lists import LISTS
from limbeck.cli.main import run_command

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "sklearn",
    "scipy",
    "matplotlib",
    "peft",
)


# Every command runs in a fork of one program, as it has imported what all of them import.
PROGRAM = f"""
import json, os, sys
from limbeck.cli.main import run_command
for words in json.loads(sys.argv[1]):
    if (fork := os.fork()) == 0:
        sys.argv = ["limbeck", *words]
        run_command()
        print("|", *[name for name in {HEAVY!r} if name in sys.modules], flush=True)
        os._exit(0)
    assert os.waitpid(fork, 0)[1] == 0, words
"""


def heavy_modules(*commands: list[str]) -> list[list[str]]:
    """The modules of `HEAVY` that each command has imported when it ends."""
    told = [sys.executable, "-c", PROGRAM, json.dumps(commands)]
    done = subprocess.run(told, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    return [line.split()[1:] for line in lines]


COMMANDS = (
    "init",
    "plan",
    "pilot",
    "distill",
    "compare",
    "evaluate",
    "export",
    "push",
    "generate",
    "vocabulary",
    "doctor",
)


def test_importing_limbeck():
    told = f"import limbeck, sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_help_of_every_command():
    found = heavy_modules(*([name, "--help"] for name in COMMANDS))
    assert {name: some for name, some in zip(COMMANDS, found, strict=True) if some} == {}


def test_every_list():
    found = heavy_modules(["list"], *(["list", name] for name in LISTS))
    assert found == [[]] * (1 + len(LISTS))


def test_a_misspelt_recipe(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("teecher: minilm-demo\nstudent: {}\ndata: {}\nstages: []\n")
    distilled = (["distill", str(recipe), "-o", "x"], ["cache", str(recipe), "-o", "x"])
    assert heavy_modules(["plan", str(recipe)], *distilled) == [[], [], []]


def test_an_impossible_objective(tmp_path):
    """The class of an objective imports torch; its options do not."""
    (tmp_path / "recipe.yaml").write_text(
        "teacher: minilm-demo\nstudent: {}\ndata: {}\n"
        "stages: [{steps: 2, objectives: {logits: {divergence: skewd_kl, temperature: 0}}}]\n"
    )
    assert heavy_modules(["plan", str(tmp_path / "recipe.yaml")]) == [[]]


@pytest.mark.parametrize(
    ("arm", "named"),
    [
        ("{stages.0.preset: minilmv3}", "arms.other: stages.0.preset"),
        ("{stages.0.objectives: {labels: {wieght: 2}}}", "did you mean 'weight'"),
        ("{evaluation.seeds: 1}", "sets 'evaluation.seeds'"),
    ],
)
def test_a_misspelt_study(tmp_path, capfd, monkeypatch, arm, named):
    recipe = (
        "{teacher: minilm-demo, student: {}, data: {text: novels.txt}, stages: [{max_steps: 2}]}"
    )
    arms = f"{{none: {{stages.0.preset: no-distillation}}, other: {arm}}}"
    study = tmp_path / "study.yaml"
    study.write_text(f"recipe: {recipe}\narms: {arms}\ncontrol: none\n")
    assert heavy_modules(["compare", str(study), "-o", "x"]) == [[]]
    monkeypatch.setattr("sys.argv", ["limbeck", "compare", str(study), "-o", "x"])
    assert run_command() == 1
    assert named in " ".join(capfd.readouterr().err.split())
