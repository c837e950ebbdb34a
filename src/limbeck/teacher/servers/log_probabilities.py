"""The log-probabilities that a server gives at each place of a text of token ids.

Source: the form is that of vLLM's ``prompt_logprobs``: nothing for the first token, and for each
other the most likely tokens in its place, beside the token itself.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int32
from numpy import ndarray
from torch import Tensor

from ...errors import ServerError
from ...token_ids import TokenIds
from .client import RequestRefusedError, ServerClient

SERVERS = (
    "vLLM gives them (`prompt_logprobs` of /v1/completions); llama-server, `transformers serve` and"
    " the API of OpenAI do not"
)
_IMPOSSIBLE = -1000.0  # servers write such numbers for tokens that were left out
_ROUNDING = 1e-3
# Log-probabilities are float32, so that what they leave of 1 is no smaller than this.
_LEAST_REST = 1e-7

Places = Sequence[Mapping[str, Any]]


class TopTokens(NamedTuple):
    """The most likely tokens at each place.

    Attributes:
        ids: Their ids, the most likely first.
        logs: Their log-probabilities, in nats.
    """

    ids: Int32[ndarray, "places top"]
    logs: Float32[ndarray, "places top"]

    def log_rest(self, vocabulary: int) -> Float32[ndarray, " places"]:
        """Log of the probability of all other tokens of so large a vocabulary."""
        logs = self.logs.astype(np.float64)
        # None of the others is more likely than the last that is known.
        most = np.exp(logs[:, -1]) * (vocabulary - logs.shape[1])
        rest = np.maximum(1 - np.exp(logs).sum(-1), _LEAST_REST)
        found: Float32[ndarray, " places"] = np.log(np.minimum(rest, most)).astype(np.float32)
        return found

    def stored(self, vocabulary: int) -> tuple[Tensor, Tensor]:
        """Ids, and log-probabilities with that of all others behind them, as a cache has them."""
        logs = np.concatenate([self.logs, self.log_rest(vocabulary)[:, None]], axis=-1)
        return torch.from_numpy(self.ids), torch.from_numpy(logs).half()


def read_places(
    client: ServerClient, ids: Sequence[int], top_k: int, *, temperature: float = 1.0
) -> Places:
    """What the server says of each token but the first: tokens by id, as text.

    Args:
        client: Of the server, whose model is known.
        ids: What the model reads.
        top_k: Tokens at each place; the server may add the token itself.
        temperature: Which must change nothing; it is sent so that no default of the server's does.

    Raises:
        ServerError: The server gives no log-probabilities, or of other tokens.
    """
    body = {
        "model": client.model,
        "prompt": list(ids),
        "max_tokens": 1,
        "temperature": temperature,
        "prompt_logprobs": top_k,
    }
    try:
        answer = client.post("/v1/completions", body)
    except RequestRefusedError as error:
        raise ServerError(_refused(error, client, len(ids), top_k)) from error
    url = client.settings.url
    try:
        places = answer["choices"][0]["prompt_logprobs"]
    except (KeyError, IndexError, TypeError):
        places = None
    if places is None:
        raise ServerError(f"{url} gives no log-probabilities of the tokens of a prompt. {SERVERS}")
    if not isinstance(places, list) or len(places) != len(ids):
        count = len(places) if isinstance(places, list) else "no"
        raise ServerError(
            f"{url} gives log-probabilities at {count} places of a text of {len(ids)} tokens; the"
            " server must read token ids as they are, and add none"
        )
    for number, (token, place) in enumerate(zip(ids[1:], places[1:], strict=True), 1):
        if not isinstance(place, Mapping) or str(token) not in place:
            raise ServerError(
                f"{url} gives no log-probability of the token {token} at place {number} of a text;"
                f" it must read token ids as they are, and number them as the tokenizer of"
                " `teacher.model`"
            )
    return places[1:]


def top_tokens(places: Places, top_k: int, tokens: TokenIds, url: str) -> TopTokens:
    """The most likely tokens at these places, once it is sure that these are probabilities.

    Raises:
        ServerError: There are fewer, others than the tokenizer has, or what is given is no
            log-probability.
    """
    try:
        found = [
            sorted(((float(said["logprob"]), int(token)) for token, said in place.items()))
            for place in places
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ServerError(
            f"{url} gives log-probabilities in another form than ids with `logprob`. {SERVERS}"
        ) from error
    if any(math.isnan(log) for some in found for log, _ in some):
        raise ServerError(
            f"{url} gives a log-probability that is no number (NaN); serve the model in a precision"
            " in which it does not overflow (vLLM: --dtype bfloat16)"
        )
    given = [sum(math.isfinite(log) and log > _IMPOSSIBLE for log, _ in some) for some in found]
    if (fewest := min(given, default=top_k)) < top_k:
        raise ServerError(
            f"{url} gives {fewest} log-probabilities at a place, and {top_k} are needed; start the"
            f" server so that it gives more (vLLM: --max-logprobs {top_k}), or keep fewer (top_k)"
        )
    table = np.array([some[: -top_k - 1 : -1] for some in found], dtype=np.float64)
    table = table.reshape(len(found), top_k, 2)
    logs, ids = table[..., 0], table[..., 1].astype(np.int64)
    if logs.max(initial=0.0) > _ROUNDING or np.exp(logs).sum(-1).max(initial=0.0) > 1 + _ROUNDING:
        raise ServerError(
            f"{url} gives numbers that are no log-probabilities: those of a place add up to"
            f" {np.exp(np.minimum(logs, 50.0)).sum(-1).max():.3g}; let it give log-probabilities"
            " before any processing (vLLM: --logprobs-mode raw_logprobs)"
        )
    unknown = (ids < 0) | (ids >= tokens.end) | np.isin(ids, tokens.absent)
    if unknown.any():
        raise ServerError(
            f"{url} gives the token {ids[unknown][0]}, which the tokenizer of `teacher.model` does"
            f" not have ({len(tokens)} tokens); name the folder of the model that is served"
        )
    return TopTokens(ids.astype(np.int32), np.minimum(logs, 0.0).astype(np.float32))


def _refused(error: RequestRefusedError, client: ServerClient, length: int, top_k: int) -> str:
    """What a refusal of log-probabilities may come from, beside what the server says."""
    url = client.settings.url
    if error.status in (401, 403):
        return str(error)
    if error.status in (404, 405, 501):
        return f"{url} has no /v1/completions ({error.said}). {SERVERS}"
    return (
        f"{url} refuses the log-probabilities of a text of {length} token ids, {top_k} at each"
        f" place: {error.status} ({error.said}). It must be a server that gives them ({SERVERS}),"
        f" read one token more than the text (vLLM: --max-model-len {length + 1}; or make"
        f" data.max_length smaller), and give so many (vLLM: --max-logprobs {top_k}; or make top_k"
        " smaller)"
    )
