"""Student and teacher generate the text that is learned from, together or alone.

`generate` takes two plain models, token ids and a rule that decides who generates each token; no
recipe is needed. What it takes and returns is imported from here:

    rules: `Student`, `Teacher`, `Switch`, `Speculative`, `Adaptive`, or a `Rule` of one's own,
        which decides by what it has `Seen`; `RULES` has them by the names of recipes
    how: `DecodingOptions` (length in tokens, temperature, seed) and `TokenIds` (`TokenIds.of` a
        tokenizer: the ids that may be generated)
    result: `Generated` with `tokens` and `by_teacher` of shape (rows, max_new_tokens), `lengths` in
        tokens and `ended` of shape (rows)
    speed: `Readers`, which keep caches and CUDA graphs from one batch to the next, and read models
        of known families without transformers' forward

Errors: `GenerationError` where models, prompts, rule and options do not go together; `ModelError`
where a layer of a model keeps something other than keys and values (as recurrent ones do).

Source: Leviathan et al. 2023, arXiv:2211.17192, drafts checked in one forward; the rules name
their own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..token_ids import TokenIds
    from .decoding import DecodingOptions, Generated, generate
    from .readers import Readers
    from .rules import RULES, Adaptive, Rule, Seen, Speculative, Student, Switch, Teacher

__all__ = [
    "RULES",
    "Adaptive",
    "DecodingOptions",
    "Generated",
    "Readers",
    "Rule",
    "Seen",
    "Speculative",
    "Student",
    "Switch",
    "Teacher",
    "TokenIds",
    "generate",
]
_ELSEWHERE = {
    "DecodingOptions": ".decoding",
    "Generated": ".decoding",
    "Readers": ".readers",
    "TokenIds": "..token_ids",
    "generate": ".decoding",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used: what computes with torch is heavy."""
    if name in __all__:
        return getattr(import_module(_ELSEWHERE.get(name, ".rules"), __name__), name)
    raise AttributeError(f"module 'limbeck.generation' has no attribute {name!r}")
