"""A model becomes files for other runtimes, each of which is measured before it is kept."""

import errno
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ExportError
from ..evaluation.examples import Reading
from ..evaluation.leaks import leak_notes
from ..evaluation.tasks import Example
from ..export.origin import origin_of
from ..models.low_rank_layers import low_rank_ranks
from ..models.quiet import quiet_transformers
from ..recipe.task_rows import text_of
from ..run.card_facts import origins_of_model
from ..system.device import describe_device
from ..system.files import whole_folder
from ..system.int8_range import int8_range
from ..tokenization.post_processor import save_tokenizer
from .arrays import Forward
from .compare import difference_of
from .engines import open_file
from .formats import FLOAT32, FORMATS, formats_of, low_rank_notes
from .making import Making, make_file
from .real_texts import calibration_texts, real_texts
from .report.card import export_card
from .report.tables import report_files
from .results import (
    Candidate,
    ExportResult,
    Scored,
    Times,
    default_format,
    kept_share,
    verdict_of,
)
from .scores import ScoredTasks, check_names, read_tasks, row_notes, scores_of
from .settings import ExportSettings
from .source import OUTPUTS, Source, load_source
from .timing import LENGTHS, times_of, times_of_file


@dataclass(frozen=True)
class _Proof:
    """What every file is measured on."""

    source: Source
    named: ScoredTasks
    rows: Sequence[Example]
    readings: Sequence[Reading]
    reference: tuple[Scored, ...]
    threads: int
    settings: ExportSettings

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the timed texts; of a model that reads less, all that it reads."""
        return tuple(dict.fromkeys(min(length, self.source.longest) for length in LENGTHS))


def export(model: str, output: Path, settings: ExportSettings) -> ExportResult:
    """Write the files of a model that keep enough of it, and what was measured of all.

    Args:
        model: A model or run folder, a hub name, or ``minilm-demo``.
        output: The folder, new or empty; it appears whole or not at all.
        settings: What is made and kept.

    Raises:
        ExportError: The settings cannot be carried out, or the model cannot be exported.
        ModelError: The model cannot be loaded.
        DataError: A task cannot be read.
    """
    settings.check(output)
    check_names(settings.tasks, settings.similarity)
    source = load_source(model)
    formats, left_out = formats_of(source.kind, settings.formats)
    named = read_tasks(source, settings.tasks, settings.similarity)
    threads, before = settings.threads or torch.get_num_threads(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as place:
            rows, whence = real_texts(source, named)
            proof = _Proof(
                source=source,
                named=named,
                rows=rows,
                readings=[source.reader.read(row) for row in rows],
                reference=scores_of(source, source, named),
                threads=threads,
                settings=settings,
            )
            candidates, failed = _candidates(proof, formats, Path(place))
            result = _result(proof, candidates, whence, {**left_out, **failed})
            _write(result, source, Path(place), output)
    finally:
        torch.set_num_threads(before)
    return result


def _candidates(
    proof: _Proof, formats: Sequence[str], place: Path
) -> tuple[list[Candidate], dict[str, str]]:
    """Every file, made in a folder of its own and measured, and why others could not be made."""
    source = proof.source
    rows = calibration_texts(source, proof.named, compared=proof.rows)
    texts = [text_of(row) for row in rows]
    making = Making(source, place, [source.reader.read(row) for row in rows], texts)
    found, failed = [], {}
    for name in formats:
        file = place / name / FORMATS[name].file
        file.parent.mkdir()
        try:
            make_file(name, making, file)
        except ExportError as error:
            if proof.settings.formats is not None or name == FLOAT32:
                raise
            failed[name] = str(error)
            continue
        forward = open_file(file, proof.threads)
        exact_on = making.int8.exact_on if FORMATS[name].saturates else "any processor"
        found.append(_measured(proof, name, file, forward, exact_on))
    return found, failed


def _result(
    proof: _Proof, candidates: Sequence[Candidate], whence: str, left_out: Mapping[str, str]
) -> ExportResult:
    source, settings = proof.source, proof.settings
    in_int8 = any(FORMATS[one.format].saturates for one in candidates)
    return ExportResult(
        model=Path(origin_of(source.name).name).name,
        kind=source.kind,
        texts=whence,
        processor=describe_device(torch.device("cpu")),
        int8=int8_range().reason if in_int8 else "",
        keep=settings.keep,
        threads=proof.threads,
        scores=proof.reference,
        times=_torch_times(proof) if settings.timed else None,
        megabytes=sum(one.nbytes for one in source.module.parameters()) / 1e6,
        candidates=tuple(candidates),
        default=default_format(candidates, keep=settings.keep),
        left_out=left_out,
        reading=_reading(source),
        origins=origins_of_model(source.name),
        notes=(
            *_row_notes(proof),
            *low_rank_notes(len(low_rank_ranks(source.config)), [one.format for one in candidates]),
        ),
    )


def _row_notes(proof: _Proof) -> tuple[str, ...]:
    tasks = proof.named.tasks
    leaks = (note for task in tasks for note in leak_notes(task))
    return (*leaks, *row_notes(tasks, proof.source.reader))


def _measured(proof: _Proof, name: str, file: Path, forward: Forward, exact_on: str) -> Candidate:
    """A file beside torch, and whether it is kept."""
    source, settings = proof.source, proof.settings
    difference = difference_of(source, forward, proof.readings)
    finite = difference.largest < float("inf")
    scores = scores_of(source, forward, proof.named) if finite else ()
    kept, of = kept_share(difference, scores, proof.reference)
    wrong = None if finite else "it gives numbers that are not finite"
    verdict, written = verdict_of(kept, of, keep=settings.keep, force=settings.force, wrong=wrong)
    times = None
    if settings.timed:
        times = times_of_file(
            file,
            threads=proof.threads,
            vocabulary=source.vocabulary,
            lengths=proof.lengths,
            seconds=settings.seconds_each,
        )
    size = sum(one.stat().st_size for one in file.parent.iterdir())
    return Candidate(
        format=name,
        file=file.name if written else None,
        megabytes=size / 1e6,
        difference=difference,
        scores=scores,
        times=times,
        kept=kept,
        verdict=verdict,
        exact_on=exact_on,
    )


def _torch_times(proof: _Proof) -> Times:
    rows = times_of(
        proof.source,
        proof.source.inputs,
        vocabulary=proof.source.vocabulary,
        lengths=proof.lengths,
        seconds=proof.settings.seconds_each,
    )
    return Times(None, tuple(rows))


def _reading(source: Source) -> dict[str, Any]:
    """What a program must know to read texts and answers."""
    encoder = source.encoder
    return {
        "inputs": list(source.inputs),
        "output": OUTPUTS[source.kind],
        "max_length": min(source.reader.limit, source.longest),
        "segments": source.reader.segments,
        "labels": list(source.head.labels) if source.head else [],
        "scores": bool(source.head and source.head.scores),
        "multi_label": bool(source.head and source.head.multi_label),
        "prompts": dict(encoder.prompts) if encoder else {},
        "default_prompt": encoder.default_prompt if encoder else "",
        "lowercase": bool(encoder and encoder.lowercase),
    }


def _write(result: ExportResult, source: Source, place: Path, output: Path) -> None:
    """The kept files, the tokenizer, the configuration and the report; whole or not at all.

    Raises:
        ExportError: The folder could not be written, for example because the disk is full.
    """
    try:
        with (
            whole_folder(output.resolve(), replaces=False) as part,
            quiet_transformers(),
            warnings.catch_warnings(),
        ):
            for one in result.candidates:
                for file in (place / one.format).iterdir() if one.file else ():
                    (part / file.name).write_bytes(file.read_bytes())
            source.config.save_pretrained(part)
            save_tokenizer(source.tokenizer, part, segments=source.reader.segments)
            texts = {**report_files(result), "README.md": export_card(result)}
            for name, content in texts.items():
                (part / name).write_text(content, encoding="utf-8")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        change = "make room, and export again" if full else "export again to another folder"
        raise ExportError(
            f"the files could not be written to {output}: {error}; {change}"
        ) from error
