"""A model becomes files for ONNX Runtime, each of which is measured before it is kept."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import ExportError
from ..models.quiet import quiet_transformers
from ..run.task_batches import Reading
from ..system.device import describe_device
from ..system.files import whole_folder
from ..tokenization.post_processor import save_framed
from .batches import example_of, outputs_of
from .compare import difference_of
from .graphs import float32_graph, graph_of, write_graph
from .int8_range import Int8Range, int8_range
from .onnx_file import OnnxFile
from .real_texts import real_texts
from .results import (
    Candidate,
    ExportResult,
    Scored,
    Times,
    default_format,
    kept_share,
    verdict_of,
)
from .scores import ScoredTasks, read_tasks, scores_of
from .settings import FILES, FLOAT32, INT8, ExportSettings
from .source import OUTPUTS, Source, load_source
from .tables import report_files
from .timing import LENGTHS, times_of, times_of_file

_CLOSE = 1e-3  # of a float32 file to torch, relative to the largest number
# Tokens of the longest text that is checked: fewer where every token has a whole vocabulary.
_CHECKED, _CHECKED_OF_VOCABULARY = 2048, 512


@dataclass(frozen=True)
class _Proof:
    """What every file is measured on."""

    source: Source
    named: ScoredTasks
    readings: Sequence[Reading]
    reference: tuple[Scored, ...]
    int8: Int8Range
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
    source = load_source(model)
    named = read_tasks(source, settings.tasks, settings.similarity)
    threads, before = settings.threads or torch.get_num_threads(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as place:
            return _exported(source, named, threads, output, settings, Path(place))
    finally:
        torch.set_num_threads(before)


def _exported(
    source: Source,
    named: ScoredTasks,
    threads: int,
    output: Path,
    settings: ExportSettings,
    place: Path,
) -> ExportResult:
    """Make every file in a place of its own, measure it, and write the folder."""
    rows, whence = real_texts(source, named)
    proof = _Proof(
        source=source,
        named=named,
        readings=[source.reader.read(row) for row in rows],
        reference=scores_of(source, source, named),
        int8=int8_range(),
        threads=threads,
        settings=settings,
    )
    first = place / FILES[FLOAT32]
    write_graph(float32_graph(source), first)
    _check_sizes(source, OnnxFile(first, threads))
    candidates = []
    for form in settings.formats:
        file = place / FILES[form]
        if form != FLOAT32:
            write_graph(graph_of(form, first, reduced=proof.int8.reduced), file)
        candidates.append(_measured(proof, form, file))
    result = ExportResult(
        model=Path(source.name).name,
        kind=source.kind,
        texts=whence,
        processor=describe_device(torch.device("cpu")),
        int8=proof.int8.reason if INT8 in settings.formats else "",
        keep=settings.keep,
        threads=threads,
        scores=proof.reference,
        times=_torch_times(proof) if settings.timed else None,
        megabytes=sum(one.nbytes for one in source.module.parameters()) / 1e6,
        candidates=tuple(candidates),
        default=default_format([one for one in candidates if one.file]),
        reading=_reading(source),
    )
    _write(result, source, place, output)
    return result


def _check_sizes(source: Source, file: OnnxFile) -> None:
    """See that the float32 file computes what torch does for one token and for the longest text.

    Raises:
        ExportError: It does not, as where the batch or the length was fixed.
    """
    most = _CHECKED_OF_VOCABULARY if source.kind in ("masked", "causal") else _CHECKED
    longest = min(source.longest, source.reader.limit, most)
    text = example_of(" ".join(["the"] * longest))
    whole = replace(source.reader, limit=longest).read(text)
    short = replace(whole, ids=whole.ids[:1], types=whole.types[:1], begins=whole.begins[:1])
    for readings in ([short], [whole], [whole, short]):
        found = difference_of(source, file, readings)
        if not found.largest < _CLOSE * max(1.0, _largest(source, readings)):
            lengths = [len(one.ids) for one in readings]
            raise ExportError(
                f"the float32 file of {source.name!r} differs from torch by {found.largest:.2g}"
                f" for texts of {lengths} tokens; it would be wrong, so nothing was written"
            )


def _largest(source: Source, readings: Sequence[Reading]) -> float:
    every = outputs_of(source, source.reader, readings, size=len(readings))
    return max(float(abs(one).max()) for one in every)


def _measured(proof: _Proof, form: str, file: Path) -> Candidate:
    """A file beside torch, and whether it is kept."""
    source, settings = proof.source, proof.settings
    forward = OnnxFile(file, proof.threads)
    difference = difference_of(source, forward, proof.readings)
    finite = difference.largest < float("inf")
    scores = scores_of(source, forward, proof.named) if finite else ()
    kept, of = kept_share(difference, scores, proof.reference)
    wrong = None if finite else "it gives numbers that are not finite"
    verdict, written = verdict_of(kept, of, keep=settings.keep, force=settings.force, wrong=wrong)
    times = None
    if settings.timed:
        cold, rows = times_of_file(
            file,
            threads=proof.threads,
            vocabulary=source.vocabulary,
            lengths=proof.lengths,
            seconds=settings.seconds_each,
        )
        times = Times(cold, tuple(rows))
    size = sum(one.stat().st_size for one in file.parent.glob(f"{file.name}*"))
    exact = proof.int8.exact_on if form == INT8 else "any processor"
    return Candidate(
        format=form,
        file=file.name if written else None,
        megabytes=size / 1e6,
        difference=difference,
        scores=scores,
        times=times,
        kept=kept,
        verdict=verdict,
        exact_on=exact,
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
        with whole_folder(output) as part, quiet_transformers(), warnings.catch_warnings():
            for one in result.candidates:
                for file in place.glob(f"{one.file}*") if one.file else ():
                    (part / file.name).write_bytes(file.read_bytes())
            source.config.save_pretrained(part)
            save_framed(source.tokenizer, part)
            for name, content in report_files(result).items():
                (part / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"the files could not be written to {output}: {error}; make room, and export again"
        ) from error
