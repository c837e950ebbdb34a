"""What `generate` refuses before a model reads anything."""

import math

import numpy as np
import pytest
import torch
from conftest import make_model

from limbeck.errors import GenerationError
from limbeck.generation import (
    DecodingOptions,
    Speculative,
    Student,
    Switch,
    TokenIds,
    generate,
)
from limbeck.generation.given import check_given

TOKENS = 40


@pytest.fixture(scope="module")
def models():
    return [make_model("llama", vocabulary=TOKENS, layers=1, seed=seed).eval() for seed in (0, 1)]


def generated(models, **changed):
    """The tokens of a small call, of which some arguments are others."""
    given = {
        "student": models[0],
        "teacher": models[1],
        "prompts": [[5, 6, 7], [8]],
        "rule": Switch(tau=0.1),
        "options": DecodingOptions(4),
        "vocabulary": TOKENS,
        "eos_token_id": [2, 3],
    } | changed
    return generate(**given)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rule": Switch(tau=5.0)}, r"tau of the rule is 5; give 0 to ln 2"),
        ({"rule": Speculative(top_k=0)}, "top_k of the rule is 0; give 1 or more"),
        ({"teacher": None}, "Switch needs a teacher, and there is none"),
        ({"prompts": []}, "there is no prompt, or one has no token"),
        ({"prompts": [[5], []]}, "there is no prompt, or one has no token"),
        ({"prompts": [[5, 40]]}, "the student has the ids 0 to 39, .* up to 40"),
        ({"prompts": [[5, -1]]}, "the student has the ids 0 to 39"),
        ({"vocabulary": 0}, "the vocabulary has no token"),
        ({"vocabulary": 41}, "the student has the ids 0 to 39, .* up to 40"),
        ({"eos_token_id": 40}, r"the end of texts 40 is no id of the vocabulary \(0 to 39\)"),
        ({"eos_token_id": [2, -1]}, "the end of texts -1 is no id"),
        ({"eos_token_id": None}, "eos_token_id is None; give a token id or a list of them, or an"),
        ({"eos_token_id": [2, None]}, "eos_token_id is .2, None.; give"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>'; give"),
        ({"prompts": ["a text"]}, "a prompt is the text 'a text'; give its token ids"),
        (
            {"options": DecodingOptions(79)},
            "the longest prompt has 3 tokens, max_new_tokens is 79, and the student reads 80",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(models, changed, said):
    with pytest.raises(GenerationError, match=said):
        generated(models, **changed)


def test_ids_of_numpy_and_torch_are_ids(models):
    expected = generated(models).tokens.tolist()
    for ends in (np.array([3, 2]), torch.tensor([2, 3]), {np.int64(2), np.int32(3)}):
        assert generated(models, eos_token_id=ends).tokens.tolist() == expected
    of_one = generated(models, eos_token_id=2).tokens.tolist()
    for end in (np.int64(2), torch.tensor(2)):
        assert generated(models, eos_token_id=end).tokens.tolist() == of_one


def test_models_that_do_not_generate_or_have_fewer_tokens(models):
    with pytest.raises(GenerationError, match="the student is a BertForMaskedLM, which does not"):
        generated(models, student=make_model("bert", vocabulary=TOKENS))
    with pytest.raises(GenerationError, match="the teacher is a LlamaModel, which does not gen"):
        generated(models, teacher=models[1].base_model)
    small = make_model("llama", vocabulary=30)
    with pytest.raises(GenerationError, match="the teacher has the ids 0 to 29, .* up to 39"):
        generated(models, teacher=small)
    assert generated(models, teacher=small, rule=Student()).tokens.shape == (2, 4)


def test_a_text_may_be_as_long_as_the_positions(models):
    longest = DecodingOptions(78, temperature=0.0)  # the last of 81 tokens is not read
    found = generated(models, options=longest, eos_token_id=[])
    assert found.lengths.tolist() == [78, 78]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give 1 or more"),
        ({"max_new_tokens": 4, "draft_length": 0}, "draft_length is 0; give 1 or more"),
        ({"max_new_tokens": 4, "temperature": -1.0}, "the temperature is -1; give 0 "),
        ({"max_new_tokens": 4, "temperature": math.nan}, "the temperature is nan; give 0 "),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(GenerationError, match=said):
        DecodingOptions(**options)


def test_a_rule_is_an_object(models):
    with pytest.raises(GenerationError, match="the rule is <class .*Switch'>; give an object"):
        check_given(*models, [[5]], Switch, max_new_tokens=4, ids=TokenIds.given(TOKENS), ends=[2])
