"""Any model folder, scored on tasks; and how that was done, in sentences."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedTokenizerFast

from ..data.prompt_sources import TaskLocation
from ..errors import ModelError
from ..evaluation.askable import check_askable
from ..evaluation.cost import SENTENCE_LENGTH
from ..evaluation.reading_notes import reading_notes
from ..evaluation.rouge import check_rouge
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.seeds import TaskScore, evaluate_tasks, learned_together
from ..evaluation.settings import FinetuneSettings, SearchSettings
from ..evaluation.task_files import is_generation_task, load_task
from ..evaluation.tasks import Task, TaskKind, subsample
from ..generation.ends import ends_notes
from ..models.families.lookup import architecture_of
from ..models.load import load_config
from ..models.shapes import shape_of
from ..recipe.schema import EvaluationPart
from ..reports.finetuning import search_notes
from ..reports.search_results import SearchResult
from ..system.device import choose_device, choose_precision, describe_device, emulation_warning
from ..system.linux import keep_freed_memory
from ..system.progress import ProgressBar, warn
from ..tokenization.load import load_tokenizer


def evaluate_model(
    model: str,
    tasks: Sequence[TaskLocation],
    part: EvaluationPart,
    *,
    results: Path | None = None,
    console: Console,
    label: str = "model",
) -> dict[str, TaskScore]:
    """The scores of one model folder on every task.

    Args:
        model: Folder, hub name or package name.
        tasks: As `load_task` reads them.
        part: Seeds, rows and protocol.
        results: Folder in which finished seeds are kept.
        console: For the progress bar.
        label: What the bar and the results call the model.

    Raises:
        DataError: A task cannot be read, or its conversations do not suit the chat template.
        EvaluationError: There are conversations, and no chat template is to be used.
    """
    tokenizer = load_tokenizer(model)
    loaded = _loaded(tokenizer, tasks, part)
    keep_freed_memory()
    device = choose_device()
    warning = emulation_warning(choose_precision(part.finetuning.precision, device), device)
    if warning and tasks:
        warn(console, warning)
    for note in task_notes(model, tokenizer, loaded, max_length=part.finetuning.max_length):
        console.print(note, highlight=False, soft_wrap=True)
    scores: dict[str, TaskScore] = {}
    for group in learned_together(loaded):
        with ProgressBar(f"{label} on {', '.join(t.name for t in group)}", console=console) as bar:

            def progress(seed: int, step: int, steps: int, bar: ProgressBar = bar) -> None:
                bar.show(seed * steps + step, part.seeds * steps, f"seed {seed}")

            def searching(tried: str, step: int, steps: int, bar: ProgressBar = bar) -> None:
                bar.show(step, steps, tried)

            files = {t.name: results / f"{t.name}.{label}.json" for t in group} if results else None
            scores |= evaluate_tasks(
                model,
                group,
                settings=part.finetuning,
                generation=part.generation,
                seeds=range(part.seeds),
                results=files,
                progress=progress,
                search_progress=searching,
            )
        for line in _search_lines(group[0].name, scores[group[0].name].search):
            console.print(f"{label}: {line}", highlight=False, markup=False, soft_wrap=True)
    return {task.name: scores[task.name] for task in loaded}


def _loaded(
    tokenizer: PreTrainedTokenizerFast, tasks: Sequence[TaskLocation], part: EvaluationPart
) -> list[Task]:
    """The tasks with as many rows as are wanted; first it is seen that the model can be asked."""
    loaded = [load_task(location, test_split=part.split) for location in tasks]
    for task in loaded:
        if task.kind is TaskKind.GENERATION:
            check_rouge()
            check_askable(task, tokenizer, part.generation)
    prompts = part.generation.max_eval_samples
    return [subsample(t, rows=part.max_train_samples, seed=0, prompts=prompts) for t in loaded]


def task_notes(
    model: str, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task], *, max_length: int
) -> list[str]:
    """What a reader must know of labels, and of texts that the model cannot read or end exactly.

    Args:
        model: Its name.
        tokenizer: Of the model.
        tasks: That it is scored on.
        max_length: Tokens of a row at most, of as many as it can read.
    """
    notes = [note for task in tasks for note in scoring_notes(task)]
    positions = _positions(model)
    for task in tasks:
        notes += reading_notes(task, tokenizer, max_length=max_length, positions=positions)
    if any(task.kind is TaskKind.GENERATION for task in tasks):
        notes += ends_notes(tokenizer, model)
    return notes


def _positions(model: str) -> int | None:
    """The most tokens that a model can read; None of a type whose sizes are not known."""
    try:
        config = load_config(model)
        return shape_of(config, architecture_of(config)).max_position_embeddings
    except ModelError:
        return None


def _search_lines(task: str, found: SearchResult | None) -> list[str]:
    """What was chosen for a model, and whether its best may lie beyond."""
    if found is None:
        return []
    chosen = found.chosen
    return [
        f"{task}: of {len(found.trials)} trials, learning rate {chosen.learning_rate:g} and"
        f" {chosen.num_train_epochs:g} epochs are best on {found.validation_rows:,} rows set apart"
        " from training",
        *(f"{task}: {note}" for note in search_notes(found)),
    ]


def evaluation_notes(part: EvaluationPart) -> list[str]:
    """How models were measured, for whoever reads their scores."""
    notes = []
    writes = [is_generation_task(location) for location in part.tasks]
    if any(writes):
        how = part.generation
        chance = f"temperature {how.temperature:g}" if how.temperature else "greedy"
        notes.append(
            f"every model generated texts as it is: {how.max_new_tokens} tokens at most, {chance}"
        )
    if not all(writes):
        rows = (
            f"{part.max_train_samples} training rows at most"
            if part.max_train_samples
            else "all rows"
        )
        settings: FinetuneSettings = part.finetuning
        seeds = "1 seed" if part.seeds == 1 else f"{part.seeds} seeds"
        device = choose_device()
        precision = choose_precision(settings.precision, device).name
        protocol = _searched(settings.search) if settings.search else _fixed(settings)
        notes.append(
            f"every model was fine-tuned {protocol}; {rows}, {seeds}, scored after the last step;"
            f" in {precision} on {describe_device(device)}"
        )
    if part.cost:
        notes.append(
            f"milliseconds are of the body alone, in float32, for one text of {SENTENCE_LENGTH} of"
            f" the teacher's tokens, on {describe_device(choose_device('cpu'))}"
        )
    return notes


def _fixed(settings: FinetuneSettings) -> str:
    return (
        f"alike, which shows how fast it learns and not its best: {settings.num_train_epochs:g}"
        f" epochs, learning rate {settings.learning_rate:g}"
    )


def _searched(how: SearchSettings) -> str:
    rates = ", ".join(f"{rate:g}" for rate in how.learning_rates)
    return (
        f"to its best: learning rate (of {rates}) and length (at most {how.num_train_epochs:g}"
        f" epochs) were chosen once for each model, on {how.validation_fraction:.0%} of the"
        " training rows and never on scored rows, and then all seeds learned from all rows"
    )
