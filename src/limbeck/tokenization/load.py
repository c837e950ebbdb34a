"""Tokenizers are loaded from a folder or the hub, and refused if they would corrupt every text."""

import warnings
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import ModelError, first_line
from ..models.load import load_config
from ..models.locate import locate
from .lost_letters import letters_problem, normalizer_is_configured
from .post_processor import frame_problem


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model.

    Warns if many of its tokens can never occur, and its files demand the normalizer that causes
    this.

    Raises:
        ModelError: There is no tokenizer, or only a slow one; its special tokens around a text
            have other ids than in its vocabulary; or many of its tokens can never occur because
            transformers assumes lower case where the files say nothing.
    """
    place = locate(name, tokenizer_only=True)
    folder = Path(place)
    # transformers would create an empty tokenizer where there is none.
    known = ("tokenizer.json", "vocab.*", "*.model")
    if folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in known):
        raise ModelError(f"{name!r} has no tokenizer.json; save the model's fast tokenizer into it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            tokenizer.backend_tokenizer.encode("a \U0010fffd")  # fails if the files are incomplete
    except BaseException as error:  # a panic in the Rust library is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        if (folder / "config.json").is_file():
            load_config(name)  # transformers reads it first; raises if it is the broken file
        said = f"cannot load the tokenizer of {name!r}: {first_line(error)}"
        if (folder / "tokenizer.json").is_file():
            cure = "copy its files (tokenizer.json, tokenizer_config.json) again"
        else:
            cure = "the folder needs a tokenizer.json"
        raise ModelError(f"{said}; {cure}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{name!r} has only a slow tokenizer ({type(tokenizer).__name__}); save a fast one"
            " beside it (tokenizer.json)"
        )
    if problem := frame_problem(tokenizer, name):
        raise ModelError(problem)
    if problem := letters_problem(tokenizer, name):
        if not normalizer_is_configured(tokenizer, folder):
            said = 'if the model was trained so, write {"do_lower_case": true}'
            raise ModelError(f"{problem}; {said}")
        warnings.warn(problem, stacklevel=2)
    # Some files contain the truncation and padding of their last use, which would silently truncate
    # texts.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer
