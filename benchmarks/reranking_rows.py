"""Rows for a reranker, of queries with their documents: the right ones, and hard ones beside them.

For every query its relevant documents get the label 1, and the documents that a model of vectors
finds nearest to it, besides those, the label 0. Documents are divided in blocks of neighbours (the
paragraphs of an article stand together in XQuAD) into those that are learned from and those that
are scored; each query is where its documents are, and is given no document of the other side.

    python benchmarks/reranking_rows.py data/retrieval/xquad_en -o data/xquad_ranked
    python benchmarks/reranking_rows.py DIR/NAME -o DIR/NAME [--model minilm-demo] [--hard 7]

Writes OUTPUT.train.jsonl and OUTPUT.dev.jsonl, a task with `text`, `text_pair` and `label`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from limbeck.errors import DataError
from limbeck.evaluation.embeddings.encode import DOCUMENT, QUERY, load_text_encoder
from limbeck.evaluation.embeddings.files import Retrieval, read_retrieval
from limbeck.evaluation.embeddings.scores import nearest_documents
from limbeck.models.locate import DEMO_TEACHER
from limbeck.system.files import write_text


def each_query_once(task: Retrieval) -> Retrieval:
    """The same with the documents of queries of one text together."""
    relevant: dict[str, frozenset[int]] = {}
    for query, documents in zip(task.queries, task.relevant, strict=True):
        relevant[query] = relevant.get(query, frozenset()) | documents
    return replace(task, queries=tuple(relevant), relevant=tuple(relevant.values()))


def sides_of(task: Retrieval, *, block: int, fraction: float, seed: int) -> list[bool]:
    """Whether each document is among those that are scored; documents of a block stay together."""
    blocks = -(-len(task.corpus) // block)
    order = np.random.default_rng(seed).permutation(blocks)
    scored = set(order[: max(1, round(fraction * blocks))].tolist())
    return [number // block in scored for number in range(len(task.corpus))]


def rows_of(task: Retrieval, documents: Sequence[int], name: str, *, hard: int) -> list[str]:
    """The rows of the queries whose relevant documents are all among some documents, as JSON.

    Args:
        task: Queries and documents.
        documents: Numbers of those that may occur.
        name: Of the model that finds hard ones.
        hard: Documents of a query that are not relevant.
    """
    among = set(documents)
    asked = [query for query, relevant in enumerate(task.relevant) if relevant <= among]
    encoder = load_text_encoder(name, precision="float32")
    texts = [task.corpus[number] for number in documents]
    corpus = encoder.encode(texts, prompt=encoder.prompt(None, DOCUMENT))
    queries = encoder.encode(
        [task.queries[query] for query in asked], prompt=encoder.prompt(None, QUERY)
    )
    most = max(len(task.relevant[query]) for query in asked)
    found = nearest_documents(queries, corpus, hard + most)
    lines = []
    for query, near in zip(asked, found.tolist(), strict=True):
        relevant = task.relevant[query]
        others = [documents[place] for place in near if documents[place] not in relevant][:hard]
        for number in (*sorted(relevant), *others):
            pair = {"text": task.queries[query], "text_pair": task.corpus[number]}
            lines.append(json.dumps({**pair, "label": float(number in relevant)}))
    return lines


def main() -> None:
    """Write both files, and say how many rows they have."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("retrieval", help="DIR/NAME, as for limbeck evaluate --retrieval")
    parser.add_argument("-o", "--output", type=Path, required=True, help="DIR/NAME of the task")
    parser.add_argument("--model", default=DEMO_TEACHER, help="finds hard documents by its vectors")
    parser.add_argument("--hard", type=int, default=7, help="hard documents of a query")
    parser.add_argument("--block", type=int, default=5, help="documents that stay together")
    parser.add_argument("--dev", type=float, default=0.25, help="fraction of the blocks")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    task = each_query_once(read_retrieval(given.retrieval))
    scored = sides_of(task, block=given.block, fraction=given.dev, seed=given.seed)
    left_out = sum(len({scored[number] for number in found}) > 1 for found in task.relevant)
    if left_out == len(task.relevant):
        raise DataError("every query has documents on both sides; give another --block or --seed")
    for split, side in (("train", False), ("dev", True)):
        documents = [number for number, other in enumerate(scored) if other is side]
        lines = rows_of(task, documents, given.model, hard=given.hard)
        file = given.output.with_name(f"{given.output.name}.{split}.jsonl")
        write_text(file, "\n".join(lines) + "\n")
        print(f"{file}: {len(lines):,} rows, {len(documents)} documents")
    print(f"{left_out} queries with documents on both sides are left out")


if __name__ == "__main__":
    main()
