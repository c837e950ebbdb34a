"""Tokenizers are loaded from a folder or the hub, and refused if they would corrupt every text."""

import json
import warnings
from operator import itemgetter
from pathlib import Path

from tokenizers import Tokenizer, decoders
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import ModelError, first_line
from ..models.load import load_config
from ..models.locate import locate
from .lost_letters import letters_problem, normalizer_is_configured
from .post_processor import frame_problem
from .spelling import in_bytes

_MOST_TOKENS = 50_000_000  # of any vocabulary
# Of tokenizer_config.json.
_SETTINGS = (
    "chat_template",
    "clean_up_tokenization_spaces",
    "model_input_names",
    "model_max_length",
    "padding_side",
    "truncation_side",
)
_NAMING_TOKENS = ("tokenizer", "tokenizer_config", "special_tokens_map", "added_tokens")


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model.

    Warns if many of its tokens can never occur, and its files demand the normalizer that causes
    this; or if a tokenizer of bytes has no decoder, which it gets.

    Raises:
        ModelError: There is no tokenizer, or only a slow one; an id is beyond all vocabularies; its
            special tokens around a text have other ids than in its vocabulary; or many of its
            tokens can never occur because transformers assumes lower case where the files say
            nothing.
    """
    place = locate(name, tokenizer_only=True)
    folder = Path(place)
    tokens = _tokens_in_file(folder, name)
    options = {"gguf_file": folder.name} if tokens else {}
    folder = folder.parent if tokens else folder
    # transformers would create an empty tokenizer where there is none.
    known = ("tokenizer.json", "vocab.*", "*.model")
    if not options and folder.is_dir() and not any(list(folder.glob(pattern)) for pattern in known):
        raise ModelError(f"{name!r} has no tokenizer.json; save the model's fast tokenizer into it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder) if options else place, **options, trust_remote_code=False
        )
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            tokens = tokens or _tokens_in_folder(tokenizer, folder)
            if tokens:
                tokenizer = _of_file_alone(tokenizer, tokens)
            tokenizer.backend_tokenizer.encode("a \U0010fffd")  # fails if the files are incomplete
    except BaseException as error:  # a panic in the Rust library is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        if (folder / "config.json").is_file():
            load_config(name)  # transformers reads it first; raises if it is the broken file
        said = f"cannot load the tokenizer of {name!r}: {first_line(error).rstrip('.')}"
        raise ModelError(f"{said}; {_cure(folder)}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"{name!r} has only a slow tokenizer ({type(tokenizer).__name__}); save a fast one"
            " beside it (tokenizer.json)"
        )
    if problem := _ids_problem(tokenizer, name) or frame_problem(tokenizer, name):
        raise ModelError(problem)
    if problem := letters_problem(tokenizer, name):
        if not normalizer_is_configured(tokenizer, folder):
            said = 'if the model was trained so, write {"do_lower_case": true}'
            raise ModelError(f"{problem}; {said}")
        warnings.warn(problem, stacklevel=2)
    _add_decoder_of_bytes(tokenizer, name)
    # Some files contain the truncation and padding of their last use, which would silently truncate
    # texts.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _cure(folder: Path) -> str:
    """What to do where the tokenizer of a folder, or of a hub name, cannot be loaded."""
    if (folder / "tokenizer.json").is_file():
        return "copy its files (tokenizer.json, tokenizer_config.json) again"
    if folder.is_dir():
        return "the folder needs a tokenizer.json"
    return "give a folder with a tokenizer, or a hub name where the hub can be reached"


def _add_decoder_of_bytes(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Give a tokenizer of bytes that was saved without its decoder one, and warn."""
    if tokenizer.backend_tokenizer.decoder is None and in_bytes(tokenizer):
        tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
        warnings.warn(
            f"the tokenizer of {name!r} reads texts as bytes and was saved without a decoder, so"
            " that tokens become 'Ġthe' and no text; limbeck adds the decoder (ByteLevel), also to"
            " what it saves",
            stacklevel=3,
        )


def _ids_problem(tokenizer: PreTrainedTokenizerFast, name: str) -> str | None:
    """The problem that an id is beyond all vocabularies; whatever lists all ids takes minutes."""
    token, number = max(tokenizer.get_vocab().items(), key=itemgetter(1), default=("", 0))
    if number < _MOST_TOKENS:
        return None
    return (
        f"the tokenizer of {name!r} gives {token!r} the id {number}, and a vocabulary has less than"
        f" {_MOST_TOKENS} tokens; copy its tokenizer.json again"
    )


def _tokens_in_file(file: Path, name: str) -> int:
    """The number of tokens in a GGUF file; 0 for a place that is no file.

    Raises:
        ModelError: The file holds no tokenizer.
    """
    if not file.is_file():
        return 0
    from ..models.gguf import gguf_header  # needs the extra `gguf`

    if tokens := gguf_header(file).vocabulary:
        return tokens
    raise ModelError(
        f"{name!r} holds no tokenizer (tokenizer.ggml.tokens); give a GGUF file of the whole model,"
        " or its transformers folder with safetensors and tokenizer.json"
    )


def _tokens_in_folder(tokenizer: PreTrainedTokenizerFast, folder: Path) -> int:
    """The number of tokens that the files name, where transformers' class adds more; otherwise 0.

    A class of transformers is chosen by the model's type, whatever tokenizer_config.json says.
    """
    behind = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
    added = {n: str(t) for n, t in tokenizer.added_tokens_decoder.items() if n >= behind}
    if not added or not (folder / "tokenizer.json").is_file():
        return 0
    files = (folder / f"{name}.json" for name in _NAMING_TOKENS)
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]

    def named(token: str) -> bool:
        forms = {json.dumps(token), json.dumps(token, ensure_ascii=False)}
        return any(form in text for form in forms for text in texts)

    last = max((n for n, token in added.items() if named(token)), default=behind - 1)
    return last + 1 if last < max(added) else 0


def _of_file_alone(tokenizer: PreTrainedTokenizerFast, tokens: int) -> PreTrainedTokenizerFast:
    """The tokenizer without the tokens that its class adds to those of the files.

    GPT-2's and Qwen 2's classes add ``<|endoftext|>`` where a vocabulary lacks it; the model has
    no embedding for it.
    """
    if len(tokenizer) <= tokens:
        return tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < tokens]
    backend = Tokenizer.from_str(json.dumps(state))
    known = backend.get_vocab()
    special = {n: token for n, token in tokenizer.special_tokens_map.items() if token in known}
    kept = {name: getattr(tokenizer, name) for name in _SETTINGS}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, **kept, **special
    )
