"""What a model costs, as it is measured and as the report shows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

_SIZES = ("name", "parameters", "embedding_parameters", "megabytes", "vocabulary_size")


@dataclass(frozen=True)
class Latency:
    """How long one forward of a batch takes, without padding; seconds.

    Attributes:
        batch: Texts at once.
        length: Tokens a text.
        p50: Median.
        p95: 95th percentile.
    """

    batch: int
    length: int
    p50: float
    p95: float


@dataclass(frozen=True)
class Cost:
    """What a model costs; where only its size was measured, JSON has no key of memory and time.

    Attributes:
        parameters: Of the body without a pooler, and of the vocabulary head of a decoder; tied
            weights once.
        embedding_parameters: Those of them in `torch.nn.Embedding` modules: tables of
            tokens, positions and segments, without projections and normalisation.
        megabytes: The safetensors on disk, in 1e6 bytes; of a hub name, as float32.
        vocabulary_size: Tokens.
        peak_memory_bytes: Peak memory of the process above its peak before loading: all weights,
            memory-mapped ones too, and the activations of the largest batch. None where the
            system does not say.
        threads: That compute.
        precision: Of weights and arithmetic.
        pieces_per_sentence: Tokens of the text that counts as one sentence.
        cpu_ms_per_sentence: Median for one such text.
        latencies: Every batch size and length that was timed; empty if only the size was measured.
        cpu_ms_per_written_piece: Median for generating one more token after such a text, greedily,
            with a cache; None of an encoder, or without a vocabulary head.
    """

    parameters: int
    embedding_parameters: int
    megabytes: float
    vocabulary_size: int
    peak_memory_bytes: int | None = None
    threads: int | None = None
    precision: str | None = None
    pieces_per_sentence: int | None = None
    cpu_ms_per_sentence: float | None = None
    latencies: tuple[Latency, ...] = ()
    cpu_ms_per_written_piece: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        plain = asdict(self)
        sizes = {key: plain[key] for key in _SIZES if key in plain}
        return {**sizes, **plain} if self.latencies else sizes

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The same from plain data."""
        latencies = tuple(Latency(**row) for row in plain.get("latencies", ()))
        return cls(**{**plain, "latencies": latencies})


@dataclass(frozen=True, kw_only=True)
class ModelResult(Cost):
    """What a model of a run costs, with its name.

    Attributes:
        name: Folder or hub name.
    """

    name: str
