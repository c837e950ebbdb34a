"""What a run is made of: the content of its text, prompts and models, kept in its folder.

A run that is started again on other content would train a student on both, or measure it
on text that it has learned from.
"""

import json
from pathlib import Path

from ..data.prompts import content_of_prompts
from ..data.rows import path_of
from ..data.text import content_of_text
from ..errors import DataError
from ..evaluation.task_files import content_of_task, name_of_task
from ..models.locate import fingerprint
from ..recipe.schema import Recipe
from ..recipe.task_rows import content_of_unlabelled
from ..system.files import write_text

Sources = dict[str, dict[str, str]]


def sources_of(recipe: Recipe) -> Sources:
    """Path and content of all that a recipe reads to train, by the field that names it.

    What lies on the hub has its name for content, and what lies in an object store what that says.
    """
    found: Sources = {}
    for number, source in enumerate(recipe.data.text):
        content = content_of_text(source.path)
        found[f"data.text.{number}"] = {"path": source.path, "content": content}
    found |= sources_of_rows(recipe)
    models = {"student.model": recipe.student.model}
    if recipe.teacher:
        models["teacher.model"] = recipe.teacher.model
        for number, member in enumerate(recipe.teacher.ensemble):
            models[f"teacher.ensemble.{number}"] = member
    # The weights of a teacher on a server need not be here.
    served = recipe.server is not None
    for field, model in models.items():
        if model:
            content = fingerprint(model, tokenizer_only=served and field == "teacher.model")
            found[field] = {"path": model, "content": content}
    if name := recipe.student.tokenizer:
        content = fingerprint(name, tokenizer_only=True)
        found["student.tokenizer"] = {"path": name, "content": content}
    return found


def sources_of_rows(recipe: Recipe) -> Sources:
    """Path and content of the prompts and the rows that a recipe reads, by the same fields."""
    found: Sources = {}
    for number, place in enumerate(recipe.data.prompts):
        content = content_of_prompts(place)
        found[f"data.prompts.{number}"] = {"path": path_of(place), "content": content}
    if (task := recipe.data.task) is not None:
        content = content_of_task(task, test_split=recipe.evaluation.split)
        found["data.task"] = {"path": name_of_task(task), "content": content}
    for number, rows in enumerate(recipe.data.rows):
        content = content_of_unlabelled(rows)
        found[f"data.rows.{number}"] = {"path": name_of_task(rows), "content": content}
    return found


def check_sources(recipe: Recipe, folder: Path, *, write: bool) -> None:
    """Note what a run is made of, or see that a run that has begun is still made of it.

    Args:
        recipe: Of the run.
        folder: Of the run; ``sources.json`` in it is written whole.
        write: Whether this process is the one that writes.

    Raises:
        DataError: Something has another content than when the run began.
    """
    file = folder / "sources.json"
    if not file.exists():  # also in a run of a version that did not keep it
        if write:
            write_text(file, json.dumps(sources_of(recipe), indent=1, ensure_ascii=False))
        return
    try:
        before: Sources = json.loads(file.read_text(encoding="utf-8"))
        then = {field: known["content"] for field, known in before.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not what was written; put it back, or use another run folder"
        ) from error
    now = sources_of(recipe)
    changed = [
        f"{known['path']} ({field})"
        for field, known in now.items()
        if then.get(field, known["content"]) != known["content"]
    ]
    if changed:
        raise DataError(
            f"{folder} was begun with other content of {', '.join(changed)}, which has changed"
            " since. Put back what it was, or use another run folder to start from what is there"
            " now"
        )
