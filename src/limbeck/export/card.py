"""The model card: what the student is, where it comes from, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from huggingface_hub import EvalResult

from ..models.shapes import Shape
from ..models.task_heads import TaskHead, task_class
from .metadata import card_of, licence_lines, metadata_of
from .origin import Origin

LOW_RANK = (
    "Some layers are low-rank. `import limbeck` tells transformers how to load them; without it"
    " their weights would be random."
)


@dataclass(frozen=True)
class CardFacts:
    """What a model card says.

    Attributes:
        name: Of the student.
        teacher: Name of the teacher; None for plain pretraining.
        initial_student: Name of the model that the run continued to train; None for a new one.
        student: Shape of the student.
        model_type: Of the student.
        stages: A line for each stage.
        text: Where the text came from.
        with_head: Whether the vocabulary head was trained and is there.
        head: Of the task that the student has learned, in place of a vocabulary head.
        sentence_vectors: Whether it is a folder of sentence-transformers.
        low_rank: Whether layers are low-rank, which transformers loads only with limbeck.
        quality: A line of results for each task.
        ensemble: Names of further teachers, whose answers were averaged with those of the first.
        origins: What the cards of the teachers and of the initial student say.
        datasets: On the hub, that it learned from.
        results: Its scores.
    """

    name: str
    teacher: str | None
    initial_student: str | None
    student: Shape
    model_type: str
    stages: list[str]
    text: list[str]
    with_head: bool
    head: TaskHead | None = None
    sentence_vectors: bool = False
    low_rank: bool = False
    quality: Mapping[str, str] = field(default_factory=dict)
    ensemble: tuple[str, ...] = ()
    origins: tuple[Origin, ...] = ()
    datasets: tuple[str, ...] = ()
    results: tuple[EvalResult, ...] = ()


def _example(kind: str) -> list[str]:
    """Lines that load the student."""
    if kind == "SentenceTransformer":
        return [
            "from sentence_transformers import SentenceTransformer",
            "",
            'model = SentenceTransformer("path/to/this/folder")',
            'vectors = model.encode(["one text", "another"])',
        ]
    return [
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f'model = {kind}.from_pretrained("path/to/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
    ]


def class_and_task(
    *, head: TaskHead | None, sentence_vectors: bool, with_head: bool, causal: bool
) -> tuple[str, str]:
    """The class that loads a model, and the hub's name for what it does.

    Args:
        head: Of a task.
        sentence_vectors: Whether its folder is one of sentence-transformers.
        with_head: Whether it has a vocabulary head.
        causal: Whether it is a decoder.
    """
    if head:
        task = "text-classification" if head.kind == "sequence" else "token-classification"
        return task_class(head).__name__, task
    if sentence_vectors:
        return "SentenceTransformer", "sentence-similarity"
    if not with_head:
        return "AutoModel", "feature-extraction"
    if causal:
        return "AutoModelForCausalLM", "text-generation"
    return "AutoModelForMaskedLM", "fill-mask"


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with the hub's metadata on top."""
    origin = f"Distilled from `{facts.teacher}`" if facts.teacher else "Trained from labels"
    if facts.ensemble:
        teachers = ", ".join(f"`{name}`" for name in (facts.teacher, *facts.ensemble))
        origin = f"Distilled from the averaged answers of {teachers}"
    if facts.initial_student:
        origin += f", continued from `{facts.initial_student}`,"
    shape = facts.student
    kind, task = class_and_task(
        head=facts.head,
        sentence_vectors=bool(facts.sentence_vectors),
        with_head=facts.with_head,
        causal=shape.causal,
    )
    metadata = metadata_of(
        facts.name,
        facts.origins,
        library="sentence-transformers" if facts.sentence_vectors else "transformers",
        pipeline_tag=task,
        tags=["distillation", "limbeck"],
        datasets=facts.datasets,
        results=facts.results,
    )
    lines = [
        f"# {escape(facts.name, quote=False)}",
        "",
        f"{origin} with limbeck: {facts.model_type}, {shape.num_hidden_layers} layers, hidden size"
        f" {shape.hidden_size}, {shape.num_attention_heads} heads, feed-forward"
        f" {shape.intermediate_size}, vocabulary {shape.vocab_size}.",
        "",
        *(
            [
                f"{LOW_RANK} (The recipe's `low_rank: {{export: dense}}` leaves a folder that needs"
                " no limbeck.)",
                "",
            ]
            if facts.low_rank
            else []
        ),
        "```python",
        *(["import limbeck"] if facts.low_rank else []),
        *_example(kind),
        "```",
        "",
        "## Training",
        "",
        *[f"- {line}" for line in facts.stages],
        f"- text: {escape(', '.join(facts.text), quote=False)}",
        "",
    ]
    if facts.quality:
        quality = (f"- {escape(k, quote=False)}: {v}" for k, v in facts.quality.items())
        lines += ["## Quality", "", *quality, ""]
    lines += [
        *licence_lines(facts.origins),
        "The weights follow the licence of the teacher and of the text they learned from.",
    ]
    return card_of(metadata, lines)
