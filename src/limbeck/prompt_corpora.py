"""The prompts of a recipe: batches of them, as the files answer them or as models write."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from .build import Setup
from .data.corpus import SeededOrder, is_held_out
from .data.json_lines import file_of_split
from .data.prompts import Prompt, read_prompts
from .errors import RecipeError
from .generation.batches import WrittenBatches
from .recipe import DataPart
from .tokenization.frame import frame_of
from .tokenization.packing import tokenizer_hash
from .tokenization.prompts import PromptBatches, PromptTable, encode_prompts
from .training.processes import keeps_shares


def prompt_batches(setup: Setup, *, held_out: bool, size: int, seed: int = 0) -> PromptBatches:
    """Prompts with the responses that the files have."""
    table = _prompt_table(setup, held_out=held_out)
    order = SeededOrder((len(table.prompts),), (1.0,), seed)
    pad = setup.models.tokenizer.pad_token_id or 0
    prompts_too = setup.recipe.data.predicted == "everything"
    return PromptBatches(table, order, size, pad, prompts_too)


def held_out_prompts(setup: Setup) -> list[Prompt]:
    """Those that are never learned from."""
    return list(_prompts(setup.recipe.data, held_out=True))


def prompt_notes(setup: Setup) -> list[str]:
    """How much of prompts and responses was too long to be read."""
    if not setup.recipe.data.prompts:
        return []
    table = _prompt_table(setup, held_out=False)
    return [
        f"of {len(table):,} prompts {table.cut_prompts:,} were too long and lost their beginning,"
        f" and {table.cut_responses:,} responses their end"
    ]


def _prompts(data: DataPart, *, held_out: bool) -> Iterator[Prompt]:
    for location in data.prompts:
        for row in read_prompts(location):
            # By what it asks; by what it says where it asks for nothing.
            said = row.text or row.references[0]
            if is_held_out(said, share=data.held_out.share) == held_out:
                yield row


def _prompt_table(setup: Setup, *, held_out: bool) -> PromptTable:
    data = setup.recipe.data
    files = [file_of_split(Path(location), "train").stat() for location in data.prompts]
    state = tuple((file.st_size, file.st_mtime_ns) for file in files)
    return _encoded(data.model_dump_json(), state, _Cutter.of(setup.models.tokenizer), held_out)


@dataclass(frozen=True)
class _Cutter:
    """A tokenizer that equals any other that does the same to text."""

    does: str
    tokenizer: PreTrainedTokenizerFast = field(compare=False)

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerFast) -> "_Cutter":
        does = f"{tokenizer_hash(tokenizer)} {frame_of(tokenizer)} {tokenizer.eos_token_id}"
        does += f" {tokenizer.chat_template}"
        return _Cutter(does, tokenizer)


# Training, measures and notes of a run ask for the same two tables, and so do the arms of a study.
@lru_cache(maxsize=4)
def _encoded(
    data: str,
    state: tuple[tuple[int, int], ...],
    cutter: _Cutter,
    held_out: bool,
) -> PromptTable:
    """The table of files in a state, which is here only to tell it from another."""
    part = DataPart.model_validate_json(data)
    return encode_prompts(
        _prompts(part, held_out=held_out),
        cutter.tokenizer,
        length=part.length,
        response=part.longest_response,
        between=part.between,
        chat=part.chat,
    )


def written_batches(
    setup: Setup,
    number: int,
    prompts: PromptBatches,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    accelerator: Accelerator,
) -> WrittenBatches:
    """The batches of a stage whose text is written while it learns."""
    stage, tokenizer = setup.stages[number], setup.models.tokenizer
    if stage.policy is None:
        raise RecipeError(f"stage {number} has no policy; give it one")
    shares = keeps_shares(accelerator)
    options = stage.policy.options
    if shares:  # weights come anew with every step, and what was recorded reads the old ones
        options = replace(options, graphs=False)
    return WrittenBatches(
        prompts,
        stage.policy._replace(options=options),
        student,
        teacher,
        longest=setup.recipe.data.longest_response,
        pieces=len(tokenizer),
        end=tokenizer.eos_token_id,
        steps=stage.steps,
        seed=setup.recipe.seed + number,
        apart=stage.learns_apart,
        # A teacher of which each process keeps a share is read by all of them at once.
        process=0 if shares else accelerator.process_index,
        processes=1 if shares else accelerator.num_processes,
    )
