"""How well student and teacher predict held-out text, and how often they agree."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from ..evaluation.agreement import dropped_mass, top_agreement
from ..evaluation.bits_per_byte import masked_bits_per_byte
from ..models.load import load_model
from ..recipe.setup import Setup
from ..reports.run_results import HeldOutText
from ..tokenization.masking import Masking, NextToken
from .batches import held_out_batches
from .measure_vocabularies import with_trained_head


def text_measures(setup: Setup, folder: Path) -> HeldOutText:
    """Bits per byte and agreement, where there are vocabulary heads to ask."""
    if not setup.has_trained_head:
        return HeldOutText()
    architecture, tokenizer = setup.models.student.architecture, setup.models.student.tokenizer
    if not architecture.causal and tokenizer.mask_token_id is None:
        return HeldOutText()  # bits per byte and agreement are those of hidden words
    masking = NextToken() if architecture.causal else Masking()
    batches = held_out_batches(setup, masking=masking)
    student = load_model(str(folder / "student"), architecture=architecture, with_head=True)
    nn.Module.to(student, setup.device)
    tokens = [batch.student for batch in batches]
    found = HeldOutText(masked_bits_per_byte(student, architecture, tokenizer, tokens))
    teacher = setup.models.teacher
    model = with_trained_head(teacher) if teacher else None
    if teacher is None or model is None:
        return found
    if setup.recipe.teacher and setup.recipe.teacher.device_map is None:
        nn.Module.to(model, setup.device)  # else it may not fit there
    if not teacher.architecture.causal and teacher.tokenizer.mask_token_id is None:
        return found
    two = setup.models.two_vocabularies
    if two:
        batches = held_out_batches(setup, masking=masking, tokenizer=teacher.tokenizer)
    bits = masked_bits_per_byte(
        model, teacher.architecture, teacher.tokenizer, [batch.teacher for batch in batches]
    )
    found = replace(found, teacher_bits_per_byte=bits)
    if two:
        return found
    ids = setup.models.student.shape.token_ids
    same = top_agreement(student, architecture, model, teacher.architecture, batches, tokens=ids)
    found = replace(found, top_agreement=same)
    if teacher.shape.vocab_size > len(ids):
        mass = dropped_mass(model, teacher.architecture, batches, tokens=ids)
        found = replace(found, teacher_mass_on_no_piece=mass)
    return found
