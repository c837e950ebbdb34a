"""Tasks as files: read, checked, and refused with the place of what is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from ..data.json_lines import file_of_split, has_split, read_rows, task_places
from ..data.prompt_kinds import are_prompts
from ..data.prompt_sources import PromptTaskSource, TaskLocation, TaskLocationField, parse_task
from ..data.prompts import files_of_prompts, read_with_documents
from ..data.row_files import content_of_rows, files_of_rows, name_of_rows, stored_rows
from ..data.rows import RowSource, parse_location, path_of
from ..errors import DataError
from ..system.fingerprints import content_of
from .leaks import check_leak, shared_places
from .mapped_rows import read_mapped_rows, read_unlabelled, source_of
from .prompt_tasks import prompts_of_rows, read_prompt_rows
from .task_rows import choices, example_of, kind_of_rows
from .tasks import METRICS, TASKS, Example, Task, TaskKind, check_known, ranking_headline

_States = tuple[tuple[str, int, int, int], ...]


def load_task(location: Any, *, test_split: str | None = None) -> Task:
    """The task at a location, as ``DIR/sst2`` for the files sst2.train.jsonl.gz and so on.

    Args:
        location: Folder and common name of files of JSON lines. ``DIR/sib200_en>sib200_ru`` learns
            from the rows of the first and is scored on those of the second, in the same
            folder (or ``DIR/NAME`` of another): transfer from one language to another. Or a file
            or folder of rows; or their description, as a `RowSource` or, of prompts and
            conversations, a `PromptTaskSource`, or a mapping of its fields.
        test_split: ``dev``, ``test`` or another; by default dev, else test.

    Raises:
        DataError: A file is missing or broken, rows are of several kinds, the
            scored file has labels that the training file lacks, the task is
            known by name and its rows cannot be scored as that task is, or all scored rows of a
            description are among its training rows.
    """
    location = parse_task(location)
    if (source := _described(location)) is not None:
        return _described_task(source, test_split, _states(files_of_rows(source)))
    test_split, files = _files(str(location), test_split)
    return _task_in_state(str(location), test_split, _states(files))


def load_rows(location: Any, *, split: str = "train") -> list[Example]:
    """Rows that need no labels: texts, pairs of texts, or lists of words.

    Args:
        location: As of `load_task`.
        split: Of the rows.

    Raises:
        DataError: There are none, or a row has none of these fields, or is empty.
    """
    location = parse_location(location)
    if (source := source_of(location)) is not None:
        found = read_unlabelled(source, split)
    else:
        rows = read_rows(file_of_split(Path(str(location)), split))
        found = [example_of(row, place, labelled=False) for row, place in rows]
    if prompt := next((row for row in found if row.references is not None), None):
        raise DataError(f"{prompt.place} is a prompt with references; give rows of texts or words")
    return found


def name_of_task(location: Any) -> str:
    """What results call a task; it is not read.

    >>> name_of_task("data/sib200_en>sib200_ru"), name_of_task({"path": "reviews.csv"})
    ('sib200_en_to_sib200_ru', 'reviews')

    Raises:
        DataError: The location is none.
    """
    location = parse_task(location)
    if (source := _source(location)) is not None:
        return name_of_rows(source)
    learned, scored = task_places(str(location))
    return f"{learned.name}_to_{scored.name}" if scored != learned else scored.name


def content_of_task(location: Any, *, test_split: str | None = None) -> str:
    """A hash of all files that a task is read from; of a dataset on the hub, its name.

    Raises:
        DataError: A file is missing.
    """
    location = parse_task(location)
    if (source := _source(location)) is not None:
        return content_of_rows(source)
    return content_of(*_files(str(location), test_split)[1])


def is_generation_task(location: Any) -> bool:
    """Whether the task is a generation task, by its first training row.

    Raises:
        DataError: There is no file, or its first row is broken.
    """
    location = parse_task(location)
    if (source := _described(location)) is not None:
        return isinstance(source, PromptTaskSource) or _first_has_references(
            source, _states(files_of_rows(source))
        )
    learned, _ = task_places(str(location))
    row, _ = next(read_rows(file_of_split(learned, "train")))
    return "references" in row or are_prompts(row)


def _source(location: TaskLocation) -> RowSource | PromptTaskSource | None:
    """The description of a location as it was given; None of task files."""
    return location if isinstance(location, PromptTaskSource) else source_of(location)


def _described(location: TaskLocation) -> RowSource | PromptTaskSource | None:
    """The description of a location, of prompts where its rows are such; None of task files."""
    source = _source(location)
    if not isinstance(source, RowSource):
        return source
    return _as_prompts(source, _states(files_of_rows(source))) or source


@lru_cache(maxsize=16)
def _as_prompts(source: RowSource, states: _States) -> PromptTaskSource | None:
    return prompts_of_rows(source)


@lru_cache(maxsize=16)
def _first_has_references(source: RowSource, states: _States) -> bool:
    first = next(stored_rows(source).read("train"), None)
    return first is not None and "references" in first.values


def _states(files: Sequence[Path]) -> _States:
    """What changes when a file does."""
    states = [(file, file.stat()) for file in files]
    return tuple((str(f), s.st_size, s.st_mtime_ns, s.st_ctime_ns) for f, s in states)


def _files(location: str, test_split: str | None) -> tuple[str, list[Path]]:
    """The split that is scored, and the files of the task."""
    source, place = task_places(location)
    if test_split is None:
        test_split = "dev" if has_split(place, "dev") else "test"
    files = [*files_of_prompts(str(source)), *files_of_prompts(str(place), test_split)]
    return test_split, files


# Cached, because a plan reads a task several times, and a study once for every arm.
@lru_cache(maxsize=16)
def _task_in_state(location: str, test_split: str, states: _States) -> Task:
    source, place = task_places(location)
    task = _task(
        name_of_task(location),
        list(_read(source, "train")),
        list(_read(place, test_split)),
        test_split,
        location=location,
        scored=f"{place}.{test_split}",
    )
    return _as_known(replace(task, scored_as=place.name), location)


@lru_cache(maxsize=16)
def _described_task(
    source: RowSource | PromptTaskSource, test_split: str | None, states: _States
) -> Task:
    read: Any = read_prompt_rows if isinstance(source, PromptTaskSource) else read_mapped_rows
    rows = read(source, test_split)
    task = _task(
        name_of_rows(source),
        rows.train,
        rows.test,
        rows.test_split,
        location=source.path,
        scored=f"the split {rows.test_split} of {source.path}",
    )
    if task.shared:
        check_leak(task.train, task.test)
    task = replace(task, scored_as=task.name, source=source, notes=rows.notes)
    return _as_known(task, source.path)


def _task(
    name: str,
    train: list[Example],
    test: list[Example],
    test_split: str,
    *,
    location: str,
    scored: str,
) -> Task:
    kind = kind_of_rows([*train, *test], location)
    labels = choices(train, test, scored, "label")
    return Task(
        name=name,
        kind=kind,
        headline=METRICS[kind][0],
        positive=None,
        train=train,
        test=test,
        test_split=test_split,
        labels=labels,
        tags=choices(train, test, scored, "tags"),
        # The same prompt is no leak: many rows of answers may have one.
        shared=() if kind is TaskKind.GENERATION else shared_places(train, test),
    )


def _as_known(task: Task, location: str) -> Task:
    """A task scored as the published one of the name of its scored files, if there is one."""
    if (known := TASKS.get(task.scored_as)) is None:
        return replace(task, headline=ranking_headline(task))
    task = replace(task, headline=known.headline, positive=known.positive)
    check_known(task, location, known)
    return task


def _read(location: Path, split: str) -> Iterator[Example]:
    for row, place in read_with_documents(location, split):
        yield example_of(row, place)


def _each_name_once(locations: list[TaskLocation]) -> list[TaskLocation]:
    """Refuse two tasks of one name: the results of one would replace those of the other."""
    seen: dict[str, TaskLocation] = {}
    for location in locations:
        try:
            name = name_of_task(location)
        except DataError:
            continue  # is refused with its own place once it is read
        if name in seen:
            places = [path_of(one) for one in (seen[name], location)]
            said = f"{places[0]} and {places[1]} are both called {name!r}; name one"
            said += f" otherwise, as {{path: {places[1]}, task_name: ANOTHER}}"
            raise PydanticCustomError("same_name", "{said}", {"said": said})
        seen[name] = location
    return locations


# Tasks as a field of a recipe.
TaskLocations = Annotated[list[TaskLocationField], AfterValidator(_each_name_once)]
