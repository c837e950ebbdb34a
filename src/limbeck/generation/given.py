"""What `generate` is given, checked before a model reads anything."""

from collections.abc import Collection, Sequence
from operator import index
from typing import Any

from transformers import PreTrainedModel

from ..errors import GenerationError
from ..token_ids import TokenIds
from .rules import Rule


def ends_given(eos_token_id: Any) -> list[int]:
    """The ids of tokens that end a text, of one id or several as `generate` is given them.

    Raises:
        GenerationError: They are no ids.
    """
    try:
        return [index(eos_token_id)]
    except TypeError:
        pass
    try:
        return sorted(map(index, eos_token_id))
    except TypeError as error:
        raise GenerationError(
            f"eos_token_id is {eos_token_id!r:.60}; give a token id or a list of them, or an empty"
            " list for texts that no token ends"
        ) from error


def check_given(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    prompts: Sequence[Sequence[int]],
    rule: Rule,
    *,
    max_new_tokens: int,
    ids: TokenIds,
    ends: Collection[int],
) -> None:
    """See that the models can read the prompts, and that the rule has what it needs.

    Args:
        student: As of `generate`.
        teacher: As of `generate`.
        prompts: Token ids.
        rule: As of `generate`.
        max_new_tokens: Tokens of a response at most.
        ids: Those that may be generated.
        ends: Each token that ends a response.

    Raises:
        GenerationError: They cannot, or it has not.
    """
    if isinstance(rule, type) or not isinstance(rule, Rule):
        raise GenerationError(f"the rule is {rule!r}; give an object, as Switch(tau=0.3)")
    if problems := rule.problems():
        raise GenerationError("; ".join(f"{field} of the rule {said}" for field, said in problems))
    if rule.needs_teacher and teacher is None:
        raise GenerationError(f"{type(rule).__name__} needs a teacher, and there is none; give one")
    if len(prompts) == 0 or min(len(prompt) for prompt in prompts) == 0:
        raise GenerationError(
            "there is no prompt, or one has no token; give one token at least, as that which begins"
            " a text"
        )
    if text := next((prompt for prompt in prompts if isinstance(prompt, str)), None):
        raise GenerationError(
            f"a prompt is the text {text!r:.60}; give its token ids, as tokenizer(text).input_ids"
        )
    if len(ids) < 1:
        raise GenerationError("the vocabulary has no token; give the ids of the tokenizer")
    for end in ends:
        if not 0 <= end < ids.end:
            raise GenerationError(
                f"the end of texts {end} is no id of the vocabulary (0 to {ids.end - 1}), and would"
                " never be generated"
            )
    for name, model in (("student", student), ("teacher", teacher)):
        if model is not None and (name == "student" or rule.needs_teacher):
            _check_model(name, model, prompts, max_new_tokens, ids)


def _check_model(
    name: str,
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    ids: TokenIds,
) -> None:
    if not model.can_generate():
        raise GenerationError(
            f"the {name} is a {type(model).__name__}, which does not generate text; give a decoder"
            " with its vocabulary head, as AutoModelForCausalLM loads it"
        )
    rows = int(model.config.vocab_size)
    largest = max(int(max(prompt)) for prompt in prompts)
    if max(largest, ids.end - 1) >= rows or min(int(min(prompt)) for prompt in prompts) < 0:
        raise GenerationError(
            f"the {name} has the ids 0 to {rows - 1}, and prompts and vocabulary name others, up to"
            f" {max(largest, ids.end - 1)}; give the ids of its tokenizer"
        )
    most = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(prompt) for prompt in prompts)
    # The last token that is generated is never read.
    if most is not None and longest + max_new_tokens - 1 > most:
        raise GenerationError(
            f"the longest prompt has {longest} tokens, max_new_tokens is {max_new_tokens}, and the"
            f" {name} reads {most} together; give shorter prompts, or a smaller number"
        )
