"""What a finished run is measured on, and the report made of it."""

from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Console

from .. import __version__
from ..evaluation.agreement import dropped_mass, top_agreement
from ..evaluation.bits_per_byte import masked_bits_per_byte
from ..evaluation.cost import SENTENCE_LENGTH
from ..evaluation.reading_notes import reading_notes
from ..evaluation.scoring_notes import scoring_notes
from ..evaluation.seeds import TaskScore, evaluate_tasks, learned_together
from ..evaluation.settings import FinetuneSettings
from ..evaluation.tasks import TaskKind, asks_for_texts, load_task, subsample
from ..generation.ends import ends_notes
from ..models.load import load_config, load_model
from ..models.locate import model_of_run
from ..models.low_rank_layers import factored_ranks
from ..recipe.check import Setup
from ..recipe.low_rank import low_rank_notes
from ..recipe.schema import EvaluationPart
from ..reports.report import ROLES, write_report
from ..system.device import choose_device, choose_precision, describe_device, emulation_warning
from ..system.memory import keep_freed_memory
from ..system.progress import ProgressBar
from ..tokenization.load import load_tokenizer
from ..tokenization.masking import Masking, NextToken
from ..training.records import RunLog
from .batches import counts_of_cuts, held_out_batches, spelled_notes
from .costs import Costed, costs_by_size, students_sentence
from .measure_generation import positions_of_run
from .measure_vocabularies import neighbours_of_run, readings_of_run, teacher_with_head
from .prompt_batches import prompt_notes


def measure_run(setup: Setup, folder: Path, console: Console) -> dict[str, Any]:
    """Measure what the recipe asks for, write ``report/`` and give the report.

    What was measured before for the same weights and settings is not measured
    again, so an interrupted evaluation goes on.
    """
    recipe = setup.recipe
    part = recipe.evaluation
    models = _compared(setup, folder)
    records = RunLog(folder / "log.jsonl").records()
    report: dict[str, Any] = {
        "name": recipe.name,
        "limbeck_version": __version__,
        "teacher": None,
        "no_distillation": None,
    }
    kept = folder / "evaluation"
    costs = costs_by_size(
        {
            role: Costed(
                model,
                SENTENCE_LENGTH if role == "teacher" else students_sentence(setup),
                kept / f"cost.{role}.json",
            )
            for role, model in models.items()
        },
        timed=part.cost,
    )
    for role, model in models.items():
        facts = {"name": Path(model).name if role != "teacher" else _teacher_name(setup)}
        report[role] = facts | costs[role]
    report["quality"] = {
        task: _quality(scores) for task, scores in _scores(setup, models, kept, console).items()
    }
    report["training"] = training_facts(records)
    report["held_out"] = _held_out(setup, records)
    report["held_out_text"] = _text_measures(setup, folder)
    report["neighbours"] = neighbours_of_run(setup, folder)
    report["two_readings"] = readings_of_run(setup, folder)
    report["cuts"] = counts_of_cuts(setup)
    report["by_position"] = positions_of_run(setup, folder)
    ranks = factored_ranks(load_config(str(folder / "student")))
    factors = low_rank_notes(setup.models, setup.recipe.student.low_rank, ranks)
    report["notes"] = [*_notes(setup), *spelled_notes(setup), *prompt_notes(setup), *factors]
    write_report(report, records, folder / "report")
    return report


def evaluate_model(
    model: str,
    tasks: list[str],
    part: EvaluationPart,
    *,
    results: Path | None = None,
    console: Console,
    label: str = "model",
) -> dict[str, TaskScore]:
    """The scores of one model folder on every task.

    Args:
        model: Folder, hub name or package name.
        tasks: DIR/NAME of each.
        part: Seeds, rows and protocol.
        results: Folder in which finished seeds are kept.
        console: For the progress bar.
        label: What the bar and the results call the model.
    """
    keep_freed_memory()
    device = choose_device()
    warning = emulation_warning(choose_precision(part.finetuning.precision, device), device)
    if warning and tasks:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    loaded = [load_task(location, test_split=part.split) for location in tasks]
    loaded = [
        subsample(
            task, rows=part.max_train_samples, seed=0, written=part.generation.max_eval_samples
        )
        for task in loaded
    ]
    tokenizer = load_tokenizer(model)
    notes = [n for t in loaded for n in (*scoring_notes(t), *reading_notes(t, tokenizer))]
    if any(task.kind is TaskKind.GENERATION for task in loaded):
        notes += ends_notes(tokenizer, model)
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    scores: dict[str, TaskScore] = {}
    for group in learned_together(loaded):
        with ProgressBar(f"{label} on {', '.join(t.name for t in group)}", console=console) as bar:

            def progress(seed: int, step: int, steps: int, bar: ProgressBar = bar) -> None:
                bar.show(seed * steps + step, part.seeds * steps, f"seed {seed}")

            files = {t.name: results / f"{t.name}.{label}.json" for t in group} if results else None
            scores |= evaluate_tasks(
                model,
                group,
                settings=part.finetuning,
                writing=part.generation,
                seeds=range(part.seeds),
                results=files,
                progress=progress,
            )
    return {task.name: scores[task.name] for task in loaded}


def _compared(setup: Setup, folder: Path) -> dict[str, str]:
    """Model of every role that is to be measured."""
    recipe = setup.recipe
    models = {"student": str(folder / "student")}
    if recipe.teacher and recipe.evaluation.teacher:
        models["teacher"] = recipe.teacher.model
    if control := recipe.evaluation.baseline:
        models["no_distillation"] = model_of_run(control)
    return models


