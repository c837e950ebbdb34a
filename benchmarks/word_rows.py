"""Rows of words without tags, for a tagger's teacher to tag, from the texts of tasks.

    python benchmarks/word_rows.py DATA/mrpc.train.jsonl.gz DATA/rte.train.jsonl.gz -o words.jsonl

Each text is one row, pairs are two; each row is kept once. A word is letters and digits, or one
other sign, as in the rows of factRuEval and WNUT-17.
"""

import argparse
import gzip
import json
import re
from pathlib import Path

WORD = re.compile(r"\w+|[^\w\s]")


def main() -> None:
    """Write the rows of words that the files hold."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("files", nargs="+", type=Path, help="JSON lines, compressed by gzip")
    arguments.add_argument("-o", "--output", required=True, type=Path)
    given = arguments.parse_args()
    texts: dict[str, None] = {}
    for path in given.files:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for row in map(json.loads, file):
                texts |= {row[name]: None for name in ("text", "text_pair") if row.get(name)}
    rows = [{"tokens": words} for words in map(WORD.findall, texts) if len(words) > 1]
    given.output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{len(rows):,} rows of words in {given.output}")


if __name__ == "__main__":
    main()
