"""The tokenized text of a recipe: batches to learn from, held-out ones, and calibration text."""

import datasets
from transformers import PreTrainedTokenizerFast

from ..batch import Batch, Tokens
from ..data.corpus import SeededOrder
from ..objectives.schedule import Ramp
from ..objectives.schedule import number as ramped
from ..recipe.setup import Setup
from ..recipe.stage_part import AlignmentPart
from ..system.fingerprints import cache_folder
from ..tokenization.aligned import AlignedBatches
from ..tokenization.batching import Batches, BatchSource
from ..tokenization.masking import Masking, NextToken
from ..tokenization.mixed import MixedBatches
from ..tokenization.packing import tokenize_source
from ..tokenization.prompting.packed import PackedPrompts
from ..tokenization.prompts import PromptBatches
from ..tokenization.stored_table import HeldOut, Sequences
from ..tokenization.two_tokenizations import tokenize_twice
from .prompt_batches import prompt_batches
from .task_batches import TaskBatches, task_batches

# From so much text at most main directions are taken, read at one time.
_CALIBRATION_SEQUENCES, _CALIBRATION_TOKENS = 64, 32_768
_HELD_OUT_AT_ONCE = 32
_Source = Batches | MixedBatches | AlignedBatches | PromptBatches | TaskBatches


def read_text(
    setup: Setup, *, held_out: bool, tokenizer: PreTrainedTokenizerFast | None = None
) -> list[Sequences]:
    """The tokenized sources, from the cache where they have been tokenized before."""
    data = setup.recipe.data
    return [
        tokenize_source(
            source,
            tokenizer or setup.models.student.tokenizer,
            length=data.max_length,
            packed=bool(data.packing),
            held_out=HeldOut(held_out, data.held_out.fraction),
            cache=cache_folder() / "tokenized",
            processes=data.num_proc,
        )
        for source in data.text
    ]


def stage_batches(setup: Setup, number: int) -> BatchSource:
    """The batches that a stage learns from."""
    size, seed = setup.stages[number].batch_size, setup.recipe.seed + number
    found = _source(setup, number, held_out=False, size=size, seed=seed)
    if isinstance(found, PromptBatches) and setup.recipe.data.packs_prompts:
        return PackedPrompts.of(found, max_length=setup.recipe.data.max_length)
    return found


