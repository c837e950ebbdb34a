"""How well student and teacher predict held-out text, and how often they agree."""

from pathlib import Path
from typing import Any

from ..evaluation.agreement import dropped_mass, top_agreement
from ..evaluation.bits_per_byte import masked_bits_per_byte
from ..models.load import load_model
from ..recipe.setup import Setup
from ..tokenization.masking import Masking, NextToken
from .batches import held_out_batches
from .measure_vocabularies import with_trained_head


def text_measures(setup: Setup, folder: Path) -> dict[str, Any]:
    """Bits per byte and agreement, where there are vocabulary heads to ask."""
    if not setup.has_trained_head:
        return {}
    architecture, tokenizer = setup.models.student.architecture, setup.models.student.tokenizer
    if not architecture.causal and tokenizer.mask_token_id is None:
        return {}  # bits per byte and agreement are those of hidden words
    masking = NextToken() if architecture.causal else Masking()
    batches = held_out_batches(setup, masking=masking)
    student = load_model(str(folder / "student"), architecture=architecture, with_head=True)
    tokens = [batch.student for batch in batches]
    measures = {"bits_per_byte": masked_bits_per_byte(student, architecture, tokenizer, tokens)}
    teacher = setup.models.teacher
    model = with_trained_head(teacher) if teacher else None
    if teacher is None or model is None:
        return measures
    if not teacher.architecture.causal and teacher.tokenizer.mask_token_id is None:
        return measures
    two = setup.models.two_vocabularies
    if two:
        batches = held_out_batches(setup, masking=masking, tokenizer=teacher.tokenizer)
    measures["teacher_bits_per_byte"] = masked_bits_per_byte(
        model, teacher.architecture, teacher.tokenizer, [batch.teacher for batch in batches]
    )
    if two:
        return measures
    ids = setup.models.student.shape.token_ids
    measures["top_agreement"] = top_agreement(
        student, architecture, model, teacher.architecture, batches, tokens=ids
    )
    if teacher.shape.vocab_size > len(ids):
        measures["teacher_mass_on_no_piece"] = dropped_mass(
            model, teacher.architecture, batches, tokens=ids
        )
    return measures
