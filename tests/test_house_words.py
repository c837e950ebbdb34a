"""The words that the house has given up occur nowhere: the field has better ones."""

import re
from pathlib import Path

import pytest

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


def words_of(line: str) -> str:
    """A line without what may stay, its identifiers as words."""
    line = KEPT.sub(" ", line)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line).replace("_", " ").lower()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_old_words(file):
    if file.name in TELL_OF_THEM:
        return
    found = [
        f"{number}: {match.group()} ({better}): {line.strip()[:90]}"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for word, better in OLD.items()
        for match in re.finditer(rf"\b({word})\b", words_of(line))
    ]
    assert found == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_old_keys_and_flags(file):
    """Keys that mean nothing else, wherever they stand."""
    if file.name in TELL_OF_THEM:
        return
    text = file.read_text(encoding="utf-8")
    distinct = {old for pairs in KEYS.values() for old in pairs if "_" in old}
    distinct -= {"mean_hidden", "held_out_every", "training_rows", "no_distillation", "test_split"}
    distinct -= {"key_value_heads", "of_parts", "attention_maps"}
    found = [key for key in sorted(distinct) if re.search(rf"(?<!\w){key}(?!\w)", text)]
    found += [flag for flag in FLAGS if flag in text]
    assert found == []
