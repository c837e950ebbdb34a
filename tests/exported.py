"""Folders of tiny models that are exported, and the examples of the guide."""

import json
from pathlib import Path

import torch
from conftest import HEADS, make_model, make_text, make_tokenizer, with_task_head

from limbeck.deploy.batches import example_of, feed_of
from limbeck.deploy.source import load_source
from limbeck.export.sentence_transformers import SentenceSettings, export_sentence_model
from limbeck.models.sentence_transformers import Pooling
from limbeck.models.sentences.vectors import Dense, SentenceVectors

PROMPTED = SentenceSettings(48, {"query": "the house "}, "query")


def model_folder(
    folder: Path,
    family: str,
    task: str | None = None,
    *,
    layers: int = 1,
    settings: SentenceSettings = PROMPTED,
) -> Path:
    """A tiny model with a head, a body, or (`vectors`) a folder of sentence-transformers."""
    tokenizer = make_tokenizer()
    model = make_model(family, vocabulary=len(tokenizer), layers=layers)
    model.config.pad_token_id = tokenizer.pad_token_id
    if task == "vectors":
        torch.manual_seed(0)
        vectors = SentenceVectors(
            24, pooling=Pooling(("cls", "mean")), dense=[Dense(48, 10)], normalize=True
        )
        export_sentence_model(model, tokenizer, vectors, folder, settings=settings, card="x")
        return folder
    if task is not None:
        model = with_task_head(model, HEADS[task])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_example(package: str, files: Path) -> dict:
    """The names that the guide's example without limbeck leaves, of a package on some files."""
    page = Path(__file__).parents[1] / "docs" / "guide" / "deploy.md"
    [block] = [
        text.partition("```")[0]
        for text in page.read_text("utf-8").split("```python\n")[1:]
        if f"import {package}" in text.partition("```")[0]
        or f"from {package}" in text.partition("```")[0]
    ]
    assert "limbeck" not in block
    assert len(block.splitlines()) <= 20
    names: dict = {}
    exec(compile(block.replace("path/to/DIR", str(files)), "deploy.md", "exec"), names)
    return names


def answered_task(model: Path, folder: Path) -> Path:
    """A task whose labels are what the model says in torch."""
    source, rows = load_source(str(model)), []
    for text in make_text(40, seed=3):
        logits = source(feed_of([source.reader.read(example_of(text))], 3))[0]
        rows.append({"text": text, "label": HEADS["labels"].labels[int(logits.argmax())]})
    train = [{**row, "text": f"again {row['text']}"} for row in rows]
    for split, some in (("train", train), ("dev", rows)):
        lines = "\n".join(map(json.dumps, some))
        (folder / f"labels.{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder / "labels"
