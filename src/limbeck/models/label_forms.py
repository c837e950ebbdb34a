"""Names of classes that are two and look like one: the same letters in two forms of Unicode.

An accented letter may be one character or a letter and an accent (NFC and NFD): files from macOS
and from other systems differ in this.
"""

import unicodedata
from collections.abc import Iterable


def form_problem(given: Iterable[str], known: Iterable[str]) -> str | None:
    r"""That two names differ by their form alone, and what to change; None where none do.

    >>> form_problem(["caf\xe9", "bar"], ["cafe\u0301", "bar"])
    "'cafe\\u0301' and 'caf\\xe9' differ by their form of Unicode alone; write both alike"

    Args:
        given: Names.
        known: Those that they are compared with; the same may stand in both.
    """
    forms: dict[str, set[str]] = {}
    for name in known:
        forms.setdefault(unicodedata.normalize("NFC", name), set()).add(name)
    for name in given:
        if others := forms.get(unicodedata.normalize("NFC", name), set()) - {name}:
            both = " and ".join(ascii(one) for one in sorted([name, *others])[:2])
            return f"{both} differ by their form of Unicode alone; write both alike"
    return None
