"""A few requests that prove, before many are made, that a server gives what a teacher must.

Both sides must number tokens alike, every place must have enough log-probabilities, these must be
normalized and of temperature 1, and the longest text must fit.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from ...errors import ServerError
from ...token_ids import TokenIds
from .client import RequestRefusedError, ServerClient, ServerCrashError, served_model
from .log_probabilities import SERVERS, Places, TopTokens, read_places, top_tokens

_TEXT = (
    "  Two  spaces,\ta tab;\n\na line: 3.14159, 2026-11-29, 1 000 000 km/h. Naïve café, “quotes” –"
    " dashes… Тихий вечер, красный сад и 25 писем; ещё ёж. def f(x): return {x: [x ** 2]}  "
)
_OTHER_TEMPERATURE = 0.1
_MOST_CHANGE = 0.05  # of a probability: more than two runs in bfloat16 differ by
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # part of a letter, which servers show in several ways


@dataclass(frozen=True)
class Probe:
    """What a server was found to give.

    Attributes:
        model: The name of the model on it.
        tokens_checked: Different tokens whose text is the same on both sides.
        seconds: Of one request with the longest text.
        bytes_a_token: Of its answer.
    """

    model: str
    tokens_checked: int
    seconds: float
    bytes_a_token: float


def probe_server(
    client: ServerClient,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[Sequence[int]],
    *,
    top_k: int,
    longest: int,
) -> Probe:
    """See that a server may be the teacher of these texts; the client takes its model's name.

    Args:
        client: Of the server.
        tokenizer: Of the folder that the recipe names.
        texts: Some of those that the teacher is to read, in its token ids; not empty.
        top_k: Log-probabilities that are needed at each place.
        longest: Tokens of the longest text.

    Raises:
        ServerError: It may not; the message says why, and what to change.
    """
    described = served_model(client)
    _check_length(client, described.get("max_model_len"), longest)
    ids, checked = TokenIds.of(tokenizer), set[int]()
    special = "".join(map(str, tokenizer.all_special_tokens[:8]))
    sample = tokenizer(_TEXT + special, add_special_tokens=False)["input_ids"][:longest]
    for number, text in enumerate((sample, *texts)):
        try:
            places = read_places(client, text, top_k)
        except ServerCrashError as error:
            # It has listed its model, so this may be an answer to what it does not know.
            raise ServerError(f"{error}{'' if number else f'. {SERVERS}'}") from error
        top_tokens(places, top_k, ids, client.settings.url)
        checked |= _same_tokens(client, tokenizer, places)
        _check_tokenization(client, tokenizer, str(tokenizer.decode(text)))
    if not checked:
        raise ServerError(
            f"{client.settings.url} says the text of no token (`decoded_token`), so that nothing"
            " proves that its tokens are those of `teacher.model`; let it load its tokenizer"
        )
    _check_temperature(client, ids, sample, top_k)
    joined = [token for text in texts for token in text]
    whole = (joined * (longest // max(1, len(joined)) + 1))[:longest]
    began, before = time.perf_counter(), client.received
    top_tokens(read_places(client, whole, top_k), top_k, ids, client.settings.url)
    seconds = time.perf_counter() - began
    return Probe(client.model, len(checked), seconds, (client.received - before) / longest)


def _check_length(client: ServerClient, limit: object, longest: int) -> None:
    """Refuse a server that says that it reads less; it reads the text and one token more."""
    if isinstance(limit, int) and limit <= longest:
        raise ServerError(
            f"{client.settings.url} reads {limit} tokens, one of which it must generate, and the"
            f" texts have up to {longest}; start it with a longer context (vLLM: --max-model-len"
            f" {longest + 1}), or make data.max_length smaller"
        )


def _same_tokens(
    client: ServerClient, tokenizer: PreTrainedTokenizerFast, places: Places
) -> set[int]:
    """The ids that the server shows by the text that they have here."""
    same = set()
    for place in places:
        for key, said in place.items():
            token, shown = int(key), said.get("decoded_token")
            if not isinstance(shown, str) or not shown or _UNKNOWN in shown:
                continue
            own = str(tokenizer.decode([token]))
            written = str(tokenizer.convert_ids_to_tokens(token))
            # Alone, a token may have lost the space before it on one side.
            if _UNKNOWN not in own and shown.strip() not in (own.strip(), written.strip()):
                raise ServerError(
                    f"{client.settings.url} shows the token {token} as {shown!r}, and in the"
                    f" tokenizer of `teacher.model` it is {own!r}: another model is served; name"
                    " its folder, or serve the model that the recipe names"
                )
            same.add(token)
    return same


def _check_tokenization(
    client: ServerClient, tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    """Compare how both sides tokenize a text, where the server tells."""
    body = {"model": client.model, "prompt": text, "add_special_tokens": False}
    try:
        found = client.post("/tokenize", body)
    except RequestRefusedError:
        return  # an address that only some servers have; the text of the tokens was compared
    theirs = found.get("tokens") if isinstance(found, dict) else None
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    if isinstance(theirs, list) and theirs != own:
        pairs = zip(own, theirs, strict=False)
        place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(own), len(theirs)))
        raise ServerError(
            f"{client.settings.url} tokenizes a text in {len(theirs)} tokens and the tokenizer of"
            f" `teacher.model` in {len(own)}, differently from place {place}"
            f" ({tokenizer.decode(own[place : place + 4])!r}): another model is served; name its"
            " folder, or serve the model that the recipe names"
        )


def _check_temperature(
    client: ServerClient, ids: TokenIds, text: Sequence[int], top_k: int
) -> None:
    """Ask once more, and once at another temperature: nothing may change."""

    def found(temperature: float) -> TopTokens:
        places = read_places(client, text, top_k, temperature=temperature)
        return top_tokens(places, top_k, ids, client.settings.url)

    first, again, other = found(1.0), found(1.0), found(_OTHER_TEMPERATURE)
    if (change := _change(first, again)) > _MOST_CHANGE:
        raise ServerError(
            f"{client.settings.url} gives other log-probabilities for the same text: a probability"
            f" differs by {change:.2f}; it must give those of the model, without noise"
        )
    if (change := _change(first, other)) > _MOST_CHANGE:
        raise ServerError(
            f"{client.settings.url} divides logits by the temperature: at {_OTHER_TEMPERATURE} a"
            f" probability differs by {change:.2f}. Let it give log-probabilities of the model"
            " itself (vLLM: --logprobs-mode raw_logprobs)"
        )


def _change(one: TopTokens, other: TopTokens) -> float:
    """By how much a probability of a token that both have differs at most."""
    most = 0.0
    for ids, logs, others, theirs in zip(one.ids, one.logs, other.ids, other.logs, strict=True):
        _, mine, yours = np.intersect1d(ids, others, return_indices=True)
        if len(mine) == 0:
            return math.inf
        most = max(most, float(np.abs(np.exp(logs[mine]) - np.exp(theirs[yours])).max()))
    return most
