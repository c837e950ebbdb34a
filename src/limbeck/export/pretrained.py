"""The student as a plain transformers folder, which loads without limbeck installed."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import TrainingError
from ..generation.ends import save_with_ends
from ..models.quiet import quiet_transformers
from ..models.task_heads import is_task_class
from ..system.files import whole_folder
from ..tokenization.post_processor import save_framed, save_tokenizer


def export_student(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    with_head: bool,
    card: str,
    ends: tuple[int, ...] = (),
) -> None:
    """Write config, safetensors, tokenizer and model card; whole, or not at all.

    Args:
        student: Projections are not part of the student and are never exported.
        tokenizer: Written beside it, with what was around its texts: `frame_of` of a language
            model, nothing but the tokenizer's own frame of a model with the head of a task.
        folder: Replaced if it is there.
        with_head: Keep the vocabulary head; without training it would be noise.
        card: The text of README.md.
        ends: Token ids that end what a decoder generates: its configuration and its generation
            configuration name them all, so that transformers stops at the same tokens as limbeck.

    Raises:
        TrainingError: The folder could not be written, for example because the disk is full.
    """
    model: Any = student if with_head else student.base_model
    segments = getattr(model.config, "type_vocab_size", 0) or 0
    try:
        with whole_folder(folder) as part, quiet_transformers():
            if ends:
                save_with_ends(model, part, ends)
            else:
                model.save_pretrained(part)
            if is_task_class(type(student)):
                save_tokenizer(tokenizer, part, segments=segments)
            else:
                save_framed(tokenizer, part)
            (part / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"the student could not be written to {folder}: {error}. The last checkpoint is whole;"
            " make room and run the same command again"
        ) from error
