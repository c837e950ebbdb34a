"""What a model of a run costs, as the report shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
class ModelResult:
    """What a model costs; where only its size was measured, no key of time stands in report.json.

    Attributes:
        name: Folder or hub name.
        parameters: Of the body, and of the vocabulary head of a decoder.
        embedding_parameters: Those of them in embedding tables.
        megabytes: The safetensors on disk, in 1e6 bytes.
        vocabulary_size: Tokens.
        peak_memory_bytes: Weights, and activations of the largest batch; None where the system
            does not say.
        threads: That compute.
        precision: Of weights and arithmetic.
        pieces_per_sentence: Tokens of the text that counts as one sentence.
        cpu_ms_per_sentence: Median for one such text.
        latencies: Every batch size and length that was timed; empty if only the size was measured.
        cpu_ms_per_written_piece: Median for generating one token; None of a model that does not.
    """

    name: str
    parameters: int
    embedding_parameters: int
    megabytes: float
    vocabulary_size: int
    peak_memory_bytes: int | None = None
    threads: int | None = None
    precision: str | None = None
    pieces_per_sentence: int | None = None
    cpu_ms_per_sentence: float | None = None
    latencies: Sequence[Latency] = ()
    cpu_ms_per_written_piece: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain data, with the keys of report.json."""
        plain = asdict(self)
        return plain if self.latencies else {key: plain[key] for key in _SIZES}

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "ModelResult":
        """A model as it stands in report.json."""
        latencies = [Latency(**row) for row in plain.get("latencies", ())]
        return ModelResult(**{**plain, "latencies": latencies})
