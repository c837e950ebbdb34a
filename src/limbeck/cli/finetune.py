"""The command that fine-tunes a model on a task, and keeps it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import console, print_report

_Model = Annotated[str, typer.Argument(help="A model folder, run folder, hub name or minilm-demo.")]
_Task = Annotated[
    str,
    typer.Option(
        help="DIR/NAME of a task's files; a file, folder or hub name of rows; or a mapping, as"
        " '{path: reviews.csv, text: body, label: stars}'."
    ),
]
_Run = Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="The run folder.")]
_Predict = Annotated[
    str | None,
    typer.Option(help="What to learn of rows that have both: label (the default) or tags."),
]
_Split = Annotated[
    str | None,
    typer.Option(help="The rows to score; by default dev, or test where there is no dev."),
]
_Epochs = Annotated[float, typer.Option(help="Passes over the training rows.")]
_Dropout = Annotated[bool, typer.Option(help="Train with the model's own dropout.")]


def finetune(
    model: _Model,
    task: _Task,
    output: _Run,
    predict: _Predict = None,
    split: _Split = None,
    num_train_epochs: _Epochs = 3.0,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    max_length: int = 128,
    dropout: _Dropout = True,
    seed: int = 0,
) -> None:
    """Fine-tune a model on a task, as a teacher of that task.

    The result is RUN/student. RUN/recipe.yaml is the recipe of this training, which learns the
    labels alone; the report has the scores on the task. An interrupted command resumes.
    """
    from ..models.locate import model_of_run

    raw: dict[str, Any] = {
        "name": output.name or "fine-tuning",
        "seed": seed,
        "student": model_of_run(model),
        "data": {"task": task, "predict": predict, "max_length": max_length},
        "stages": [
            {
                "preset": "fine-tuning",
                "num_train_epochs": num_train_epochs,
                "batch_size": batch_size,
                "dropout": dropout,
                "optimizer": {"learning_rate": learning_rate, "warmup_ratio": 0.1},
            }
        ],
        "evaluation": {"split": split, "cost": False},
    }
    from ..recipe.parse import check_form

    check_form(raw)

    from ..run.distill import distill

    run = distill(raw, output, console=console)
    if run.report:
        print_report(run.report, output)
