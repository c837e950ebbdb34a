"""The tree of the architecture page: the rooms in their order, and the modules of each."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "limbeck"


def tree() -> dict[str, list[str]]:
    """The paths of the modules of every room, in the page's order; a module at the top is a room.

    >>> list(tree())[:2], tree()["errors"]
    (['__init__', 'errors'], ['errors.py'])
    """
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = text[text.index("src/limbeck/\n") :]
    block = block[: block.index("```")]
    found: dict[str, list[str]] = {}
    room = ""
    for line in block.splitlines()[1:]:
        names = re.findall(r"(?<![\w./])((?:\w+/)*\w+\.py|\w+/)(?= |$)", line)
        if line.startswith("   "):
            found[room] += [f"{room}/{name}" for name in names]
        else:
            room = names[0].removesuffix("/").removesuffix(".py")
            found[room] = [name for name in names if name.endswith(".py")]
    return found
