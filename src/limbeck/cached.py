"""A recipe's teacher, run once over its text; its signals are kept for any number of students."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console

from .activations import Needs
from .assemble import live_teacher
from .batch import Batch
from .build import Setup
from .corpora import stage_batches, stage_held_out
from .data.json_lines import file_of_split
from .errors import CacheError, RecipeError
from .files import checksum
from .objectives.output import Output
from .pretrained import language_model_class, load_model, locate
from .teacher.cached import CachedTeacher, CacheWriter
from .teacher.live import LiveTeacher
from .teacher.manifest import FORMAT, Kind, Manifest, read_manifest
from .teacher.store import SignalStore
from .tokenization.masking import Masking
from .tokenization.packing import tokenizer_hash
from .training.processes import keeps_shares
from .training.records import ProgressBar
from .training.stages import Stage

_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class CacheSize:
    """What the signals of a recipe take.

    Attributes:
        bytes_a_token: Of the text that is learned from.
        total: Bytes, with the held-out text.
    """

    bytes_a_token: float
    total: int


def write_cache(
    setup: Setup,
    folder: Path,
    kind: Kind,
    accelerator: Accelerator,
    *,
    console: Console | None = None,
) -> CacheSize:
    """Keep all that the recipe's objectives will ask of the teacher; goes on where it stands.

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
    faults = cache_faults(setup, kind)
    if faults:
        raise RecipeError("the teacher cannot be kept:\n  " + "\n  ".join(faults))
    if keeps_shares(accelerator) and accelerator.num_processes > 1:
        raise CacheError(
            "signals are kept by processes that have the whole teacher; leave FSDP off"
        )
    console = console or Console(quiet=True)
    manifest = _manifest(setup, kind)
    manifest = _claim(folder, manifest, write=accelerator.is_main_process)
    store = SignalStore(folder, 2**62, writer=accelerator.process_index, strict=True)
    if accelerator.is_main_process:
        for file in store.damaged():
            console.print(f"{file} is damaged and is written anew", style="yellow")
            file.unlink()
    accelerator.wait_for_everyone()
    writer = cache_writer(setup, kind, store, accelerator)
    if accelerator.is_main_process:
        writer.write_maps(_all_needs(setup))
    with ProgressBar("teacher", console=console) as bar:
        batches = list(_batches(setup))
        for number, (stage, batch) in enumerate(batches):
            if number % accelerator.num_processes == accelerator.process_index:
                _keep(writer, stage, batch(), accelerator)
            bar.show(number + 1, len(batches), f"{store.held_bytes / 1e6:,.0f} MB")
    store.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        replace(manifest, complete=True).write(folder)
    tokens = sum(s.steps * s.batch_size for s in setup.stages) * setup.recipe.data.length
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
    mine = _manifest(setup, manifest.kind)
    if different := manifest.differing(mine):
        raise CacheError(
            f"{folder} holds signals of something else: {'; '.join(different)}. Run `limbeck"
            " cache` with this recipe into another folder"
        )
    if short := manifest.too_short_for(mine):
        raise CacheError(
            f"{folder} is too short: {'; '.join(short)}. Run `limbeck cache` with this recipe and"
            " folder, which goes on where it ends"
        )
    if not manifest.complete:
        raise CacheError(f"{folder} is not complete; run the same `limbeck cache` command again")
    if faults := cache_faults(setup, manifest.kind):
        raise CacheError(f"{folder} does not serve this recipe: {'; '.join(faults)}")
    teacher = CachedTeacher.opened(folder, manifest.kind, device)
    if missing := teacher.missing(_all_needs(setup)):
        raise CacheError(
            f"{folder} lacks {', '.join(f'{kind} of layer {layer}' for kind, layer in missing)},"
            " which the recipe asks for; run `limbeck cache` with this recipe and folder, which"
            " adds it"
        )
    return teacher


def cache_faults(setup: Setup, kind: Kind) -> list[str]:
    """Why the teacher of a recipe cannot be run beforehand, or not be kept in this way."""
    faults = []
    if setup.recipe.teacher is None or not _all_needs(setup).anything:
        faults.append("the recipe asks nothing of a teacher; leave the cache out")
    for number, stage in enumerate(setup.stages):
        place = f"stages.{number}"
        if stage.mixed is not None:
            faults.append(f"{place}: the teacher itself learns in a mixed stage")
        if stage.policy is not None and stage.policy.rule is not None:
            faults.append(f"{place}.policy: text is written while the student learns; use corpus")
        if kind.logits == "exact":
            continue
        for name, objective in stage.objectives.items():
            if not objective.teacher_needs().predictions:
                continue
            fault = _kind_fault(objective, kind, stage.alignment)
            if fault:
                faults.append(f"{place}.objectives.{name}: {fault}")
    return faults


