"""A recipe's teacher, run once over its text; its signals are kept for any number of students."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from ..batch import Batch
from ..errors import CacheError, RecipeError
from ..recipe.setup import Setup
from ..system.progress import ProgressBar
from ..teacher.cache_writer import CacheWriter
from ..teacher.cached import CachedTeacher
from ..teacher.manifest import Kind, Manifest, read_manifest
from ..teacher.store import SignalStore
from ..training.processes import keeps_shards
from ..training.stage import Stage
from .batches import stage_batches, stage_held_out
from .cacheable import CacheSize, all_needs, cache_problems, manifest_of
from .teacher import live_teachers, load_teacher


def write_cache(
    setup: Setup,
    folder: Path,
    kind: Kind,
    accelerator: Accelerator,
    *,
    console: Console | None = None,
) -> CacheSize:
    """Keep all signals that the recipe's objectives need; resumes where the folder stands.

    Args:
        setup: A checked recipe.
        folder: Of the signals.
        kind: How predictions are kept.
        accelerator: Several processes share the batches.
        console: For the progress bar.

    Raises:
        RecipeError: The teacher's signals cannot be kept: it learns, or text is written.
        CacheError: The folder holds signals of something else, or the disk is full.
    """
    problems = cache_problems(setup, kind)
    if problems:
        raise RecipeError("the teacher cannot be kept:\n  " + "\n  ".join(problems))
    if keeps_shards(accelerator):
        raise CacheError(
            "signals are kept by processes that have the whole teacher; leave FSDP off"
        )
    console = console or Console(quiet=True)
    manifest = _claimed(folder, manifest_of(setup, kind))
    accelerator.wait_for_everyone()  # all have looked before one writes
    store = SignalStore(folder, 2**62, writer=accelerator.process_index, strict=True)
    if accelerator.is_main_process:
        damaged = store.damaged()
        manifest = manifest.without({file.parent.name for file in damaged})
        manifest.write(folder)
        for file in damaged:
            console.print(f"{file} is damaged and is made again", style="yellow")
            file.unlink()
    accelerator.wait_for_everyone()
    writer = cache_writer(setup, kind, store, accelerator)
    if accelerator.is_main_process:
        writer.write_maps(all_needs(setup))
    with ProgressBar("teacher", console=console) as bar:
        batches = list(_batches(setup))
        for number, (stage, batch) in enumerate(batches):
            if number % accelerator.num_processes == accelerator.process_index:
                _keep(writer, stage, batch(), accelerator)
            bar.show(number + 1, len(batches), f"{store.held_bytes / 1e6:,.0f} MB")
    store.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        names = [writer.names(stage.teacher_needs()) for stage in setup.stages]
        manifest.with_steps(names, [stage.steps for stage in setup.stages]).write(folder)
    tokens = sum(s.steps * s.batch_size for s in setup.stages) * setup.recipe.data.max_length
    held = SignalStore(folder, 0).held_bytes
    return CacheSize(held / tokens, held)


def open_cache(setup: Setup, device: torch.device | str) -> CachedTeacher:
    """The teacher of a recipe that names kept signals.

    Raises:
        CacheError: The signals are of something else, incomplete, or not of all that is asked.
    """
    part = setup.recipe.teacher
    if part is None or part.cache is None:
        raise RecipeError("this recipe has no teacher that was kept; name its folder as `cache`")
    folder = Path(part.cache)
    manifest = read_manifest(folder)
    mine = manifest_of(setup, manifest.kind)
    if different := manifest.differing(mine):
        raise CacheError(
            f"{folder} holds signals of something else: {'; '.join(different)}. Run `limbeck"
            " cache` with this recipe into another folder"
        )
    if problems := cache_problems(setup, manifest.kind):
        raise CacheError(f"{folder} does not serve this recipe: {'; '.join(problems)}")
    teacher = CachedTeacher.opened(folder, manifest, device)
    missing = [
        f"{kind} of layer {layer} for {stage.steps - here} of the {stage.steps} steps of"
        f" stages.{number}"
        for number, stage in enumerate(setup.stages)
        for (kind, layer), here in teacher.missing(
            stage.teacher_needs(), number, stage.steps
        ).items()
    ]
    if missing:
        raise CacheError(
            f"{folder} lacks {', '.join(missing)}; run `limbeck cache` with this recipe and"
            " folder, which adds it and resumes where it stopped"
        )
    return teacher


def cache_writer(
    setup: Setup, kind: Kind, store: SignalStore, accelerator: Accelerator
) -> CacheWriter:
    """What runs the teacher of a recipe."""
    teacher = setup.models.required_teacher()
    asks = all_needs(setup).predictions
    model = load_teacher(teacher, accelerator, with_head=True if asks else None)
    live = live_teachers(setup, model, accelerator)
    return CacheWriter(live, store, kind, tokens=teacher.shape.token_ids, seed=setup.recipe.seed)


def _keep(writer: CacheWriter, stage: Stage, batch: Batch, accelerator: Accelerator) -> None:
    for start in range(0, len(batch.teacher.mask), stage.micro_batch_size):
        micro = batch.rows(start, start + stage.micro_batch_size).to(accelerator.device)
        with accelerator.autocast(), torch.no_grad():
            writer.keep(micro, stage.teacher_needs())


def _batches(setup: Setup) -> Iterator[tuple[Stage, Any]]:
    """Every batch that asks something of the teacher, made when it is called for."""
    for number, stage in enumerate(setup.stages):
        if not stage.teacher_needs().anything:
            continue
        for batch in stage_held_out(setup, number):
            yield stage, lambda batch=batch: batch
        source = stage_batches(setup, number)
        for step in range(stage.steps):
            yield stage, lambda source=source, step=step: source.batch(step)


def _claimed(folder: Path, manifest: Manifest) -> Manifest:
    """What a folder will hold, once it is seen that it holds nothing else."""
    # A manifest that a kill left half-written says nothing.
    if folder.exists() and any(place.suffix != ".part" for place in folder.iterdir()):
        before = read_manifest(folder)
        different = before.differing(manifest)
        if before.kind != manifest.kind:
            different.append(f"predictions are kept as {manifest.kind} and were {before.kind}")
        if different:
            raise CacheError(
                f"{folder} holds signals of something else: {'; '.join(different)}. Use another"
                " folder"
            )
        return before
    return manifest
