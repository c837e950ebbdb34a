"""Words of texts in any script."""

import pytest

from limbeck.data.words import words_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("l’été don't rock-n-roll", ["l’été", "don't", "rock-n-roll"]),
        ("3.14, e\u0301t!", ["3", ".", "14", ",", "e\u0301t", "!"]),
        ("我爱 NLP。", ["我", "爱", "NLP", "。"]),
        ("น้ำกิน", ["น้", "ำ", "กิ", "น"]),
        ("हिन्दी क्\u200dष", ["हिन्दी", "क्\u200dष"]),
        # Joiners and soft hyphens stand within words, and alone are none.
        ("می\u200cخواهم co\u00adop", ["می\u200cخواهم", "co\u00adop"]),
        ("\ufeffa \u200d b\u200bc \u202bשלום\u202c\0", ["a", "b", "c", "שלום"]),
        ("👩\u200d👧👍🏽 🇷🇺❤\ufe0f", ["👩\u200d👧", "👍🏽", "🇷🇺", "❤\ufe0f"]),
        ("\u200b", []),
    ],
)
def test_words_of(text, expected):
    assert list(words_of(text)) == expected
