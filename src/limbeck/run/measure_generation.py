"""What a run of a decoder shows of its texts: how good it is early and late in them."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..evaluation.by_position import by_position
from ..evaluation.text_generator import TextGenerator
from ..generation.ends import ends_of
from ..models.locate import fingerprint
from ..models.weight_headers import has_vocabulary_head
from ..recipe.setup import Setup
from ..system.files import remembered
from .prompt_batches import held_out_prompts

Positions = dict[str, list[float]]


def positions_of_run(setup: Setup, folder: Path) -> Positions:
    """Of a student that writes: how good it is early and late in held-out texts.

    What was measured before for the same weights and settings is not measured again.

    Args:
        setup: Of the recipe.
        folder: The run's.

    Returns:
        As `by_position` says; nothing for a student that does not write.
    """
    data = setup.recipe.data
    if not data.prompts or not setup.has_trained_head:
        return {}
    student, models = str(folder / "student"), setup.models
    teacher = None if models.two_vocabularies or setup.recipe.server else models.teacher
    if teacher and has_vocabulary_head(teacher.name, architecture=teacher.architecture) is False:
        teacher = None
    settings = replace(setup.recipe.evaluation.generation, max_new_tokens=data.longest_response)
    of: dict[str, Any] = {
        "model": fingerprint(student),
        "teacher": teacher and fingerprint(teacher.name),
        "held_out": data.held_out.model_dump(),
        "generation": asdict(settings),
        "template": models.student.tokenizer.chat_template if settings.chat_template else None,
        "ends": list(ends_of(models.student.tokenizer, student)),
    }

    def measured() -> dict[str, Positions]:
        rows = held_out_prompts(setup)[: data.held_out.sequences]
        reader = TextGenerator.load(teacher.name, teacher.architecture) if teacher else None
        writer = TextGenerator.load(student, models.student.architecture)
        return {"by_position": by_position(writer, reader, rows, settings)}

    kept = remembered(folder / "evaluation" / "by_position.json", of, measured)
    positions: Positions = kept["by_position"]
    return positions
