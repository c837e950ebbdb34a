"""A multi-label task made of a tagged one: which kinds of spans there are in each text.

    python benchmarks/span_kinds.py DATA/snips -o slots --rows 4000

Writes OUTPUT.train.jsonl and the files of every other split that is there; a text without spans has
no label.
"""

import argparse
import json
import random
from pathlib import Path

from limbeck.data.json_lines import has_split
from limbeck.evaluation.task_files import load_rows
from limbeck.system.files import write_text


def rows_of(task: str, split: str) -> list[dict[str, object]]:
    """The rows of a split with the kinds of their spans as labels."""
    return [
        {
            "text": row.text or " ".join(row.words or ()),
            "label": sorted({tag[2:] for tag in row.tags or () if tag != "O"}),
        }
        for row in load_rows(task, split=split)
    ]


def main() -> None:
    """Write the task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", help="DIR/NAME of a tagged task")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, help="training rows at most, drawn by chance")
    given = parser.parse_args()
    for split in ("train", "dev", "test"):
        if not has_split(Path(given.task), split):
            continue
        rows = rows_of(given.task, split)
        if split == "train" and given.rows is not None:
            random.Random(0).shuffle(rows)
            rows = rows[: given.rows]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(given.output.with_name(f"{given.output.name}.{split}.jsonl"), lines)
        print(f"{given.output}, {split}: {len(rows):,} rows")


if __name__ == "__main__":
    main()
