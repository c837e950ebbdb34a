"""A text as words, for taggers: they say something of each word."""

import regex

# Scripts that put no spaces between words.
HAN = r"\p{Han}"
UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hiragana}\p{Katakana}"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{HAN}{UNSPACED}]]++"
_WORD = regex.compile(rf"(?V1)[{HAN}{UNSPACED}]\p{{M}}*|{_RUN}(?:['’-]{_RUN})*+|\S\p{{M}}*")


def words_of(text: str) -> tuple[str, ...]:
    """Letters and digits that stand together, with apostrophes and hyphens inside; other signs.

    Of scripts without spaces each letter is a word.

    >>> words_of("Don't wake Jean-Paul at 9:30!")
    ("Don't", 'wake', 'Jean-Paul', 'at', '9', ':', '30', '!')
    >>> words_of("我爱 NLP")
    ('我', '爱', 'NLP')
    """
    return tuple(_WORD.findall(text))
