"""From text to tokens: tokenizers learned and trimmed, two of them aligned, masking and batches.

Everything that learns, trims or aligns works on plain transformers tokenizers and strings.
"""

from typing import TYPE_CHECKING

from ..system.lazy import lazily

if TYPE_CHECKING:
    from .learn import blank_tokenizer, learn_tokenizer
    from .load import load_tokenizer
    from .masking import Masking
    from .nested import learn_nested
    from .text_coverage import Coverage, coverage
    from .token_map import TokenMap, map_tokens
    from .trim import count_tokens, trimmed_tokenizer
    from .words import SharedWords, shared_words, token_groups

__all__ = [
    "Coverage",
    "Masking",
    "SharedWords",
    "TokenMap",
    "blank_tokenizer",
    "count_tokens",
    "coverage",
    "learn_nested",
    "learn_tokenizer",
    "load_tokenizer",
    "map_tokens",
    "shared_words",
    "token_groups",
    "trimmed_tokenizer",
]

__getattr__ = lazily(
    __name__,
    {
        "Coverage": ".text_coverage",
        "Masking": ".masking",
        "SharedWords": ".words",
        "TokenMap": ".token_map",
        "blank_tokenizer": ".learn",
        "count_tokens": ".trim",
        "coverage": ".text_coverage",
        "learn_nested": ".nested",
        "learn_tokenizer": ".learn",
        "load_tokenizer": ".load",
        "map_tokens": ".token_map",
        "shared_words": ".words",
        "token_groups": ".words",
        "trimmed_tokenizer": ".trim",
    },
)