def _kind_fault(objective: object, kind: Kind, aligned: bool) -> str | None:
    if not isinstance(objective, Output) or aligned:
        return f"needs every logit, and {kind.logits} keeps some; keep them as exact"
    if kind.logits == "top_k":
        if objective.vocabulary is not None and kind.pieces >= objective.vocabulary:
            return f"compares {objective.vocabulary} pieces; keep fewer of them, or exact logits"
        short = objective.signal == "top_k" and objective.pieces > kind.pieces
        return f"asks for {objective.pieces} pieces; keep as many" if short else None
    if objective.divergence != "forward_kl" or objective.temperature != 1.0:
        return "samples stand for forward_kl at temperature 1 alone; keep logits as exact"
    return None


def cache_size(setup: Setup, kind: Kind) -> CacheSize:
    """What the signals of a recipe will take, before a weight is loaded.

    Whole sequences are counted, and as many predicted pieces as masking hides.
    """
    anatomy, config = setup.models.teacher_anatomy, setup.models.teacher_config
    if anatomy is None:
        raise RecipeError("this recipe has no teacher; name one")
    with torch.device("meta"):
        model = language_model_class(causal=anatomy.causal).from_config(config)
    writer = CacheWriter(
        LiveTeacher(model, anatomy), SignalStore(Path(), 0), kind, pieces=0, seed=0
    )
    width = setup.models.teacher.hidden if setup.models.teacher else 0
    element = _BYTES[setup.recipe.training.precision]
    total = tokens = 0.0
    for number, stage in enumerate(setup.stages):
        masking = setup.maskings[number]
        share = masking.share if isinstance(masking, Masking) else 1.0
        of_kind = {
            "predictions": share * width * element,
            "top_pieces": share * kind.pieces * 4,
            "top_logs": share * (kind.pieces + 1) * 2,
            "drawn": share * kind.pieces * 4,
        }
        names = writer.names(stage.teacher_needs())
        here = stage.steps * stage.batch_size * setup.recipe.data.length
        a_token = sum(of_kind.get(name[0], width * element) for name in names)
        total += a_token * here
        tokens += here
    return CacheSize(total / tokens, round(total))


def cache_writer(
    setup: Setup, kind: Kind, store: SignalStore, accelerator: Accelerator
) -> CacheWriter:
    """What runs the teacher of a recipe."""
    part, shape, anatomy = setup.recipe.teacher, setup.models.teacher, setup.models.teacher_anatomy
    if part is None or shape is None or anatomy is None:
        raise RecipeError("this recipe has no teacher; name one")
    asks = _all_needs(setup).predictions
    model = load_model(part.model, anatomy=anatomy, with_head=True if asks else None)
    live: LiveTeacher = live_teacher(setup, model, accelerator)
    return CacheWriter(
        live, store, kind, pieces=shape.pieces or shape.vocabulary, seed=setup.recipe.seed
    )


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


def _all_needs(setup: Setup) -> Needs:
    found = Needs()
    for stage in setup.stages:
        found |= stage.teacher_needs()
    return found


def _claim(folder: Path, manifest: Manifest, *, write: bool) -> Manifest:
    """See that a folder holds nothing else, and say in it what it will hold."""
    if folder.exists() and any(folder.iterdir()):
        before = read_manifest(folder)
        different = before.differing(manifest)
        if before.kind != manifest.kind:
            different.append(f"predictions are kept as {manifest.kind} and were {before.kind}")
        if different:
            raise CacheError(
                f"{folder} holds signals of something else: {'; '.join(different)}. Use another"
                " folder"
            )
        longest = [max(pair) for pair in zip(before.steps, manifest.steps, strict=True)]
        manifest = replace(manifest, steps=longest)
    if write:
        manifest.write(folder)
    return manifest


def _manifest(setup: Setup, kind: Kind) -> Manifest:
    """What signals of this recipe would be of."""
    recipe, models = setup.recipe, setup.models
    data = recipe.data
    model = recipe.teacher.model if recipe.teacher else ""
    identity = {
        "teacher": _of_model(locate(model)),
        "student.tokenizer": tokenizer_hash(models.tokenizer),
        "data": data.model_dump_json(exclude={"text", "prompts"}),
        "seed": str(recipe.seed),
        "training.precision": recipe.training.precision,
    }
    if models.teacher_tokenizer is not None:
        identity["teacher.tokenizer"] = tokenizer_hash(models.teacher_tokenizer)
    for number, source in enumerate(data.text):
        file = Path(source.path)
        found = checksum(file) if file.exists() else f"{source.path} ({source.split})"
        identity[f"data.text.{number}"] = f"{found} x {source.weight:g} of {source.column}"
    for number, place in enumerate(data.prompts):
        identity[f"data.prompts.{number}"] = checksum(file_of_split(Path(place), "train"))
    for number, stage in enumerate(recipe.stages):
        align = stage.alignment
        decides = {
            "batch_size": stage.batch_size,
            "masking": str(setup.maskings[number]),
            "alignment": str(align and (align.kind, align.teacher_reads)),
        }
        identity |= {f"stages.{number}.{name}": str(value) for name, value in decides.items()}
    return Manifest(FORMAT, model, kind, identity, [stage.steps for stage in setup.stages])


def _of_model(place: str) -> str:
    """What a folder holds; the name of a model on the hub."""
    files = [Path(place) / "config.json", *sorted(Path(place).glob("*.safetensors"))]
    return checksum(*files) if files[0].is_file() else place
