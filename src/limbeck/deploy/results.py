"""What was measured of each file, as plain results, the verdict, and the choice of a file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..export.origin import Origin
from ..reports.task_results import Interval

VERSION = 1  # of export.json
RESULT = "export.json"


@dataclass(frozen=True)
class Times:
    """Seconds of a forward.

    Attributes:
        cold: Until the first answer of a fresh process, without the start of Python; None of torch.
        rows: Texts at once, tokens a text, median, and 95th percentile.
    """

    cold: float | None
    rows: tuple[tuple[int, int, float, float], ...]

    def median(self, batch: int, length: int) -> float | None:
        """Median seconds of so many texts of so many tokens; None where they were not timed."""
        found = (p50 for *at, p50, _ in self.rows if at == [batch, length])
        return next(found, None)


@dataclass(frozen=True)
class FileCost:
    """What a file costs on this processor.

    Attributes:
        format: Of `formats.FORMATS`.
        engine: That runs it.
        megabytes: Of all its files, in 1e6 bytes.
        threads: That compute.
        peak_memory_bytes: Of a process that runs the file, above its peak before the engine is
            imported; None where the system does not say.
        times: Seconds.
    """

    format: str
    engine: str
    megabytes: float
    threads: int
    peak_memory_bytes: int | None
    times: Times


@dataclass(frozen=True)
class Difference:
    """How far the output of a file is from that of the float32 model in torch, on real texts.

    Attributes:
        largest: Of the absolute differences.
        mean: Of them.
        agreement: Share of answers that are the same class or token; None of vectors and numbers.
        cosine: Mean cosine of the vectors, of texts or of tokens; None of classes and numbers.
        bits: Mean bits of the next token, of torch and of the file; None where the model is no
            decoder.
        flips: How many answers changed, by the class that torch gives.
        alone: Largest difference between a text alone and the same text in a batch.
        r_squared: Of the numbers of a scoring model: 1 less the mean square of the differences over
            the variance of torch's numbers, so that offset and scale count; None of other models.
    """

    largest: float
    mean: float
    agreement: float | None
    cosine: float | None
    flips: Mapping[str, int]
    alone: float
    bits: tuple[float, float] | None = None
    r_squared: float | None = None


@dataclass(frozen=True)
class Scored:
    """A score on a task.

    Attributes:
        task: Its name.
        metric: That is shown.
        rows: That were scored.
        score: With its 95 % interval over redrawn rows.
        split: The file that they come from.
    """

    task: str
    metric: str
    rows: int
    score: Interval
    split: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A file that was made.

    Attributes:
        format: Of `formats.FORMATS`.
        file: Its name; None where it was not written.
        megabytes: In 1e6 bytes.
        difference: To torch in float32.
        scores: On the named tasks.
        times: None where they were not measured.
        kept: The share that decides.
        verdict: In words.
        exact_on: On which processors its sums never saturate.
    """

    format: str
    file: str | None
    megabytes: float
    difference: Difference
    scores: tuple[Scored, ...]
    times: Times | None
    kept: float
    verdict: str
    exact_on: str


@dataclass(frozen=True)
class ExportResult:
    """All files that were made of a model.

    Attributes:
        model: Its name.
        kind: What it says of a text.
        texts: Where the texts of the differences are from, and how many.
        processor: With its threads.
        int8: How weights were rounded, and why; empty without such a file.
        keep: The least share.
        threads: That computed.
        scores: Of torch in float32.
        times: Of torch in float32.
        megabytes: Of its weights in float32.
        candidates: In the order of the formats.
        left_out: Why other formats were not made, by their names.
        default: The format that `limbeck.load` runs; None where no file was written.
        reading: How texts are read: labels, max_length and so on.
        origins: What the cards say of the model, or of those that it was made of.
        notes: How rows of the tasks were read: which are scored, and what is not read of them; and
            what files have in another form.
    """

    model: str
    kind: str
    texts: str
    processor: str
    int8: str
    keep: float
    threads: int
    scores: tuple[Scored, ...]
    times: Times | None
    megabytes: float
    candidates: tuple[Candidate, ...]
    default: str | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    origins: tuple[Origin, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shortest(self) -> tuple[int, int] | None:
        """The smallest number of texts and of tokens that was timed; None without times."""
        return self.times.rows[0][:2] if self.times else None

    def shortest_of(self, times: Times | None) -> float | None:
        """Median seconds of these; None where they were not measured."""
        return times.median(*self.shortest) if times and self.shortest else None

    def to_json(self) -> dict[str, Any]:
        """As it stands in export.json."""
        return {"limbeck_export": VERSION, **asdict(self)}


def kept_share(
    difference: Difference, scores: Sequence[Scored], reference: Sequence[Scored]
) -> tuple[float, str]:
    """The share of the model's score that a file keeps, and of which score.

    Args:
        difference: Decides where no task was named, and where torch has no score on one that a
            share could be taken of.
        scores: Of the file.
        reference: Of torch in float32, on the same tasks.
    """
    shares = [
        (max(0.0, one.score.score / other.score.score), f"{one.metric} on {one.task}")
        for one, other in zip(scores, reference, strict=True)
        if other.score.score > 0
    ]
    if len(shares) < len(scores) or not scores:
        shares.append(_kept_of_outputs(difference))
    return min(shares)


def _kept_of_outputs(difference: Difference) -> tuple[float, str]:
    if difference.bits is not None:
        exact, found = difference.bits
        return min(1.0, exact / max(found, 1e-9)), "bits of the next token"
    if difference.r_squared is not None:
        return max(0.0, difference.r_squared), "R² of its numbers for torch's"
    if difference.agreement is not None:
        return max(0.0, difference.agreement), "answers that agree with torch"
    return max(0.0, difference.cosine or 0.0), "mean cosine to torch's vectors"


def verdict_of(
    kept: float, of: str, *, keep: float, force: bool, wrong: str | None
) -> tuple[str, bool]:
    """What is said of a file, and whether it is written.

    Args:
        kept: The share that it keeps.
        of: Of what.
        keep: The least share.
        force: Write it whatever it keeps.
        wrong: Why its numbers cannot be used, as those that are not finite.
    """
    if wrong:
        return f"not written: {wrong}", False
    if kept >= keep:
        return f"keeps {100 * kept:.2f} % ({of})", True
    shown = f"{100 * kept:.2f}"
    if float(shown) >= 100 * keep:  # as 98.999 %
        shown = f"{100 * kept:.5f}"
    less = f"keeps {shown} % ({of}), less than the {100 * keep:g} % of --keep"
    return (f"written by --force: {less}", True) if force else (f"not written: {less}", False)


def default_format(candidates: Sequence[Candidate], *, keep: float) -> str | None:
    """The written file that is fastest for one text, or the smallest where none was timed.

    Files that are written by `--force` alone are only chosen where there are no others.

    Args:
        candidates: All that were made.
        keep: The least share that a file must keep.
    """
    written = [one for one in candidates if one.file]
    written = [one for one in written if one.kept >= keep] or written
    if not written:
        return None
    timed = [(min(row[2] for row in one.times.rows), one) for one in written if one.times]
    if timed:
        return min(timed, key=lambda pair: pair[0])[1].format
    return min(written, key=lambda one: one.megabytes).format
