"""Texts without labels for an embedding student, from text and tasks of one language or several.

    python benchmarks/embedding_texts.py DATA -o texts.jsonl --language en
    python benchmarks/embedding_texts.py DATA -o five.jsonl --language en ru de fr es --most 20000

DATA has text/, understanding/ and generation/ in the form that docs/guide/tasks.md describes. Texts
have 20 to 200 letters, paragraphs 200 to 600; each is kept once, and none that is scored as similar
or not (stsb).
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SENTENCES = 100_000  # of prompts
LINES = {"en": 20_000, "ru": 25_000, "de": 25_000, "fr": 25_000, "es": 25_000}  # of each text
ROWS = 15_000  # of each task
PARAGRAPH = (200, 600)  # letters
TEXTS = {
    "en": ["en_novels"],
    "ru": ["ru_dialogues", "ru_novels"],
    "de": ["de_novels"],
    "fr": ["fr_novels"],
    "es": ["es_novels"],
}
TASKS = {
    "en": ["sst2", "mrpc", "rte", "snips", "clinc150", "cola"],
    "ru": ["rucola", "terra", "rusentne", "paraphraser", "sib200_ru"],
    "de": ["sib200_de"],
    "fr": ["sib200_fr"],
    "es": ["sib200_es"],
}
ENDS = {
    "en": r"\n|(?<=[.!?]) (?=[A-Z])",
    "ru": r"(?<=[.!?]) (?=[-А-ЯЁ])",
    "de": r"(?<=[.!?]) (?=[-–»A-ZÄÖÜ])",
    "fr": r"(?<=[.!?]) (?=[-–—«A-ZÀÂÇÉÈÊÎÔÛ])",
    "es": r"(?<=[.!?]) (?=[-–—¿¡A-ZÁÉÍÑÓÚ])",
}


def lines_of(path: Path) -> list[str]:
    """The lines of a compressed file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return list(file)


def texts_of(path: Path) -> list[str]:
    """Both texts of every row."""
    rows: list[dict[str, Any]] = list(map(json.loads, lines_of(path)))
    return [row[name] for row in rows for name in ("text", "text_pair") if row.get(name)]


def some(
    texts: Iterable[str], most: int, chance: random.Random, letters: tuple[int, int] = (20, 200)
) -> list[str]:
    """So many of the texts at most, those of the right length."""
    least, longest = letters
    found = sorted({text.strip() for text in texts if least <= len(text.strip()) <= longest})
    return chance.sample(found, min(len(found), most))


def texts_in(
    language: str, data: Path, chance: random.Random, *, sentences: int, lines: int
) -> list[str]:
    """The texts of one language: so many sentences of prompts, and lines of each text."""
    found: list[str] = []
    if language == "en":
        prompts = map(json.loads, lines_of(data / "generation/instructions.train.jsonl.gz"))
        parts = (part for row in prompts for part in re.split(ENDS["en"], row["prompt"]))
        found += some(parts, sentences, chance)
    for name in TEXTS[language]:
        text = lines_of(data / f"text/{name}.txt.gz")
        whole = language == "en"  # its lines are sentences
        parts = text if whole else (s for line in text for s in re.split(ENDS[language], line))
        found += some(parts, lines, chance)
    for name in TASKS[language]:
        found += some(texts_of(data / f"understanding/{name}.train.jsonl.gz"), ROWS, chance)
    return found


def main() -> None:
    """Write the texts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--language", choices=sorted(TASKS), nargs="+", default=["en"])
    parser.add_argument("--most", type=int, help="of each language; all by default")
    parser.add_argument("--sentences", type=int, default=SENTENCES, help="of English prompts")
    parser.add_argument("--lines", type=int, help="of each text of books or dialogues")
    parser.add_argument("--paragraphs", type=int, default=0, help="whole ones of each text beside")
    given = parser.parse_args()
    chance = random.Random(0)
    texts: list[str] = []
    for language in given.language:
        lines = given.lines or LINES[language]
        found = texts_in(language, given.data, chance, sentences=given.sentences, lines=lines)
        texts += found if given.most is None else some(found, given.most, chance)
        for name in TEXTS[language] if given.paragraphs else []:
            whole = lines_of(given.data / f"text/{name}.txt.gz")
            texts += some(whole, given.paragraphs, chance, PARAGRAPH)
    scored = texts_of(given.data / "understanding/stsb.dev.jsonl.gz")
    kept = sorted(set(texts) - set(scored))
    chance.shuffle(kept)
    rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in kept)
    given.output.write_text("".join(rows), encoding="utf-8")
    print(f"{given.output}: {len(kept):,} texts")


if __name__ == "__main__":
    main()
