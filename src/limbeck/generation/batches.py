"""Batches of text that student and teacher write themselves, from prompts.

Source: replay of what was written before, Ko et al. 2024, DistiLLM, arXiv:2402.03898.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..batch import Batch, Links, Tokens
from ..token_ids import TokenIds
from ..tokenization.batching import ALL_ROWS, BatchSource
from ..tokenization.prompts import Ids, PromptBatches
from .options import PolicyOptions
from .parts import means_by_part, parts_of
from .rules import Rule
from .shared import written_by_all
from .tables import Readers
from .write import Writing, Written, most_places, write


class Policy(NamedTuple):
    """Where the text comes from that a stage learns on.

    Attributes:
        rule: Who writes; None leaves every text to the corpus.
        options: Of the policy as a whole.
    """

    rule: Rule | None
    options: PolicyOptions = PolicyOptions()


@dataclass(frozen=True)
class WrittenBatches(BatchSource):
    """The batches of a stage whose text is written with the weights as they are.

    Batch number n is a pure function of the seed, of n, of the weights, and of what is kept
    of earlier batches.

    Attributes:
        prompts: With the corpus's own responses.
        policy: Where text comes from.
        student: Writes as it is now.
        teacher: Whom the rule may ask.
        longest: Tokens of a response at most.
        tokens: The ids that the tokenizer has, or how many from 0 on.
        ends: Tokens that end a response, each of them.
        steps: Of the stage.
        seed: Decides the noise, and whose response is written.
        apart: Whether something learns from the references beside what is compared.
        process: Which of several processes this is, where each writes a share.
        processes: How many there are.
    """

    prompts: PromptBatches
    policy: Policy
    student: PreTrainedModel
    teacher: PreTrainedModel | None
    longest: int
    tokens: TokenIds | int
    ends: tuple[int, ...]
    steps: int
    seed: int
    apart: bool
    process: int = 0
    processes: int = 1
    hangs_on_weights: ClassVar[bool] = True
    _since: list[Written] = field(default_factory=list)  # the last record
    _kept: list[tuple[int, Ids]] = field(default_factory=list)  # prompts and what was written

    def batch(self, number: int, rows: slice = ALL_ROWS) -> Batch:
        """The batch of that number, counted from 0, or some rows of it.

        All of it is written in any case, by all processes together.
        """
        rule, options = self.policy.rule, self.policy.options
        if rule is None:
            return self.prompts.batch(number, rows)
        asked, table = self.prompts.numbers(number), self.prompts.table
        chance = np.random.default_rng((self.seed, number))
        wanted = chance.random(len(asked)) < options.fraction
        again = wanted & (chance.random(len(asked)) < options.replay_ratio) & bool(self._kept)
        responses = [table.responses[prompt] for prompt in asked]
        for place in again.nonzero()[0].tolist():
            asked[place], responses[place] = self._kept[int(chance.integers(len(self._kept)))]
        new: list[int] = (wanted & ~again).nonzero()[0].tolist()
        if new:
            written = self._write([table.prompts[asked[place]] for place in new], rule, number)
            texts = zip(new, written.tokens.tolist(), written.lengths.tolist(), strict=True)
            for place, ids, length in texts:
                responses[place] = np.array(ids[:length])
            self._since.append(written)
            self._keep([(asked[place], responses[place]) for place in new])
        mine = asked[rows]
        prompts = [table.prompts[prompt] for prompt in mine]
        tokens = self.prompts.answered(prompts, responses[rows])
        if not self.apart or options.labels == "generated":
            return Batch(tokens, tokens)
        return Batch(self.prompts.read(mine), tokens, _same(tokens))

    def state(self) -> dict[str, Tensor]:
        """What is kept of earlier batches, for a checkpoint."""
        if not self._kept:
            return {}
        rows, texts = zip(*self._kept, strict=True)
        return {
            "rows": torch.tensor(rows),
            "lengths": torch.tensor([len(text) for text in texts]),
            "tokens": torch.from_numpy(np.concatenate(texts)),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what a checkpoint has kept."""
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
        """Of all that was written since it was last asked: by whom, how long, if to its end."""
        some = list(self._since)
        self._since.clear()
        return _facts(some) if some else {}

    @cached_property
    def _readers(self) -> Readers:
        options = self.policy.options
        longest = max(map(len, self.prompts.table.prompts)) + self.longest
        share = -(-self.prompts.size // self.processes)
        places = most_places(longest, options.draft_length)
        readers = Readers(graphs=options.cuda_graphs)
        readers.expect(rows=share, places=places)
        return readers

    def _write(self, prompts: Sequence[Ids], rule: Rule, number: int) -> Written:
        was_training = self.student.training
        self.student.train(False)
        kind = self.student.device.type
        coarse = self.policy.options.precision == "bfloat16"
        seed = int(np.random.default_rng((self.seed, number, 1)).integers(2**31))

        def some(rows: range) -> Written | None:
            if not rows:
                return None
            return write(
                self.student,
                self.teacher,
                [prompts[row].tolist() for row in rows],
                rule,
                writing=Writing(
                    self.longest,
                    self.policy.options.temperature,
                    self.policy.options.draft_length,
                    seed=seed,
                    first_row=rows.start,
                ),
                tokens=self.tokens,
                ends=self.ends,
                progress=min(1.0, number / max(1, self.steps - 1)),
                readers=self._readers,
            )

        with torch.autocast(kind, torch.bfloat16, enabled=coarse):
            written = written_by_all(len(prompts), self.process, self.processes, some)
        self.student.train(was_training)
        return written


def _same(tokens: Tokens) -> Links:
    """Links of a text with itself: the student reads it beside the references."""
    places = torch.arange(tokens.mask.shape[1]).expand(tokens.mask.shape)
    linked = torch.where(tokens.mask, places, -1)
    return Links(view=tokens, student=linked, teacher=linked, groups=tokens)


def _facts(some: Sequence[Written]) -> dict[str, object]:
    lengths = torch.cat([written.lengths for written in some])
    ended = torch.cat([written.ended for written in some])
    parts = parts_of(lengths)
    by_teacher = torch.cat([written.by_teacher for written in some])[:, : parts.shape[1]]
    return {
        "teacher_wrote": means_by_part(by_teacher, parts),
        "written_length": float(lengths.float().mean()),
        "written_ended": float(ended.float().mean()),
    }
