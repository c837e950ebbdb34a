"""A recipe's teacher, run once over its text; its signals are kept for any number of students."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from ..batch import Batch
from ..errors import CacheError, RecipeError, ServerError
from ..recipe.setup import Setup
from ..system.locks import alone
from ..system.progress import ProgressBar
from ..teacher.cache_writer import CacheWriter
from ..teacher.cached import CachedTeacher
from ..teacher.contract import Teacher
from ..teacher.manifest import Kind, Manifest, read_manifest
from ..teacher.servers.client import ServerClient
from ..teacher.servers.signals import ServerSignals
from ..teacher.store import SignalStore
from ..training.processes import keeps_shards, summed
from ..training.stage import Stage
from .batches import stage_batches, stage_held_out
from .cacheable import CacheSize, all_needs, cache_problems, different_steps, manifest_of
from .server import (
    proven_server,
    say_probe,
    server_signals,
    server_teacher,
    with_server_facts,
)
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
        RecipeError: The teacher's signals cannot be kept: it learns, or text is written; or another
            command writes in the folder.
        CacheError: The folder holds signals of something else, the disk is full, or the teacher's
            server gave up; what it answered is kept.
        ServerError: The teacher's server does not suit the recipe.
    """
    problems = cache_problems(setup, kind)
    if problems:
        raise RecipeError("the teacher cannot be kept:\n  " + "\n  ".join(problems))
    if keeps_shards(accelerator):
        raise CacheError(
            "signals are kept by processes that have the whole teacher; leave FSDP off"
        )
    console = console or Console(quiet=True, markup=False)
    if setup.recipe.server is None:
        return _write(setup, folder, kind, accelerator, console, None)
    with proven_server(setup, kind.tokens, console) as (client, probe):
        say_probe(probe, client, console)
        setup = with_server_facts(setup, model=client.model, top_k=kind.tokens)
        size = _write(setup, folder, kind, accelerator, console, client)
        said = f"{client.requests:,} requests, {client.received / 1e6:,.1f} MB received"
        console.print(said, highlight=False)
        return size


def _write(
    setup: Setup,
    folder: Path,
    kind: Kind,
    accelerator: Accelerator,
    console: Console,
    client: ServerClient | None,
) -> CacheSize:
    """Keep the signals of the teacher, which runs here or on the server of a client."""
    manifest = _claimed(folder, manifest_of(setup, kind))
    main = accelerator.is_main_process
    accelerator.wait_for_everyone()  # all have looked before one writes
    with alone(folder, "writing") if main else nullcontext():
        store = SignalStore(folder, 2**62, writer=accelerator.process_index, strict=True)
        if main:
            damaged = store.damaged()
            manifest = manifest.without({file.parent.name for file in damaged})
            manifest.write(folder)
            for file in damaged:
                console.print(f"{file} is damaged and is made again", style="yellow")
                file.unlink()
        accelerator.wait_for_everyone()
        if client:
            writer: CacheWriter | ServerSignals = server_signals(setup, client, store, kind.tokens)
        else:
            writer = cache_writer(setup, kind, store, accelerator)
        if main:
            writer.write_maps(all_needs(setup))
        read = _keep_all(setup, writer, store, accelerator, console)
        tokens = summed({"tokens": read}, accelerator)["tokens"]
        accelerator.wait_for_everyone()
        if main:
            names = [writer.names(stage.teacher_needs()) for stage in setup.stages]
            steps = [different_steps(setup, stage) for stage in setup.stages]
            manifest.with_steps(names, steps).write(folder)
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
    if part.server and part.server.model is None and manifest.server:
        name = str(manifest.server["model"])
        setup = with_server_facts(setup, model=name, top_k=manifest.kind.tokens)
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
        f"{kind} of layer {layer} for {steps - here} of the {steps} steps of stages.{number}"
        for number, stage in enumerate(setup.stages)
        for steps in [different_steps(setup, stage)]
        for (kind, layer), here in teacher.missing(stage.teacher_needs(), number, steps).items()
    ]
    if missing:
        raise CacheError(
            f"{folder} lacks {', '.join(missing)}; run `limbeck cache` with this recipe and"
            " folder, which adds it and resumes where it stopped"
        )
    return teacher


def check_cache(setup: Setup) -> None:
    """See that the kept signals which a recipe names, if any, are those that it needs.

    Raises:
        CacheError: They are not.
    """
    if setup.recipe.teacher and setup.recipe.teacher.cache is not None:
        open_cache(setup, "cpu")


@contextmanager
def teacher_elsewhere(
    setup: Setup, folder: Path, accelerator: Accelerator, console: Console
) -> Iterator[Teacher | None]:
    """The teacher of a run whose signals are cached, or given by a server; None where it runs here.

    Args:
        setup: A checked recipe.
        folder: Of the run.
        accelerator: Tells the device.
        console: For what is found of a server.

    Raises:
        CacheError: The cached signals are not those of the recipe.
        ServerError: The server does not suit the recipe.
    """
    part = setup.recipe.teacher
    if part is None or part.runs_here:
        yield None
    elif part.cache is not None:
        yield open_cache(setup, accelerator.device)
    else:
        with server_teacher(setup, folder, accelerator, console) as teacher:
            yield teacher


def cache_writer(
    setup: Setup, kind: Kind, store: SignalStore, accelerator: Accelerator
) -> CacheWriter:
    """What runs the teacher of a recipe."""
    teacher = setup.models.required_teacher()
    asks = all_needs(setup).predictions
    model = load_teacher(teacher, accelerator, with_head=True if asks else None)
    live = live_teachers(setup, model, accelerator)
    return CacheWriter(live, store, kind, tokens=teacher.shape.token_ids, seed=setup.recipe.seed)


def _keep_all(
    setup: Setup,
    writer: CacheWriter | ServerSignals,
    store: SignalStore,
    accelerator: Accelerator,
    console: Console,
) -> int:
    """Keep every batch of a process; of a server also what it answered before it gave up.

    Returns:
        How many tokens the teacher reads in them, without padding.
    """
    batches = list(_batches(setup))
    number = tokens = 0
    try:
        with ProgressBar("teacher", console=console) as bar:
            for number, (stage, made) in enumerate(batches):
                if number % accelerator.num_processes == accelerator.process_index:
                    batch = made()
                    tokens += int(batch.teacher.mask.sum())
                    if isinstance(writer, ServerSignals):
                        writer.keep(batch, stage.teacher_needs())
                    else:
                        _keep(writer, stage, batch, accelerator)
                bar.show(number + 1, len(batches), f"{store.held_bytes / 1e6:,.0f} MB")
            if isinstance(writer, ServerSignals):
                writer.finish()
    except ServerError as error:
        raise CacheError(
            f"the server gave up at batch {number + 1:,} of {len(batches):,}: {error}. What it"
            f" answered before is stored in {store.folder} and is not asked again: run the same"
            " command to resume"
        ) from error
    finally:
        if isinstance(writer, ServerSignals):
            writer.stop()
            store.flush()
    store.flush()
    return tokens


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
        for step in range(different_steps(setup, stage)):
            yield stage, lambda source=source, step=step: source.batch(step)


def _claimed(folder: Path, manifest: Manifest) -> Manifest:
    """What a folder will hold, once it is seen that it holds nothing else."""
    # A manifest that a kill left half-written says nothing, nor does a lock.
    nothing = (".part", ".lock")
    if folder.exists() and any(place.suffix not in nothing for place in folder.iterdir()):
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
