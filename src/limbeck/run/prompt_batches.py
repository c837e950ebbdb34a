"""The prompts of a recipe: batches of them, as the files answer them or as models write."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ..data.corpus import SeededOrder
from ..data.prompts import Prompt, content_of_prompts
from ..data.rows import path_of
from ..errors import RecipeError
from ..generation.batches import GeneratedBatches
from ..generation.shared import TextOfFirst
from ..generation.vllm_text import VllmText
from ..recipe.prompts import ends_of_recipe, split_prompts
from ..recipe.schema import DataPart
from ..recipe.setup import Setup
from ..token_ids import TokenIds
from ..tokenization.frame import frame_of
from ..tokenization.packing import tokenizer_hash
from ..tokenization.plain_text import spelled_note
from ..tokenization.prompting.packed import sequences_of
from ..tokenization.prompts import PromptBatches, PromptTable, encode_prompts
from ..training.processes import keeps_shards


def prompt_batches(setup: Setup, *, held_out: bool, size: int, seed: int = 0) -> PromptBatches:
    """Prompts with the responses that the files have."""
    table = _prompt_table(setup, held_out=held_out)
    order = SeededOrder((len(table.prompts),), (1.0,), seed)
    pad = setup.models.student.tokenizer.pad_token_id or 0
    prompts_too = setup.recipe.data.loss_on == "all"
    return PromptBatches(table, order, size, pad, prompts_too)


def held_out_prompts(setup: Setup) -> list[Prompt]:
    """Those that are never learned from."""
    return list(split_prompts(setup.recipe.data, held_out=True))


def prompt_notes(setup: Setup) -> list[str]:
    """How much of prompts and responses was too long to be read."""
    if not setup.recipe.data.prompts:
        return []
    table = _prompt_table(setup, held_out=False)
    return [
        f"of {len(table):,} prompts {table.truncated_prompts:,} were too long and lost their"
        f" beginning, and {table.truncated_responses:,} responses their end",
        *_chat_notes(table),
        *_packing_notes(setup.recipe.data, table),
        *spelled_note(", ".join(map(path_of, setup.recipe.data.prompts)), table.spelled),
    ]


def _packing_notes(data: DataPart, table: PromptTable) -> list[str]:
    """How many sequences hold the prompts, where they are packed."""
    if not data.packs_prompts:
        return []
    count = len(sequences_of(table, max_length=data.max_length))
    share = table.tokens / (count * data.max_length)
    return [
        f"{len(table):,} prompts are packed into {count:,} sequences of {data.max_length:,} tokens,"
        f" {share:.1%} of which are filled"
    ]


def _chat_notes(table: PromptTable) -> list[str]:
    """What was found in conversations; nothing where there are none."""
    chats = table.chats
    if not chats.conversations:
        return []
    counted = {
        "conversations of which only the last answer is learned, because the chat template writes"
        " earlier ones otherwise": chats.last_only,
        "answers before a first question and messages after a last answer, which are left"
        " out": chats.left_out,
        "tools and calls of them, which the chat template does not know, are text": chats.as_text,
    }
    return [
        f"{chats.conversations:,} of them are conversations, with {chats.answers:,} answers to"
        f" learn: {table.predicted_tokens:,} of {table.tokens:,} tokens",
        *(f"{what}: {count:,}" for what, count in counted.items() if count),
    ]


def _prompt_table(setup: Setup, *, held_out: bool) -> PromptTable:
    data = setup.recipe.data
    state = tuple(map(content_of_prompts, data.prompts))
    generated = any(stage.generates for stage in setup.stages)
    cutter = _Cutter.of(setup.models.student.tokenizer)
    return _encoded(data.model_dump_json(), state, cutter, held_out, generated)


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


# Training, measures and notes of a run need the same two tables, and so do the arms of a study.
@lru_cache(maxsize=4)
def _encoded(
    data: str,
    state: tuple[str, ...],
    cutter: _Cutter,
    held_out: bool,
    generated: bool,
) -> PromptTable:
    """The table of files in a state, which is here only to tell it from another."""
    part = DataPart.model_validate_json(data)
    return encode_prompts(
        split_prompts(part, held_out=held_out),
        cutter.tokenizer,
        max_length=part.max_length,
        max_new_tokens=part.longest_response,
        separator=part.separator,
        chat_template=part.chat_template,
        generated=generated,
    )


def generated_batches(
    setup: Setup,
    number: int,
    prompts: PromptBatches,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    accelerator: Accelerator,
    vllm: VllmText | TextOfFirst | None = None,
) -> GeneratedBatches:
    """The batches of a stage whose text is generated during training.

    Args:
        setup: A checked recipe.
        number: Of the stage.
        prompts: With the responses of the corpus.
        student: Generates with its current weights.
        teacher: Generates where the policy says so.
        accelerator: Device, precision and processes.
        vllm: Generates in the student's place, where the policy says so.
    """
    stage, tokenizer = setup.stages[number], setup.models.student.tokenizer
    if stage.policy is None:
        raise RecipeError(f"stage {number} has no policy; give it one")
    shares = keeps_shards(accelerator)
    options = stage.policy.options
    if shares:  # weights move with every step, and a recorded forward reads the old place
        options = replace(options, cuda_graphs=False, direct_forward=False)
    return GeneratedBatches(
        prompts,
        stage.policy._replace(options=options),
        student,
        teacher,
        max_new_tokens=setup.recipe.data.longest_response,
        vocabulary=TokenIds.of(tokenizer),
        eos_token_id=ends_of_recipe(setup.recipe, setup.models),
        steps=stage.steps,
        seed=setup.recipe.seed + number,
        apart=stage.compares_in_part,
        vllm=vllm,
        # A teacher of which each process keeps a share is read by all of them at once.
        process=0 if shares else accelerator.process_index,
        processes=1 if shares else accelerator.num_processes,
    )
