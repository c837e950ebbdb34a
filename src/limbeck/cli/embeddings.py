"""The flags of `limbeck evaluate` that score a model's vectors, without fine-tuning."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import EvaluationError
from ..system.choices import PrecisionChoice
from .terminal import console, print_table

if TYPE_CHECKING:
    from ..evaluation.embeddings.encode import Encoder
    from ..evaluation.embeddings.measure import EmbeddingScore

Similarity = Annotated[
    list[str] | None,
    typer.Option(help="Vectors: DIR/NAME of pairs with numbers. May be repeated."),
]
Retrieval = Annotated[
    list[str] | None,
    typer.Option(help="Vectors: DIR/NAME of NAME.queries and NAME.corpus. May be repeated."),
]
Bitext = Annotated[
    list[str] | None,
    typer.Option(help="Vectors: DIR/NAME of texts and translations. May be repeated."),
]
Documents = Annotated[
    str | None, typer.Option(help="Retrieval: the model of the documents, where it is another.")
]
QueryPrompt = Annotated[
    str | None,
    typer.Option(help="Retrieval: name of a prompt of the folder, or a text, before queries."),
]
DocumentPrompt = Annotated[str | None, typer.Option(help="Retrieval: the same before documents.")]
TextPrompt = Annotated[
    str | None, typer.Option(help="Similarity and bitext: the same before every text.")
]
SentencePooling = Annotated[
    str | None,
    typer.Option(
        help="Vectors: cls, mean, max, mean_sqrt_len_tokens, weightedmean or lasttoken, several"
        " joined by +; without it what the folder says, or the mean."
    ),
]
TruncateDim = Annotated[
    int | None, typer.Option(min=1, help="Vectors: keep so many coordinates, the first ones.")
]


@dataclass(frozen=True)
class EmbeddingFlags:
    """What the command line says of vectors; the fields are its parameters."""

    similarity: list[str] | None
    retrieval: list[str] | None
    bitext: list[str] | None
    documents: str | None
    query_prompt: str | None
    document_prompt: str | None
    text_prompt: str | None
    sentence_pooling: str | None
    truncate_dim: int | None
    max_length: int | None
    precision: PrecisionChoice
    split: str | None
    threads: int | None
    format_: str | None

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> "EmbeddingFlags":
        """Those of all parameters that are of vectors.

        Raises:
            EvaluationError: A flag is given beside no task that reads it.
        """
        flags = cls(**{field.name: given[field.name] for field in fields(cls)})
        of_retrieval = ("documents", "query_prompt", "document_prompt")
        unread = [] if flags.retrieval else [n for n in of_retrieval if given[n] is not None]
        if not (flags.similarity or flags.bitext) and flags.text_prompt is not None:
            unread.append("text_prompt")
        if not flags.any:
            unread += [n for n in ("sentence_pooling", "truncate_dim") if given[n] is not None]
        if unread:
            named = " and ".join(f"--{name.replace('_', '-')}" for name in unread)
            raise EvaluationError(
                f"{named} is given, and no task that reads it; name one with --retrieval (for"
                " --text-prompt with --similarity or --bitext), or leave it out"
            )
        return flags

    @property
    def any(self) -> bool:
        """Whether vectors are to be scored."""
        return bool(self.similarity or self.retrieval or self.bitext)


def embedding_scores(model: str, flags: EmbeddingFlags) -> list[dict[str, Any]]:
    """Score the vectors of a model, show the table, and return the results as JSON holds them."""
    from ..evaluation.embeddings import files
    from ..evaluation.embeddings.measure import EmbeddingTasks, Prompts, evaluate_embeddings
    from ..system.progress import showing

    tasks = EmbeddingTasks(
        tuple(files.read_similarity(at, split=flags.split) for at in flags.similarity or ()),
        tuple(files.read_retrieval(at) for at in flags.retrieval or ()),
        tuple(files.read_bitext(at) for at in flags.bitext or ()),
    )
    encoder = _encoder(model, flags, pooling=flags.sentence_pooling, form=flags.format_)
    documents = _encoder(flags.documents, flags) if flags.documents else None
    prompts = Prompts(flags.query_prompt, flags.document_prompt, flags.text_prompt)
    with showing(console):
        scores = evaluate_embeddings(encoder, tasks, documents=documents, prompts=prompts)
    named = f"{model}, {flags.format_}" if flags.format_ else model
    heading = f"{named}, vectors of {encoder.width} coordinates"
    head = ["task", "metric", "score", "95 % interval", "rows"]
    print_table(heading, [head, *(row for score in scores for row in _rows(score))])
    before = {name: text for score in scores for name, text in score.prompts.items() if text}
    for name, text in before.items():
        console.print(f"before every {name}: {text!r}", highlight=False, soft_wrap=True)
    if documents:
        console.print(f"documents by {documents.name}", highlight=False, soft_wrap=True)
    return [score.to_json() for score in scores]


def _encoder(
    name: str, flags: EmbeddingFlags, *, pooling: str | None = None, form: str | None = None
) -> "Encoder":
    """A model or a file of one, after a word on what its folder does not say."""
    from ..deploy.exported_model import ExportedModel, is_exported
    from ..evaluation.embeddings.encode import load_text_encoder
    from ..models.locate import model_of_run
    from ..system.device import choose_device, choose_precision, emulation_warning
    from ..system.progress import warn

    if is_exported(name):
        if flags.max_length is not None:
            raise EvaluationError(
                f"{name!r} is a folder of `limbeck export`, and its file reads as much of a text as"
                " it was exported with; leave --max-length out"
            )
        return ExportedModel(name, format=form, threads=flags.threads).encoder()
    device = choose_device()
    if warning := emulation_warning(choose_precision(flags.precision, device), device):
        warn(console, warning)
    encoder = load_text_encoder(
        model_of_run(name),
        pooling=pooling,
        truncate_dim=flags.truncate_dim,
        max_length=flags.max_length,
        precision=flags.precision,
    )
    for note in encoder.notes:
        console.print(note, highlight=False, soft_wrap=True)
    return encoder


def _rows(score: "EmbeddingScore") -> list[list[str]]:
    return [
        [
            score.task,
            metric,
            f"{100 * found.score:.1f}",
            f"{100 * found.low:.1f} to {100 * found.high:.1f}",
            f"{score.rows:,}",
        ]
        for metric, found in score.scores.items()
    ]
