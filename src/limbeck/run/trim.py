"""A model with the tokens that texts use: its own weights, without the rows of all others."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from rich.console import Console
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from ..errors import ModelError, StudentError
from ..export.card import LOW_RANK, class_and_task
from ..export.fewer_tokens import (
    parameters_in,
    renumber_tokens,
    weights_of_tokens,
    write_fewer_tokens,
)
from ..export.metadata import card_of, licence_lines, metadata_of
from ..export.sentence_transformers import SentenceSettings, check_order, write_modules
from ..generation.ends import save_generation
from ..models.architecture import Architecture
from ..models.families.lookup import architecture_of
from ..models.load import load_body, load_config, load_model, load_task_model
from ..models.locate import GGUF, locate, model_of_run
from ..models.low_rank_layers import low_rank_ranks
from ..models.quiet import quiet_transformers
from ..models.sentence_transformers import (
    MODULES,
    OF_THE_MODEL,
    OF_THE_TRANSFORMER,
    SentenceModel,
)
from ..models.sentences.load import DENSE_WEIGHTS, chain_of, sentence_vectors
from ..models.shapes import shape_of
from ..models.task_heads import head_of
from ..models.weight_files import weight_files
from ..recipe.sides import padding_problems
from ..system.files import whole_folder
from ..tokenization.folders import Trimmed, check_replaceable, trimmed_vocabulary, write_report
from ..tokenization.post_processor import save_tokenizer
from .card_facts import origins_of_model

_ROWS, _TOKENS = 8, 32  # that are read to compare a model with what it was
_CLOSE = 1e-4


def trim_model(
    model: str,
    texts: Sequence[str],
    output: Path | str,
    *,
    vocab_size: int | None = None,
    fraction: float | None = None,
    characters: int | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Save a model with the tokens that texts use most, and return the report.

    It answers text of these tokens as it did, which is checked. The folder is one of transformers
    or, as the model's, of sentence-transformers; weights keep their names and precision.

    Args:
        model: A model or run folder, a hub name, or ``minilm-demo``.
        texts: Files or hub names.
        output: The folder; what this function made in it before is replaced.
        vocab_size: As for `trim_vocabulary`, like ``fraction`` and ``characters``.
        fraction: As there.
        characters: As there.
        console: Shows progress; None is silent.

    Raises:
        RecipeError: The folder holds something else.
        DataError: As for `trim_vocabulary`.
        ModelError: The model is a GGUF file, cannot be loaded, or has modules that limbeck does
            not read, or a pooling that it cannot write.
        StudentError: Its answers would be others.
    """
    check_replaceable(Path(output), model=True)
    name = model_of_run(model)
    if locate(name).endswith(GGUF):
        raise ModelError(
            f"{model!r} is a GGUF file, of which only the tokenizer can be trimmed; give the folder"
            " of safetensors that it was made from, or leave --with-model out"
        )
    prompts, architecture = _prompts(name), architecture_of(load_config(name))
    found = trimmed_vocabulary(
        name,
        texts,
        vocab_size=vocab_size,
        fraction=fraction,
        characters=characters,
        prompts=prompts,
        console=console,
    )
    for _, problem in padding_problems(architecture, found.whole, found.tokenizer):
        raise StudentError(f"the trimmed tokenizer of {model!r} {problem}")
    with whole_folder(Path(output).resolve()) as folder:
        task = _write_model(model, name, architecture, found, folder)
        files = {"before": weight_files(locate(name)), "after": weight_files(str(folder))}
        sizes = {when: {"parameters": parameters_in(some or [])} for when, some in files.items()}
        report = found.report | {"model": sizes}
        low_rank = bool(low_rank_ranks(load_config(name)))
        card = _card(model, Path(output).name, report, task=task, low_rank=low_rank)
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_report(report, folder)
    return report


def _prompts(name: str) -> tuple[str, ...]:
    """What a folder of sentence-transformers puts before texts; nothing of any other model.

    Raises:
        ModelError: Such a folder has modules that are not read, or a pooling that is not written.
    """
    if (chain := chain_of(name)) is None:
        return ()
    check_order(sentence_vectors(name).pooling)
    return tuple(chain.prompts.values())


def _write_model(
    model: str, name: str, architecture: Architecture, found: Trimmed, folder: Path
) -> str:
    """Write weights, settings and tokenizer, and check that they answer as before.

    Returns:
        The hub's name for what the model does.
    """
    config, kept = load_config(name), _kept(found)
    before = _before(name, architecture, kept)
    files = weight_files(locate(name), download=True) or []
    write_fewer_tokens(files, before.of_tokens, kept, folder)
    _write_settings(name, config, _numbers(found), folder)
    save_tokenizer(found.tokenizer, folder)
    if chain := chain_of(name):
        longest = shape_of(config, architecture).max_position_embeddings
        write_modules(sentence_vectors(name), _settings(name, longest), folder)
        for number, layer in enumerate(chain.dense, 2):  # in the precision that they have
            written = folder / f"{number}_Dense" / DENSE_WEIGHTS
            shutil.copyfile(layer.folder / DENSE_WEIGHTS, written)
    else:
        for one in (MODULES, OF_THE_MODEL, OF_THE_TRANSFORMER):  # of a CrossEncoder
            if (file := files[0].parent / one).is_file():
                shutil.copyfile(file, folder / one)
    after = _loaded(str(folder), architecture)
    _check_answers(model, before, after, tokens=len(kept))
    _, task = class_and_task(
        head=head_of(config),
        sentence_vectors=bool(chain_of(name)),
        with_head=_predicts(after),
        causal=architecture.causal,
    )
    return task


