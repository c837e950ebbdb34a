"""`limbeck evaluate` refuses flags that nothing reads, and names that its results have already."""

import pytest
from typer.testing import CliRunner

from limbeck.cli.app import app


def refused(*words) -> str:
    """What the command says as it refuses, before a model is looked for."""
    done = CliRunner().invoke(app, ["evaluate", "no/such/model", *map(str, words)])
    assert done.exit_code and done.exception is not None
    return " ".join(str(done.exception).split())


@pytest.fixture
def places(task_files, prompts) -> dict[str, str]:
    return {"labels": str(task_files / "labels"), "prompts": prompts}


@pytest.mark.parametrize(
    ("words", "named", "what"),
    [
        ("--cost --max-length 8", "--max-length", "vectors"),
        ("--task {prompts} --max-length 8", "--max-length", "vectors"),
        ("--similarity x --search", "--search", "none is named"),
        ("--similarity x --pooling first --batch-size 4", "--batch-size and --pooling", "labels"),
        ("--similarity x --own-head", "--own-head", "labels"),
        ("--similarity x --seeds 5", "--seeds", "tasks"),
        ("--similarity x --temperature 0.5", "--temperature", "prompts"),
        ("--similarity x --threads 2", "--threads", "--cost"),
        ("--bitext x --split test", "--split", "--similarity"),
        ("--cost --precision bfloat16", "--precision", "fine-tuning and vectors"),
        ("--task {labels} --max-new-tokens 8", "--max-new-tokens", "prompts"),
        ("--task {labels} --chat-template", "--chat-template", "prompts"),
        ("--task {labels} --threads 2", "--threads", "--cost"),
        ("--task {prompts} --search --learning-rate 1", "--search and --learning-rate", "labels"),
        ("--task {prompts} --own-head", "--own-head", "labels"),
        ("--task {prompts} --precision bfloat16", "--precision", "fine-tuning"),
        ("--task {labels} --own-head --precision bfloat16", "--precision", "head that it has"),
        ("--task {labels} --own-head --seeds 2 --search", "--seeds and --search", "head that"),
    ],
)
def test_a_flag_that_nothing_reads(places, words, named, what):
    said = refused(*words.format(**places).split())
    assert said.startswith(f"{named} would not be read: ") and what in said


@pytest.mark.parametrize(
    "words",
    [
        "--task {labels} --task {prompts} --search --max-new-tokens 8 --seeds 2 --split dev",
        "--task {labels} --own-head --similarity x --max-length 16 --precision bfloat16",
        "--similarity x --split test --precision bfloat16 --cost --threads 2 --max-length 16",
        "--task {prompts} --seeds 2 --temperature 0.5 --max-eval-samples 3 --split dev",
    ],
)
def test_flags_that_something_reads(places, words):
    assert "would not be read" not in refused(*words.format(**places).split())


@pytest.mark.parametrize("name", ["model", "cost", "embeddings", "by_position"])
def test_a_task_called_as_a_part_of_the_results(task_files, name):
    """Its scores would be replaced, or would be taken for the name of the model."""
    place = task_files / "labels.train.jsonl"
    said = refused("--task", f"{{path: {place}, task_name: {name}}}")
    assert f"'{name}'" in said and "task_name" in said
