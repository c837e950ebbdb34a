"""Batches of text that student and teacher generate from prompts.

Source: replay of what was generated in earlier steps, Ko et al. 2024, DistiLLM, arXiv:2402.03898.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..batch import Batch, Links, Tokens
from ..token_ids import TokenIds
from ..tokenization.batching import ALL_ROWS, BatchSource
from ..tokenization.prompts import Ids, PromptBatches
from .decoding import DecodingOptions, Generated, generate
from .drafting import most_places
from .options import PolicyOptions
from .readers import Readers
from .rules import Rule
from .shared import TextOfFirst, generated_by_all
from .thirds import means_by_third, thirds_of
from .vllm_text import VllmText


class Policy(NamedTuple):
    """Where the text that a stage learns from comes from.

    Attributes:
        rule: Decides who generates; None takes every text from the corpus.
        options: Of the policy as a whole.
    """

    rule: Rule | None
    options: PolicyOptions = PolicyOptions()


@dataclass(frozen=True)
class GeneratedBatches(BatchSource):
    """The batches of a stage whose text is generated with the weights of the current step.

    Batch number n is a pure function of the seed, of n, of the weights, and of what is kept
    of earlier batches.

    Attributes:
        prompts: With the responses of the corpus.
        policy: Where text comes from.
        student: Generates with its current weights.
        teacher: Generates where the rule says so; None where the rule does not need one.
        max_new_tokens: Tokens of a response at most.
        vocabulary: The ids that the tokenizer has, or how many from 0 on.
        eos_token_id: Each token that ends a response.
        steps: Of the stage.
        seed: Decides the noise, and which responses are generated.
        apart: Whether some objective learns from the references, and not from the text in
            which the models are compared.
        vllm: What generates instead of this process, where the policy says so.
        process: Number of this process, where each generates a share.
        processes: How many there are.
    """

    prompts: PromptBatches
    policy: Policy
    student: PreTrainedModel
    teacher: PreTrainedModel | None
    max_new_tokens: int
    vocabulary: TokenIds | int
    eos_token_id: tuple[int, ...]
    steps: int
    seed: int
    apart: bool
    vllm: VllmText | TextOfFirst | None = None
    process: int = 0
    processes: int = 1
    depends_on_weights: ClassVar[bool] = True
    _ahead: "dict[int, _Drawn]" = field(default_factory=dict)  # whose text is being generated
    _since: list[Generated] = field(default_factory=list)  # the last record
    _kept: list[tuple[int, Ids]] = field(default_factory=list)  # prompts and generated responses

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of that number, counted from 0, or some rows of it.

        The whole batch is generated in any case, by all processes together.
        """
        rule = self.policy.rule
        if rule is None:
            return self.prompts.batch(number, rows)
        drawn = self._ahead.pop(number, None) or self._drawn(number, rule)
        numbers, responses, new = drawn.numbers, drawn.responses, drawn.new
        if drawn.generated is not None:
            generated = drawn.generated()
            texts = zip(new, generated.tokens.tolist(), generated.lengths.tolist(), strict=True)
            for place, ids, length in texts:
                responses[place] = np.array(ids[:length])
            self._since.append(generated)
            self._keep([(numbers[place], responses[place]) for place in new])
        if self.policy.options.one_step_behind and number + 1 < self.steps:
            self._ahead[number + 1] = self._drawn(number + 1, rule)
        table, options = self.prompts.table, self.policy.options
        mine = numbers[rows]
        prompts = [table.prompts[prompt] for prompt in mine]
        tokens = self.prompts.answered(prompts, responses[rows])
        if not self.apart or options.labels == "generated":
            return Batch(tokens, tokens)
        return Batch(self.prompts.read(mine), tokens, _same(tokens))

    def _drawn(self, number: int, rule: Rule) -> "_Drawn":
        """Which prompts a batch has, and what is to be generated; on vLLM that begins here."""
        options = self.policy.options
        numbers, table = self.prompts.numbers(number), self.prompts.table
        chance = np.random.default_rng((self.seed, number))
        wanted = chance.random(len(numbers)) < options.fraction
        again = wanted & (chance.random(len(numbers)) < options.replay_ratio) & bool(self._kept)
        responses = [table.responses[prompt] for prompt in numbers]
        for place in again.nonzero()[0].tolist():
            numbers[place], responses[place] = self._kept[int(chance.integers(len(self._kept)))]
        new: list[int] = (wanted & ~again).nonzero()[0].tolist()
        prompts = [table.prompts[numbers[place]] for place in new]
        if not new:
            return _Drawn(numbers, responses, new, None)
        if self.vllm is not None:
            return _Drawn(numbers, responses, new, self._begun(self.vllm, prompts, number))
        return _Drawn(numbers, responses, new, partial(self._generate, prompts, rule, number))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of earlier batches."""
        if not self._kept:
            return {}
        rows, texts = zip(*self._kept, strict=True)
        return {
            "rows": torch.tensor(rows),
            "lengths": torch.tensor([len(text) for text in texts]),
            "tokens": torch.from_numpy(np.concatenate(texts)),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue with what a checkpoint has kept."""
        self._kept.clear()
        if state:
            ends = state["lengths"].cumsum(0).numpy()
            texts = np.split(state["tokens"].numpy(), ends[:-1])
            self._kept.extend(zip(state["rows"].tolist(), texts, strict=True))

    def _keep(self, texts: list[tuple[int, Ids]]) -> None:
        if self.policy.options.replay_ratio:
            self._kept.extend(texts)
            del self._kept[: -self.policy.options.replay_buffer_size]

    def facts(self) -> Mapping[str, object]:
        """Who generated how much since the last call, how long, and how often to an end."""
        some = list(self._since)
        self._since.clear()
        return _facts(some) if some else {}

    def held_bytes(self) -> int:
        """Bytes of the keys and values of both models."""
        return self._readers.cache_bytes

    @cached_property
    def _readers(self) -> Readers:
        options = self.policy.options
        longest = max(map(len, self.prompts.table.prompts)) + self.max_new_tokens
        share = -(-self.prompts.size // self.processes)
        places = most_places(longest, options.draft_length)
        readers = Readers(cuda_graphs=options.cuda_graphs, direct=options.direct_forward)
        readers.expect(rows=share, places=places)
        return readers

    def _begun(
        self, vllm: VllmText | TextOfFirst, prompts: Sequence[Ids], number: int
    ) -> Callable[[], Generated]:
        """Send the weights and the prompts of a batch to vLLM; calling what is returned waits."""
        return vllm.begin(
            self.student,
            [ids.tolist() for ids in prompts],
            self._decoding(number),
            vocabulary=TokenIds.given(self.vocabulary),
            eos_token_id=self.eos_token_id,
        )

    def _decoding(self, number: int) -> DecodingOptions:
        return DecodingOptions(
            self.max_new_tokens,
            self.policy.options.temperature,
            self.policy.options.draft_length,
            seed=int(np.random.default_rng((self.seed, number, 1)).integers(2**31)),
        )

    def _generate(self, prompts: Sequence[Ids], rule: Rule, number: int) -> Generated:
        was_training = self.student.training
        self.student.train(False)
        kind = self.student.device.type
        coarse = self.policy.options.precision == "bfloat16"

        def some(rows: range) -> Generated | None:
            if not rows:
                return None
            return generate(
                self.student,
                self.teacher,
                [prompts[row].tolist() for row in rows],
                rule,
                options=replace(self._decoding(number), first_row=rows.start),
                vocabulary=self.vocabulary,
                eos_token_id=self.eos_token_id,
                progress=min(1.0, number / max(1, self.steps - 1)),
                readers=self._readers,
            )

        with torch.autocast(kind, torch.bfloat16, enabled=coarse):
            generated = generated_by_all(len(prompts), self.process, self.processes, some)
        self.student.train(was_training)
        return generated


class _Drawn(NamedTuple):
    """A batch before its text is there.

    Attributes:
        numbers: Of the prompts.
        responses: Of the corpus, or replayed.
        new: Places of the responses to generate.
        generated: Gives these, in their order; None where there are none.
    """

    numbers: list[int]
    responses: list[Ids]
    new: list[int]
    generated: Callable[[], Generated] | None


def _same(tokens: Tokens) -> Links:
    """Links of a text with itself: the student reads it beside the references."""
    places = torch.arange(tokens.mask.shape[1]).expand(tokens.mask.shape)
    linked = torch.where(tokens.mask, places, -1)
    return Links(view=tokens, student=linked, teacher=linked, groups=tokens)


def _facts(some: Sequence[Generated]) -> dict[str, object]:
    lengths = torch.cat([one.lengths for one in some])
    ended = torch.cat([one.ended for one in some])
    thirds = thirds_of(lengths)
    by_teacher = torch.cat([one.by_teacher for one in some])[:, : thirds.shape[1]]
    return {
        "teacher_wrote": means_by_third(by_teacher, thirds),
        "written_length": float(lengths.float().mean()),
        "written_ended": float(ended.float().mean()),
    }
