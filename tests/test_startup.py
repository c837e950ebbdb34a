"""Help, lists and the refusal of a misspelt file import nothing heavy, so they come at once."""

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


def heavy_modules(program: str) -> list[str]:
    """The modules of `HEAVY` that a separate program has imported when it ends."""
    told = (
        f"{program}\nimport sys; print('|', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return done.stdout.rpartition("|")[2].split()


def command(*words: str) -> str:
    return (
        f"import sys; sys.argv = {['limbeck', *words]!r};"
        " from limbeck.cli.main import run_command; run_command()"
    )


def test_importing_limbeck():
    assert heavy_modules("import limbeck") == []


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_the_help_of_a_command(name):
    assert heavy_modules(command(name, "--help")) == []


@pytest.mark.parametrize("what", [[], *([name] for name in LISTS)], ids=str)
def test_a_list(what):
    assert heavy_modules(command("list", *what)) == []


@pytest.mark.parametrize("name", ["plan", "distill", "cache"])
def test_a_misspelt_recipe(tmp_path, name):
    (tmp_path / "recipe.yaml").write_text(
        "teecher: minilm-demo\nstudent: {}\ndata: {}\nstages: []\n"
    )
    words = (name, str(tmp_path / "recipe.yaml"), *(["-o", "x"] if name != "plan" else []))
    assert heavy_modules(command(*words)) == []


def test_an_impossible_objective(tmp_path):
    """The class of an objective imports torch; its options do not."""
    (tmp_path / "recipe.yaml").write_text(
        "teacher: minilm-demo\nstudent: {}\ndata: {}\n"
        "stages: [{steps: 2, objectives: {logits: {divergence: skewd_kl, temperature: 0}}}]\n"
    )
    assert heavy_modules(command("plan", str(tmp_path / "recipe.yaml"))) == []


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
    assert heavy_modules(command("compare", str(study), "-o", "x")) == []
    monkeypatch.setattr("sys.argv", ["limbeck", "compare", str(study), "-o", "x"])
    assert run_command() == 1
    assert named in " ".join(capfd.readouterr().err.split())
