"""What limbeck finds in a model, and what works with it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from ...errors import ModelError
from ...reports.tables import Table
from ..architecture import Architecture
from ..auto_classes import empty_model, whole_class
from ..load import load_config
from ..locate import GGUF, locate, model_of_run
from ..low_rank_layers import add_low_rank_layers, low_rank_ranks
from ..modules import parameter_counts
from ..quiet import quiet_transformers
from ..sentences.load import chain_of
from ..shapes import Shape, shape_of
from ..task_heads import TaskHead, head_of, listed
from ..weight_files import read_headers, weight_files
from ..weight_headers import has_vocabulary_head
from . import ARCHITECTURES
from .abilities import abilities
from .attending import layers_with_attention
from .lookup import (
    architecture_of,
    config_of_type,
    proof_of,
)
from .proposal import as_yaml
from .quirks import quirks


@dataclass(frozen=True)
class Inspected:
    """What is known of a model.

    Attributes:
        name: As the user gave it.
        model_type: transformers' name of its family.
        row: Whether the architecture is a row of the table, or a proposal that was proven.
        architecture: Where its parts are.
        recipe: The same in one line, as a recipe has it.
        shape: Its sizes.
        parameters: The number of all parameters.
        embeddings: Those in embedding tables.
        precisions: The number of weights in the files by precision; empty where no file was read.
        attending: The layers that have queries, keys and values.
        task_head: Of a model that was fine-tuned on a task.
        vectors: What a folder of sentence-transformers says of the vectors of texts, in words.
        works: What works with it: yes, no, or on which condition.
        quirks: In what its family differs from others.
        missing: What of a proposal did not hold, each with the reason.
    """

    name: str
    model_type: str
    row: Literal["table", "proposal"]
    architecture: Architecture
    recipe: str
    shape: Shape
    parameters: int
    embeddings: int
    precisions: Mapping[str, int]
    attending: list[int]
    task_head: TaskHead | None
    vectors: Mapping[str, str]
    works: Mapping[str, str]
    quirks: list[str]
    missing: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def inspect_model(name: str | None, *, model_type: str | None = None) -> Inspected:
    """What is known of a model, or of a type with transformers' default sizes.

    Args:
        name: A folder, a run folder, a GGUF file or a hub name; its weights are not read.
        model_type: In place of a name.

    Raises:
        ModelError: Both or none of the two are given, the configuration cannot be read, or the
            row that is proposed for its type does not hold.
    """
    if (name is None) == (model_type is None):
        raise ModelError("give either a model, or a type of models with --type")
    place = None if name is None else model_of_run(name)
    config = load_config(place) if place is not None else config_of_type(model_type or "")
    known = config.model_type in ARCHITECTURES
    row = architecture_of(config)
    attending = layers_with_attention(config, row)
    works = asdict(abilities(row, config))
    if place is not None and row.head and has_vocabulary_head(place, architecture=row) is False:
        works["logits"] = "no trained head in its files"
    if low_rank_ranks(config):
        works |= dict.fromkeys(("copy", "low_rank"), "not of a model with low-rank layers")
    parameters, embeddings = _counts(config, row)
    chain = None if place is None else chain_of(place)
    return Inspected(
        name=name or config.model_type,
        model_type=config.model_type,
        row="table" if known else "proposal",
        architecture=row,
        recipe=as_yaml(row),
        shape=shape_of(config, row),
        parameters=parameters,
        embeddings=embeddings,
        precisions={} if place is None else _precisions(place),
        attending=attending,
        task_head=None if place is None else head_of(config),
        vectors=dict(chain.lines()) if chain else {},
        works=works,
        quirks=quirks(row, config.model_type),
        missing=() if known else proof_of(config).missing,
    )


def _counts(config: Any, row: Architecture) -> tuple[int, int]:
    with quiet_transformers():
        model = empty_model(whole_class(row), config)
    add_low_rank_layers(model, low_rank_ranks(config))
    return parameter_counts(model)


def _precisions(place: str) -> dict[str, int]:
    """Numbers of weights by the precision of the file; none where the files are not here."""
    counts: Counter[str] = Counter()
    for shape, kind in _headers(locate(place)):
        counts[kind] += prod(shape)
    return dict(counts.most_common())


def _headers(located: str) -> list[tuple[tuple[int, ...], str]]:
    if located.endswith(GGUF):
        from ..gguf import gguf_header  # needs the extra `gguf`

        tensors = gguf_header(Path(located)).tensors.values()
        return [(tensor.shape, tensor.kind) for tensor in tensors]
    return [(h.shape, h.kind) for h in read_headers(weight_files(located) or []).values()]


def inspection_tables(found: Inspected) -> list[tuple[str, Table]]:
    """What is known of a model, as tables with their headings."""
    row, shape = found.architecture, found.shape
    source = "in the table" if found.row == "table" else "proposed, and proven on a tiny model"
    total, own = found.parameters, found.embeddings
    kinds = ", ".join(f"{kind} ({count / 1e6:,.1f}M)" for kind, count in found.precisions.items())
    groups = shape.num_key_value_heads or shape.num_attention_heads
    about = [
        ["", ""],
        ["type", f"{found.model_type} ({source})"],
        ["kind", "decoder" if row.causal else "encoder"],
        ["layers", f"{shape.num_hidden_layers} at {row.layers}"],
        ["queries", row.query_norm or row.query or "not found"],
        ["keys", row.key_norm or row.key or "not found"],
        ["values", row.value or "not found"],
        ["layers with them", _ranges(found.attending)],
        ["head", ", ".join(row.head) or "none"],
        ["task head", _task_head(found.task_head)],
        ["positions", f"{row.positions}, {shape.max_position_embeddings:,} tokens at most"],
        ["hidden size", f"{shape.hidden_size:,}"],
        ["heads", f"{shape.num_attention_heads}, of keys and values {groups}"],
        ["feed-forward", f"{shape.intermediate_size:,}"],
        ["vocabulary", f"{shape.vocab_size:,}"],
        ["parameters", f"{total / 1e6:,.1f}M, {own / 1e6:,.1f}M in embeddings"],
        ["files", kinds or "not read"],
        ["quirks", ", ".join(found.quirks) or "none"],
    ]
    works = [["what", "works"]]
    works += [[name, said] for name, said in found.works.items() if said]
    tables = [(found.name, about), ("What works", works)]
    if found.vectors:
        vectors = [["what", "value"], *map(list, found.vectors.items())]
        tables.insert(1, ("Sentence vectors", vectors))
    if found.missing:
        lines = [said.split(": ", 1) for said in found.missing]
        tables.append(("What did not hold", [["what", "why"], *lines]))
    return tables


def _task_head(head: TaskHead | None) -> str:
    if head is None or head.scores:
        return head.about if head else "none"
    return f"{head.about}, {len(head.labels):,} labels: {listed(head.labels)}"


def _ranges(numbers: list[int]) -> str:
    """Numbers with runs shortened.

    >>> _ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) or "none"
