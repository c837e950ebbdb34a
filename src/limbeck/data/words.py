"""A text as words, for taggers: they say something of each word."""

import regex

# Scripts that put no spaces between words.
HAN = r"\p{Han}"
UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hiragana}\p{Katakana}"
# What is not seen joins the letters around it, as in Persian, but for the space of no width.
_UNSEEN = r"[\p{Default_Ignorable_Code_Point}--\u200B]"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{HAN}{UNSPACED}]]++"
_WORD = regex.compile(
    rf"(?V1)[{HAN}{UNSPACED}]\p{{M}}*|{_RUN}(?:(?:['’-]|{_UNSEEN}++){_RUN})*+"
    r"|(?=[\S--[\p{Default_Ignorable_Code_Point}\p{Cc}]])\X"
)


def words_of(text: str) -> tuple[str, ...]:
    r"""Letters and digits that stand together, with apostrophes and hyphens inside; other signs.

    Of scripts without spaces each letter is a word. What is not seen is none.

    >>> words_of("Don't wake Jean-Paul at 9:30!")
    ("Don't", 'wake', 'Jean-Paul', 'at', '9', ':', '30', '!')
    >>> words_of("我爱 NLP")
    ('我', '爱', 'NLP')
    >>> len(words_of("می\u200cخواهم 👩\u200d👧 \ufeff👍🏽"))
    3
    """
    return tuple(_WORD.findall(text))