def stage_held_out(setup: Setup, number: int) -> list[Batch]:
    """What a stage is measured on while it learns."""
    stage, size = setup.stages[number], _held_out_size(setup)
    if stage.rows:  # a pair is in one batch
        size = -(-size // stage.rows_together) * stage.rows_together
    return _some(setup, _source(setup, number, held_out=True, size=size, seed=0))


def _source(setup: Setup, number: int, *, held_out: bool, size: int, seed: int) -> _Source:
    """Batches of what a stage reads, without what is generated from it."""
    stage, masking = setup.stages[number], setup.maskings[number]
    if stage.mixed is not None:
        return _mixed_batches(setup, number, stage.mixed, held_out=held_out, size=size, seed=seed)
    if stage.rows:
        return task_batches(setup, held_out=held_out, size=size, seed=seed, stage=stage)
    if part := setup.recipe.stages[number].alignment:
        return _aligned_batches(setup, number, part, held_out=held_out, size=size, seed=seed)
    if stage.policy is not None:
        return prompt_batches(setup, held_out=held_out, size=size, seed=seed)
    return _batches(setup, held_out=held_out, size=size, masking=masking, seed=seed)


def held_out_batches(
    setup: Setup,
    *,
    masking: Masking | NextToken | None,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> list[Batch]:
    """The same held-out sequences, masked the same way, for every run on these texts.

    Args:
        setup: Of the run.
        masking: What is to be predicted.
        tokenizer: The student's by default.
    """
    size = _held_out_size(setup)
    if not setup.recipe.data.text:
        return _some(setup, prompt_batches(setup, held_out=True, size=size))
    return _some(
        setup,
        _batches(setup, held_out=True, size=size, masking=masking, seed=0, tokenizer=tokenizer),
    )


def _held_out_size(setup: Setup) -> int:
    return min(_HELD_OUT_AT_ONCE, setup.recipe.data.held_out.sequences)


def _some(setup: Setup, batches: _Source) -> list[Batch]:
    """As many sequences as are to be measured, or all there are, each of them once."""
    count = min(setup.recipe.data.held_out.sequences, len(batches.table))
    full, rest = divmod(count, batches.size)
    found = [batches.batch(number) for number in range(full)]
    return [*found, batches.batch(full, slice(rest))] if rest else found


def calibration_tokens(setup: Setup) -> Tokens:
    """A little text in the student's tokens, for what is computed from activations."""
    size = max(1, min(_CALIBRATION_SEQUENCES, _CALIBRATION_TOKENS // setup.recipe.data.max_length))
    if not setup.recipe.data.text:
        some = task_batches if setup.rows else prompt_batches
        return some(setup, held_out=False, size=size).batch(0).student
    batches = _batches(setup, held_out=False, size=size, masking=None, seed=setup.recipe.seed)
    return batches.batch(0).student


def _batches(
    setup: Setup,
    *,
    held_out: bool,
    size: int,
    masking: Masking | NextToken | None,
    seed: int,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Batches:
    tokenizer = tokenizer or setup.models.student.tokenizer
    sources = read_text(setup, held_out=held_out, tokenizer=tokenizer)
    return Batches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        tokenizer=tokenizer,
        size=size,
        masking=masking,
        seed=seed,
        apart=setup.recipe.data.isolate_documents,
    )


def _mixed_batches(
    setup: Setup, number: int, share: float | Ramp, *, held_out: bool, size: int, seed: int
) -> MixedBatches:
    stage, masking = setup.stages[number], setup.maskings[number]
    teacher, student = setup.models.required_teacher(), setup.models.student
    sources = tokenized_twice(setup, held_out=held_out)
    steps = [stage.steps] if held_out else range(stage.steps)  # measured as at the end
    return MixedBatches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        teacher=teacher.tokenizer,
        student=student.tokenizer,
        student_from=teacher.shape.vocab_size,
        size=size,
        masking=masking if isinstance(masking, Masking) else Masking(),
        shares=[ramped(share, stage.progress(step)) for step in steps],
        seed=seed,
    )


def _aligned_batches(
    setup: Setup, number: int, part: AlignmentPart, *, held_out: bool, size: int, seed: int
) -> AlignedBatches:
    models, student = setup.models, setup.models.student
    masking = NextToken() if student.architecture.causal else setup.maskings[number]
    sources = tokenized_twice(setup, held_out=held_out, finest=True)
    return AlignedBatches(
        table=datasets.concatenate_datasets([source.table for source in sources]),
        order=_order(setup, sources, seed),
        teacher=models.required_teacher().tokenizer,
        student=student.tokenizer,
        tokens=models.tokens,
        kind=part.kind,
        size=size,
        masking=masking,
        teacher_input=part.teacher_input,
        positions=student.shape.max_position_embeddings,
        seed=seed,
    )


def tokenized_twice(setup: Setup, *, held_out: bool, finest: bool = False) -> list[Sequences]:
    """The sources in both tokenizations, from the cache where they have been tokenized before."""
    data, models = setup.recipe.data, setup.models
    teacher = models.required_teacher().tokenizer
    return [
        tokenize_twice(
            source,
            teacher,
            models.student.tokenizer,
            length=data.max_length,
            held_out=HeldOut(held_out, data.held_out.fraction),
            cache=cache_folder() / "tokenized",
            finest=finest,
            processes=data.num_proc,
        )
        for source in data.text
    ]


def _order(setup: Setup, sources: list[Sequences], seed: int) -> SeededOrder:
    weights = tuple(source.weight for source in setup.recipe.data.text)
    return SeededOrder(tuple(len(source.table) for source in sources), weights, seed)
