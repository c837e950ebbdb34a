"""The student as a plain transformers folder, which loads where limbeck is not installed."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import TrainingError
from ..files import whole_folder
from ..pretrained import quiet_transformers


def export_student(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    with_head: bool,
    card: str,
) -> None:
    """Write config, safetensors, tokenizer and model card; whole, or not at all.

    Args:
        student: Projections are no part of it and are never exported.
        tokenizer: Written beside it.
        folder: Replaced if it is there.
        with_head: Keep the vocabulary head; without training it would be noise.
        card: The text of README.md.

    Raises:
        TrainingError: It could not be written, as when the disk is full.
    """
    model: Any = student if with_head else student.base_model
    try:
        with whole_folder(folder) as part, quiet_transformers():
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            (part / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"the student could not be written to {folder}: {error}. The last checkpoint is whole;"
            " make room and run the same command again"
        ) from error