def _scores(
    setup: Setup, models: Mapping[str, str], kept: Path, console: Console
) -> dict[str, dict[str, TaskScore]]:
    part = setup.recipe.evaluation
    by_task: dict[str, dict[str, TaskScore]] = {}
    for role, model in models.items():
        scores = evaluate_model(model, part.tasks, part, results=kept, console=console, label=role)
        for task, score in scores.items():
            by_task.setdefault(task, {})[role] = score
    return by_task


def _quality(scores: Mapping[str, TaskScore]) -> dict[str, Any]:
    some = next(iter(scores.values()))
    return {
        "metric": some.metric,
        "test_split": some.test_split,
        "training_rows": some.training_rows,
        "test_rows": some.test_rows,
        **{role: scores[role].mean if role in scores else None for role in ROLES},
        "seeds": {role: score.values for role, score in scores.items()},
        "spread": {role: score.spread for role, score in scores.items()},
        "metrics": {role: score.means() for role, score in scores.items()},
    }


def training_facts(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Tokens, time and memory of a run, from its log; empty before the first record."""
    steps = [record for record in records if "objectives" in record]
    if not steps:
        return {}
    last = steps[-1]
    machine: dict[str, Any] = next((r for r in reversed(records) if "device" in r), {})
    seconds = last["seconds"]
    return {
        "tokens": last["tokens"],
        "seconds": seconds,
        "tokens_per_second": last["tokens"] / seconds,
        "peak_memory_bytes": max(record["peak_memory_bytes"] or 0 for record in steps) or None,
        "trainable_parameters": last.get("trainable_parameters"),
        **{name: value for name, value in machine.items() if name in ("device", "precision")},
        "stages": _stages(steps),
    }


def _stages(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps, tokens and seconds of every stage, from the running totals in the log."""
    found: list[dict[str, Any]] = []
    tokens, seconds = 0, 0.0
    for _, records in groupby(steps, key=itemgetter("stage_number")):
        last = list(records)[-1]
        stage = {"name": last["stage"], "steps": last["step"]}
        stage |= {"tokens": last["tokens"] - tokens, "seconds": last["seconds"] - seconds}
        tokens, seconds = last["tokens"], last["seconds"]
        found.append(stage)
    return found


def _held_out(setup: Setup, records: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        for name, value in record.get("held_out", {}).items():
            key = name if len(setup.stages) == 1 else f"{record['stage']}: {name}"
            objective = setup.stages[record["stage_number"]].objectives[name]
            found.setdefault(key, {"before": value, "unit": objective.unit})
            found[key]["after"] = value
    return found


def _text_measures(setup: Setup, folder: Path) -> dict[str, Any]:
    """Bits per byte and agreement, where there are vocabulary heads to ask."""
    if not setup.has_trained_head:
        return {}
    architecture, tokenizer = setup.models.architecture, setup.models.tokenizer
    ids = setup.models.student.token_ids
    if not architecture.causal and tokenizer.mask_token_id is None:
        return {}  # bits per byte and agreement are those of hidden words
    masking = NextToken() if architecture.causal else Masking()
    batches = held_out_batches(setup, masking=masking)
    student = load_model(str(folder / "student"), architecture=architecture, with_head=True)
    tokens = [batch.student for batch in batches]
    measures = {"bits_per_byte": masked_bits_per_byte(student, architecture, tokenizer, tokens)}
    teacher, teacher_architecture = teacher_with_head(setup), setup.models.teacher_architecture
    if teacher is not None and teacher_architecture is not None:
        theirs = setup.models.teacher_tokenizer or tokenizer
        if not teacher_architecture.causal and theirs.mask_token_id is None:
            return measures
        if setup.models.two_vocabularies:
            batches = held_out_batches(setup, masking=masking, tokenizer=theirs)
        measures["teacher_bits_per_byte"] = masked_bits_per_byte(
            teacher, teacher_architecture, theirs, [batch.teacher for batch in batches]
        )
        if setup.models.two_vocabularies:
            return measures
        measures["top_agreement"] = top_agreement(
            student, architecture, teacher, teacher_architecture, batches, tokens=ids
        )
        if setup.models.teacher and setup.models.teacher.vocab_size > len(ids):
            measures["teacher_mass_on_no_piece"] = dropped_mass(
                teacher, teacher_architecture, batches, tokens=ids
            )
    return measures


def _teacher_name(setup: Setup) -> str:
    return setup.recipe.teacher.model if setup.recipe.teacher else ""


def _notes(setup: Setup) -> list[str]:
    return [*setup.warnings, *evaluation_notes(setup.recipe.evaluation)]


def evaluation_notes(part: EvaluationPart) -> list[str]:
    """How models were measured, for whoever reads their scores."""
    notes = []
    writes = [asks_for_texts(location) for location in part.tasks]
    if any(writes):
        how = part.generation
        chance = f"temperature {how.temperature:g}" if how.temperature else "the likeliest tokens"
        notes.append(
            f"texts were asked of every model as it is: {how.max_new_tokens} tokens at most, {chance}"
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
        notes.append(
            f"every model was fine-tuned alike: {rows}, {settings.num_train_epochs:g} epochs, learning rate"
            f" {settings.learning_rate:g}, {seeds}, scored after the last step; in {precision} on"
            f" {describe_device(device)}"
        )
    if part.cost:
        notes.append(
            f"milliseconds are of the body alone, in float32, for one text of {SENTENCE_LENGTH} of"
            f" the teacher's tokens, on {describe_device(choose_device('cpu'))}"
        )
    return notes