class _Before(NamedTuple):
    """What a model says of some tokens that stay, and its weights that have a row for each token.

    Attributes:
        read: The tokens, by their new numbers.
        answers: States, classes, or the logits of the tokens that stay.
        of_tokens: By their names.
    """

    read: Int[Tensor, "rows tokens"]
    answers: Tensor
    of_tokens: dict[str, Tensor]


def _before(name: str, architecture: Architecture, kept: Int[Tensor, " kept"]) -> _Before:
    """Of the whole model, which is not kept: of two large models one is held at a time."""
    read = torch.randint(len(kept), (_ROWS, _TOKENS), generator=torch.Generator().manual_seed(0))
    whole = _loaded(name, architecture)
    answers = _answers(whole, kept[read], kept)
    return _Before(read, answers, weights_of_tokens(whole, architecture))


def _check_answers(model: str, before: _Before, after: PreTrainedModel, *, tokens: int) -> None:
    difference = (_answers(after, before.read) - before.answers).abs().max()
    if difference <= _CLOSE * before.answers.abs().max().clamp_min(1.0):
        return
    raise StudentError(
        f"{model!r} with {tokens:,} of its tokens answers otherwise (by {difference:.2g}) to text"
        " of these tokens, so that it cannot be trimmed; distil a student with this vocabulary"
        " (leave --with-model out, and name the folder as `student.tokenizer`)"
    )


def _settings(name: str, longest: int) -> SentenceSettings:
    """What a folder of sentence-transformers says of texts and prompts."""
    chain = chain_of(name) or SentenceModel(Path(name))
    return SentenceSettings(
        chain.max_length or longest,
        chain.prompts,
        chain.default_prompt,
        chain.similarity or "cosine",
        lowercase=chain.lowercase,
    )


def _kept(found: Trimmed) -> Int[Tensor, " kept"]:
    """The number that each token had."""
    before, now = found.whole.get_vocab(), found.tokenizer.get_vocab()
    return torch.tensor([before[token] for token in sorted(now, key=now.__getitem__)])


def _numbers(found: Trimmed) -> dict[int, int | None]:
    """The new number of each token by its old one; None for one that is left out."""
    now = found.tokenizer.get_vocab()
    return {number: now.get(token) for token, number in found.whole.get_vocab().items()}


def _loaded(name: str, architecture: Architecture) -> PreTrainedModel:
    """With the head of a task or of the vocabulary, if it has one."""
    if chain_of(name):
        return load_body(name)
    head = head_of(load_config(name))
    return load_task_model(name, head) if head else load_model(name, architecture=architecture)


def _answers(
    model: PreTrainedModel,
    ids: Int[Tensor, "rows tokens"],
    kept: Int[Tensor, " kept"] | slice = slice(None),
) -> Tensor:
    """States, classes, or the logits of the tokens that stay."""
    with torch.inference_mode():
        found: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].float()
    return found[..., kept] if _predicts(model) else found


def _predicts(model: PreTrainedModel) -> bool:
    """Whether a model has a vocabulary head."""
    return model.get_output_embeddings() is not None  # type: ignore[no-untyped-call]


def _write_settings(
    name: str, config: Any, numbers: Mapping[int, int | None], folder: Path
) -> None:
    """The model's configuration, and that of its generation where it has one."""
    text = config.get_text_config()
    text.vocab_size = sum(new is not None for new in numbers.values())
    renumber_tokens(config, numbers)
    if text is not config:
        renumber_tokens(text, numbers)
    with quiet_transformers():
        config.save_pretrained(folder)
        try:
            generation = GenerationConfig.from_pretrained(locate(name))
        except OSError:  # there is none
            return
        renumber_tokens(generation, numbers)
        save_generation(generation, folder)


def _card(model: str, name: str, report: dict[str, Any], *, task: str, low_rank: bool) -> str:
    origins = origins_of_model(model)
    metadata = metadata_of(
        name,
        origins,
        library="sentence-transformers" if task == "sentence-similarity" else "transformers",
        pipeline_tag=task,
        tags=["vocabulary-reduction", "limbeck"],
    )
    before, after = (report["model"][when]["parameters"] / 1e6 for when in ("before", "after"))
    texts = ", ".join(Path(text).name for text in report["texts"])
    said = (
        f"`{model}` with the {report['tokens']:,} of its {report['like_tokens']:,} tokens that"
        f" {texts} use most: {after:.1f}M of {before:.1f}M parameters, none of them changed. Text"
        " of these tokens gets the answers that it got; other words are split into more tokens."
    )
    about = [said, "", LOW_RANK] if low_rank else [said]
    return card_of(metadata, [f"# {name}", "", *about, "", *licence_lines(origins)])
