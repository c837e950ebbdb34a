"""The words that the house has given up occur nowhere: the field has better ones."""

import re
from pathlib import Path

from limbeck.recipe.renamed import KEYS

ROOT = Path(__file__).parents[1]
FILES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.py")),
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
    *sorted((ROOT / "recipes").glob("*.yaml")),
    *sorted((ROOT / "studies").glob("*.yaml")),
]
# Who names the old words to tell of the new ones.
TELL_OF_THEM = {"renamed.py", "test_renamed.py", "test_house_words.py"}
OLD = {
    r"pieces?": "token; vocabulary entry",
    r"faults?": "problem; error",
    r"likeliest": "most likely; greedy; top",
    r"stretch(es)?": "span",
    r"(goes|go|gone|going|went) on": "resume; continue",
    r"(hangs?|hanging|hung) on": "depend on",
    r"(tells?|told|telling) (\w+ )?apart": "distinguish",
    r"(asks?|asked|asking) for": "need; require",
    r"likewise": "the thing itself",
    r"anew": "again",
    r"by (itself|themselves)": "alone",
    r"two factors|factored": "low-rank",
    r"first (weights|embeddings)": "initialization",
    r"spread": "standard deviation",
    r"cuts?|cutting": "tokenize; truncate; split",
    r"anatom(y|ies)": "architecture",
}
# Names in files that were written before, and in files of others; option values; titles.
KEPT = re.compile(
    r"""pieces_per_sentence|cpu_ms_per_written_piece|bits_per_piece|teacher_mass_on_no_piece
    |cut_prompts|cut_references|of_these_cut_as_before|["'`](cuts|goes_on|spread)["'`]|goes_on=
    |\.spread\b|\bspread(?=[:=])|["'(`]cut["'`),]|width:\ cut|width_of_cut|Width\.CUT|CUT\ =
    |\bcut\ or\ svd|coordinates\ \(cut\)|two\ plain\ cuts
    |[Ww]ord[Pp]iece|[Ss]entence[Pp]iece|Cut\ Your\ Losses
    """,
    re.VERBOSE,
)
FLAGS = (
    "--response",
    "--pieces",
    "--size ",
    "--epochs",
    "--test-split",
    "limbeck sample",
)


ANY = re.compile("|".join(rf"\b(?:{word})\b" for word in OLD))


def texts():
    """Every file that may name no old word: where it is, and its text."""
    for file in FILES:
        if file.name not in TELL_OF_THEM:
            yield file.relative_to(ROOT), file.read_text(encoding="utf-8")


def words_of(text: str) -> str:
    """A text without what may stay, its identifiers as words, on the same lines."""
    text = KEPT.sub(" ", text)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ").lower()


def better(word: str) -> str:
    return next(new for old, new in OLD.items() if re.fullmatch(old, word))


def test_old_words():
    found = []
    for file, text in texts():
        words = words_of(text)
        for match in ANY.finditer(words):
            line = words.count("\n", 0, match.start())
            said = (
                f"{match.group()} ({better(match.group())}): {text.splitlines()[line].strip():.90}"
            )
            found.append(f"{file}:{line + 1}: {said}")
    assert found == []


def test_old_keys_and_flags():
    """Keys that mean nothing else, wherever they stand."""
    distinct = {old for pairs in KEYS.values() for old in pairs if "_" in old}
    distinct -= {"mean_hidden", "held_out_every", "training_rows", "no_distillation", "test_split"}
    distinct -= {"key_value_heads", "of_parts", "attention_maps"}
    keys = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(distinct))})(?!\w)")
    found = [
        f"{file}: {old}"
        for file, text in texts()
        for old in [*keys.findall(text), *(flag for flag in FLAGS if flag in text)]
    ]
    assert found == []
