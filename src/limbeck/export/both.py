"""The teacher of both vocabularies that a mixed stage leaves, as a plain transformers folder.

One file more says where its own vocabulary ends and the student's begins.
"""

import json
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..errors import TrainingError
from ..models.architecture import Architecture
from ..models.load import load_model
from ..models.quiet import quiet_transformers
from ..student.mixed_vocabulary import MixedVocabulary
from ..system.files import whole_folder

_FACTS = "mixed.json"


def export_both(mixed: MixedVocabulary, tokenizer: PreTrainedTokenizerFast, run: Path) -> None:
    """Write the teacher of both vocabularies into the run folder, whole or not at all.

    Args:
        mixed: As its stage has trained it.
        tokenizer: The teacher's; the ids of the student's tokens follow its own.
        run: The run folder.

    Raises:
        TrainingError: The folder could not be written, for example because the disk is full.
    """
    facts = {"student_from": mixed.embedding.student_from}
    try:
        with whole_folder(both_folder(run)) as folder, quiet_transformers():
            mixed.plain().save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"the teacher of both vocabularies could not be written to {run}: {error}. Make room"
            " and run the same command again"
        ) from error


def both_folder(run: Path) -> Path:
    """The folder of the teacher of both vocabularies in a run folder."""
    return run / "mixed"


def load_both(run: Path, *, architecture: Architecture) -> tuple[PreTrainedModel, int]:
    """The model, and the id of the student's first token in it."""
    folder = both_folder(run)
    model = load_model(str(folder), architecture=architecture, with_head=True)
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    return model, int(facts["student_from"])
