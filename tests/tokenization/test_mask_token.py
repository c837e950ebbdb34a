"""Only stages that mask tokens need a mask token."""

import pytest
from conftest import SPECIAL, make_model, make_tokenizer

from limbeck.recipe.check import check
from limbeck.run.distill import distill


@pytest.fixture
def without_mask(raw_recipe, tmp_path):
    """A recipe whose teacher has a vocabulary head, and a tokenizer without a mask token."""
    bare = make_tokenizer()
    bare.mask_token = None
    make_model(vocabulary=len(bare)).save_pretrained(tmp_path / "teacher")
    bare.save_pretrained(tmp_path / "teacher")
    return raw_recipe | {"teacher": str(tmp_path / "teacher")}


def test_hidden_states_and_relations_need_no_mask_token(without_mask, tmp_path):
    without_mask["stages"][0] |= {
        "objectives": {"relations": {}, "hidden_states": {}},
        "max_steps": 2,
    }
    run = distill(without_mask, tmp_path / "run")
    assert (run.student / "model.safetensors").exists()
    without_mask["student"] = str(tmp_path / "teacher")  # with a vocabulary head of its own
    assert "text" not in str(check(without_mask)[1])
    distill(without_mask, tmp_path / "again")


@pytest.mark.parametrize(
    "stage",
    [
        {"objectives": {"labels": {}}},
        {"objectives": {"logits": {}, "hidden_states": {}}},
        {"objectives": {"hidden_states": {}}, "masking": {"mlm_probability": 0.2}},
    ],
)
def test_stages_with_masking_need_a_mask_token(without_mask, stage):
    without_mask["stages"].append({"max_steps": 2, "batch_size": 4} | stage)
    setup, problems = check(without_mask)
    assert setup is None
    message = dict(problems)["stages.1"]
    assert "tokenizer of the student has no mask_token; add one" in message
    assert "stages.0" not in dict(problems)


@pytest.mark.parametrize("role", sorted(set(SPECIAL) - {"mask_token", "unk_token"}))
def test_other_special_tokens_are_needed_by_every_stage(raw_recipe, tmp_path, role):
    bare = make_tokenizer()
    setattr(bare, role, None)
    make_model(vocabulary=len(bare)).save_pretrained(tmp_path)
    bare.save_pretrained(tmp_path)
    _, problems = check(raw_recipe | {"teacher": str(tmp_path)})
    assert role in dict(problems)["student.tokenizer"]
