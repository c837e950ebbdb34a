"""The model card: what the student is, where it comes from, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..models.shapes import Shape


@dataclass(frozen=True)
class CardFacts:
    """What the card says.

    Attributes:
        name: Of the student.
        teacher: Name of the teacher; None for plain pretraining.
        begun_from: Name of the student that the run went on with, if it was trained before.
        student: Its shape.
        model_type: Its model type.
        stages: A line for each.
        text: Where the text came from.
        with_head: Whether the vocabulary head was trained and is there.
        factored: Whether layers stand in two factors, which only limbeck can load.
        quality: A line of results for each task.
    """

    name: str
    teacher: str | None
    begun_from: str | None
    student: Shape
    model_type: str
    stages: list[str]
    text: list[str]
    with_head: bool
    factored: bool = False
    quality: Mapping[str, str] = field(default_factory=dict)


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with the hub's metadata on top."""
    origin = f"Distilled from `{facts.teacher}`" if facts.teacher else "Trained from labels"
    if facts.begun_from:
        origin += f", going on from `{facts.begun_from}`,"
    with_head = "AutoModelForCausalLM" if facts.student.causal else "AutoModelForMaskedLM"
    task = "text-generation" if facts.student.causal else "fill-mask"
    kind = with_head if facts.with_head else "AutoModel"
    shape = facts.student
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {task if facts.with_head else 'feature-extraction'}",
        "tags: [distillation, limbeck]",
        "---",
        "",
        f"# {facts.name}",
        "",
        f"{origin} with limbeck: {facts.model_type}, {shape.num_hidden_layers} layers, hidden size"
        f" {shape.hidden_size}, {shape.num_attention_heads} heads, feed-forward {shape.intermediate_size}, vocabulary"
        f" {shape.vocab_size}.",
        "",
        *(
            [
                "Some layers stand in two factors. `import limbeck` tells transformers how to load"
                " them; without it they would be random. (The recipe's `low_rank: {export: dense}`"
                " leaves a folder that needs no limbeck.)",
                "",
            ]
            if facts.factored
            else []
        ),
        "```python",
        *(["import limbeck"] if facts.factored else []),
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f'model = {kind}.from_pretrained("path/to/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        "```",
        "",
        "## Training",
        "",
        *[f"- {line}" for line in facts.stages],
        f"- text: {', '.join(facts.text)}",
    ]
    if facts.quality:
        lines += ["", "## Quality", "", *[f"- {k}: {v}" for k, v in facts.quality.items()]]
    lines += [
        "",
        "The weights follow the licence of the teacher and of the text they learned from.",
    ]
    return "\n".join(lines) + "\n"
