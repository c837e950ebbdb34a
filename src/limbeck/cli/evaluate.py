"""The command that scores a model folder."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EvaluationError
from ..evaluation.settings import FinetuneSettings, GenerationSettings
from .terminal import console, print_table

if TYPE_CHECKING:
    from ..evaluation.seeds import TaskScore
    from ..recipe.schema import EvaluationPart

RESULTS = "evaluation.json"


def evaluate(
    model: Annotated[str, typer.Argument(help="Model or run folder, hub name or minilm-demo.")],
    task: Annotated[list[str] | None, typer.Option(help="DIR/NAME of task files.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    max_train_samples: Annotated[int | None, typer.Option(help="Training rows at most.")] = None,
    num_train_epochs: float = FinetuneSettings.num_train_epochs,
    learning_rate: float = FinetuneSettings.learning_rate,
    batch_size: int = FinetuneSettings.batch_size,
    max_length: int = FinetuneSettings.max_length,
    pooling: Annotated[str, typer.Option(help="mean or first")] = FinetuneSettings.pooling,
    precision: Annotated[
        str, typer.Option(help="auto (bfloat16 where the device has it), bfloat16 or float32")
    ] = FinetuneSettings.precision,
    split: Annotated[str | None, typer.Option(help="dev or test; dev if there")] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Generation tasks: tokens of an answer.")
    ] = GenerationSettings.max_new_tokens,
    temperature: Annotated[float, typer.Option(help="Generation tasks: 0 is greedy.")] = (
        GenerationSettings.temperature
    ),
    max_eval_samples: Annotated[
        int | None, typer.Option(help="Generation tasks: prompts at most.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option(help="Generation tasks: prompts in the chat template.")
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="Generation tasks: agreement with this teacher by position."),
    ] = None,
    cost: Annotated[bool, typer.Option(help="Measure size, memory and latency too.")] = False,
    threads: Annotated[int | None, typer.Option(help="For the cost.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"Folder of results and {RESULTS}; resumes there."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON too.")] = False,
) -> None:
    """Score any model folder on tasks, over several seeds.

    Encoders are fine-tuned first. Decoders answer the prompts of generation tasks as they are.
    """
    from ..recipe.parse import parse_evaluation

    finetuning = {
        "num_train_epochs": num_train_epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_length": max_length,
        "pooling": pooling,
        "precision": precision,
    }
    generation = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "max_eval_samples": max_eval_samples,
        "chat_template": chat_template,
    }
    part = parse_evaluation(
        {
            "tasks": task or [],
            "seeds": seeds,
            "max_train_samples": max_train_samples,
            "split": split,
            "finetuning": finetuning,
            "generation": generation,
        }
    )

    from ..models.locate import model_of_run
    from ..run.measure import evaluate_model

    model = model_of_run(model)
    # First, so that another teacher is refused before anything is long.
    parts = _by_position(model, model_of_run(teacher), part) if teacher else None
    scores = evaluate_model(model, part.tasks, part, results=output, console=console)
    head = ["task", "metric", "mean", "standard deviation"]
    print_table(model, [head, *map(_row, scores.items())])
    found: dict[str, Any] = {name: score.to_json() for name, score in scores.items()}
    if parts is not None:
        found["by_position"] = parts
    if cost:
        found["cost"] = _cost(model, threads)
    _give(found, output, printed=json_)


def _by_position(
    model: str, teacher: str, part: "EvaluationPart"
) -> dict[str, dict[str, list[float]]]:
    """Agreement with a teacher in each third of the generation tasks' texts."""
    from ..evaluation.generation import positions_of_task
    from ..evaluation.tasks import asks_for_texts, load_task, subsample
    from ..reports.generation import position_table

    generation = list(filter(asks_for_texts, part.tasks))
    if not generation:
        raise EvaluationError("--teacher is for tasks of prompts; give one, or leave it out")
    parts = {}
    for location in generation:
        whole = load_task(location, test_split=part.split)
        some = subsample(whole, rows=None, seed=0, written=part.generation.max_eval_samples)
        parts[some.name] = positions_of_task(model, teacher, some, part.generation)
        print_table(f"{some.name}, by position in its texts", position_table(parts[some.name]))
    return parts


def _row(item: "tuple[str, TaskScore]") -> list[str]:
    name, score = item
    deviation = "" if score.spread is None else f"{100 * score.spread:.1f}"
    return [name, score.metric, f"{100 * score.mean:.1f}", deviation]


def _cost(model: str, threads: int | None) -> dict[str, Any]:
    from dataclasses import asdict

    from ..evaluation.cost import measure_cost

    return asdict(measure_cost(model, threads=threads))


def _give(found: dict[str, Any], output: Path | None, *, printed: bool) -> None:
    """Keep the results in the folder, and print them where that is wanted."""
    from ..system.files import write_text

    if output:
        write_text(output / RESULTS, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        console.print(f"results: {output / RESULTS}", highlight=False)
    if printed:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
