"""Help, lists and refusals come at once: they import nothing heavy."""

import subprocess
import sys

import pytest

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
    """Those of `HEAVY` that a program of its own has imported at its end."""
    told = (
        f"{program}\nimport sys; print('|', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return done.stdout.rpartition("|")[2].split()


def command(*words: str) -> str:
    return (
        f"import sys; sys.argv = {['limbeck', *words]!r}; from limbeck.cli.app import _run; _run()"
    )


def test_importing_limbeck():
    assert heavy_modules("import limbeck") == []


@pytest.mark.parametrize("name", ["plan", "distill", "evaluate", "sample", "vocabulary"])
def test_the_help_of_a_command(name):
    assert heavy_modules(command(name, "--help")) == []


@pytest.mark.parametrize(
    "what",
    ["objectives", "presets", "methods", "policies", "divergences", "layer-maps", "tasks"],
)
def test_a_list(what):
    assert heavy_modules(command("list", what)) == []


@pytest.mark.parametrize("name", ["plan", "distill", "cache"])
def test_a_misspelt_recipe(tmp_path, name):
    (tmp_path / "recipe.yaml").write_text(
        "teecher: minilm-demo\nstudent: {}\ndata: {}\nstages: []\n"
    )
    words = (name, str(tmp_path / "recipe.yaml"), *(["-o", "x"] if name != "plan" else []))
    assert heavy_modules(command(*words)) == []


def test_an_objective_that_cannot_be(tmp_path):
    """Its class loads torch, and what it may be told does not."""
    (tmp_path / "recipe.yaml").write_text(
        "teacher: minilm-demo\nstudent: {}\ndata: {}\n"
        "stages: [{steps: 2, objectives: {output: {divergence: skewd_kl, temperature: 0}}}]\n"
    )
    assert heavy_modules(command("plan", str(tmp_path / "recipe.yaml"))) == []
