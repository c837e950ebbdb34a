"""Text that a student generates on a vLLM server, which gets its weights before every batch."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ServerError
from ..system.files import whole_folder
from ..teacher.servers.client import RequestRefusedError, ServerClient
from ..token_ids import TokenIds
from .decoding import DecodingOptions, Generated

_COMPARED = 4  # rows, of a batch whose probabilities are compared
_DIFFERENCE = 0.25  # nats; bfloat16 gives some hundredths
_MOST_FORBIDDEN = 300  # entries of logit_bias
_NEVER = -100.0  # the least that a server takes as a bias


# Of a response, the ids and their log-probabilities, when they are there.
_Answer = Future[tuple[list[int], list[float]]]


class VllmText:
    """What generates a student's text on a vLLM server.

    Source: https://docs.vllm.ai, development mode: `reload_weights` by collective RPC.

    The server and this process share a folder, from which it reads the weights. It says the
    log-probability of every token that it draws; those of the first batch, and then of ever rarer
    ones, are compared with the student's own: a server of other weights, or one that has not taken
    the new ones, is refused.
    """

    def __init__(
        self, client: ServerClient, folder: Path, save: Callable[[PreTrainedModel, Path], None]
    ) -> None:
        """Nothing is sent yet.

        Args:
            client: Connections to the server, whose model is known.
            folder: For the weights; replaced with every batch.
            save: Writes a student into a folder that exists, as the server reads it.
        """
        self._client, self._folder, self._save = client, folder, save
        self._batches = 0

    def begin(
        self,
        student: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        options: DecodingOptions,
        *,
        vocabulary: TokenIds,
        eos_token_id: Collection[int],
    ) -> Callable[[], Generated]:
        """Send the weights of now, and the prompts; the server generates from here on.

        What is returned waits for the responses, one to each prompt, and raises `ServerError` where
        the server fails, gives no token ids, or has other weights.

        Args:
            student: Whose weights they are; a step later it may have others.
            prompts: Token ids, at least one each.
            options: Length, temperature and seed.
            vocabulary: No other id is generated.
            eos_token_id: Each token that ends a response.

        Raises:
            ServerError: The server fails, or does not take weights.
        """
        self._send_weights(student)
        body = {
            "max_tokens": options.max_new_tokens,
            "temperature": options.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": sorted(eos_token_id),
            "ignore_eos": True,  # the end that the server's configuration names
            "skip_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
            "logit_bias": _forbidden(student, vocabulary),
        }
        chance = np.random.default_rng((options.seed, options.first_row))
        seeds = chance.integers(2**31, size=len(prompts)).tolist()
        sent = [
            {**body, "prompt": list(ids), "seed": seed}
            for ids, seed in zip(prompts, seeds, strict=True)
        ]
        answers = [self._client.threads.submit(self._answer, request) for request in sent]
        return partial(self._finish, student, prompts, answers, options, eos_token_id)

    def _finish(
        self,
        student: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        asked: Sequence[_Answer],
        options: DecodingOptions,
        ends: Collection[int],
    ) -> Generated:
        answers = [answer.result() for answer in asked]
        if not self._batches & (self._batches - 1):  # 0, 1, 2, 4, 8 ...
            self._check(student, prompts, answers)
        self._batches += 1
        return _generated([ids for ids, _ in answers], options.max_new_tokens, ends)

    def _send_weights(self, student: PreTrainedModel) -> None:
        with whole_folder(self._folder) as part:
            self._save(student, part)
        request = {
            "method": "reload_weights",
            "kwargs": {"weights_path": str(self._folder.absolute())},
        }
        try:
            self._client.command("/collective_rpc", request)
            self._client.command("/reset_prefix_cache", {})
        except RequestRefusedError as error:
            raise ServerError(
                f"{error}: the server takes no weights; start it with VLLM_SERVER_DEV_MODE=1, on a"
                " machine that reads the folder of the run"
            ) from error

    def _answer(self, request: dict[str, Any]) -> tuple[list[int], list[float]]:
        """The ids of a response, and the log-probability of each."""
        answer = self._client.post("/v1/completions", {"model": self._client.model, **request})
        try:
            choice = answer["choices"][0]
            ids = list(map(int, choice["token_ids"]))
            logs = list(map(float, choice["logprobs"]["token_logprobs"]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ServerError(
                f"{self._client.settings.url} answers without token ids and log-probabilities:"
                f" {answer!r:.300}; use vLLM 0.11 or newer"
            ) from error
        if len(ids) != len(logs) or not ids:
            raise ServerError(
                f"{self._client.settings.url} gives {len(ids)} tokens and {len(logs)}"
                " log-probabilities; both must be as many, and one at least"
            )
        return ids, logs

    def _check(
        self,
        student: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[tuple[list[int], list[float]]],
    ) -> None:
        """See that the server draws tokens with the student's probabilities.

        Raises:
            ServerError: It does not.
        """
        was_training = student.training
        student.train(False)
        found = [
            (log_probabilities(student, prompt, ids) - torch.tensor(logs)).abs()
            for prompt, (ids, logs) in [*zip(prompts, answers, strict=True)][:_COMPARED]
        ]
        student.train(was_training)
        difference = float(torch.cat(found).mean())
        if not difference <= _DIFFERENCE:
            raise ServerError(
                f"{self._client.settings.url} draws tokens with log-probabilities that differ from"
                f" the student's by {difference:.2f} nats on average, where {_DIFFERENCE:g} would"
                " be rounding: it has other weights; give a server of this student that has taken"
                " no other --logprobs-mode"
            )


@torch.no_grad()
def log_probabilities(
    student: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]
) -> Float[Tensor, " tokens"]:
    """The student's log-probability of each token of a response, on the processor, in float32."""
    ids = torch.tensor([[*prompt, *response]], device=student.device)
    logits = student(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logs: Tensor = logits.float().log_softmax(-1)
    return logs.gather(-1, ids[0, len(prompt) :, None])[:, 0].cpu()


def _forbidden(student: PreTrainedModel, vocabulary: TokenIds) -> dict[str, float]:
    """A bias against ids that the model has and the tokenizer has not.

    Raises:
        ServerError: There are more than a server takes.
    """
    missing = [*vocabulary.absent, *range(vocabulary.end, student.config.vocab_size)]
    if len(missing) > _MOST_FORBIDDEN:
        raise ServerError(
            f"the student has {len(missing):,} tokens that its tokenizer has not, and a server is"
            f" told of {_MOST_FORBIDDEN} at most; use engine: limbeck"
        )
    return {str(number): _NEVER for number in missing}


def _generated(
    texts: Sequence[Sequence[int]], max_new_tokens: int, ends: Collection[int]
) -> Generated:
    tokens: Int[Tensor, "rows max_new_tokens"] = torch.zeros(
        len(texts), max_new_tokens, dtype=torch.long
    )
    for row, ids in enumerate(texts):
        tokens[row, : len(ids)] = torch.tensor(ids)
    lengths = torch.tensor([len(ids) for ids in texts])
    ended = torch.tensor([ids[-1] in set(ends) for ids in texts])
    return Generated(tokens, lengths, torch.zeros_like(tokens, dtype=torch.bool), ended)
