"""Tokenizers, loaded from where they lie, and refused where they would spoil every text."""

import warnings
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import ModelError, first_line
from ..models.load import load_config
from ..models.locate import locate
from .lost_letters import letters_problem, says_so
from .post_processor import frame_problem


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model.

    Warns where many of its tokens can never be made, as its files say what makes them so.

    Raises:
        ModelError: There is none, or only a slow one; it frames texts with other ids than its
            vocabulary has for these tokens; or many of its tokens can never be made, as
            transformers makes capitals small where a folder does not say what becomes of them.
    """
    place = locate(name, tokenizer_only=True)
    folder = Path(place)
    # transformers would make an empty tokenizer up where there is none.
    known = ("tokenizer.json", "vocab.*", "*.model")
    if folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in known):
        raise ModelError(f"{name!r} has no tokenizer.json; save the model's fast tokenizer into it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            tokenizer.backend_tokenizer.encode("a \U0010fffd")  # what is not there shows here
    except BaseException as error:  # a panic in the library below is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        if (folder / "config.json").is_file():
            load_config(name)  # which transformers reads first; says it where that one is broken
        said = f"cannot load the tokenizer of {name!r}: {first_line(error)}"
        if (folder / "tokenizer.json").is_file():
            cure = "copy its files (tokenizer.json, tokenizer_config.json) anew"
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
        if not says_so(tokenizer, folder):
            said = 'if the model was trained so, write {"do_lower_case": true}'
            raise ModelError(f"{problem}; {said}")
        warnings.warn(problem, stacklevel=2)
    # Some folders keep the length and padding of their last use, which would silently cut texts.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer
