"""What a plan tries: steps on tokens that the models really have."""

import pytest
import torch
from conftest import make_model

from limbeck.recipe.check import prepare
from limbeck.run.probe import _random_batch, probe


@pytest.fixture
def padded_teacher(tmp_path, tokenizer) -> str:
    """A teacher whose table has a row for each token and fifty more, as those of Qwen have."""
    folder = tmp_path / "padded"
    make_model(vocabulary=len(tokenizer) + 50).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_probe_reads_no_row_of_a_table_that_belongs_to_no_token(
    raw_recipe, padded_teacher, tokenizer
):
    raw_recipe["teacher"] = padded_teacher
    raw_recipe["stages"][0] |= {"objectives": {"labels": {}, "logits": {}}, "batch_size": 64}
    setup = prepare(raw_recipe)
    assert setup.models.student.shape.vocab_size == len(tokenizer) + 50
    assert _random_batch(setup, 0).student.input_ids.max() == len(tokenizer) - 1
    assert probe(setup, 0).seconds_per_step > 0


def test_a_probe_reads_the_tokens_of_both_vocabularies(
    raw_recipe, padded_teacher, vocabulary, tokenizer
):
    raw_recipe["teacher"] = padded_teacher
    raw_recipe["student"]["tokenizer"] = vocabulary
    mixed = {"mixed": {"student_fraction": 0.5}, "max_steps": 2, "batch_size": 64}
    raw_recipe["stages"] = [mixed, {"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4}]
    setup = prepare(raw_recipe)
    first, mine = len(tokenizer) + 50, setup.models.student.shape.token_ids
    ids = _random_batch(setup, 0).student.input_ids
    assert ids[ids < first].max() == len(tokenizer) - 1
    assert set((ids[ids >= first] - first).tolist()) <= set(mine.present.tolist())
    assert probe(setup, 0).seconds_per_step > 0
    stage = {"objectives": {"relations": {}}, "alignment": "match", "max_steps": 2}
    raw_recipe["stages"] = [{**stage, "batch_size": 64}]
    aligned = _random_batch(prepare(raw_recipe), 0)
    assert aligned.student.input_ids.max() == len(mine) - 1
    assert aligned.teacher.input_ids.max() == len(tokenizer) - 1


def test_a_probe_knows_ranks_that_the_weights_decide(raw_recipe, tokenizer, tmp_path):
    """Of random weights no layer would get smaller."""
    model = make_model(vocabulary=len(tokenizer))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("dense.weight"):
                up, values, down = torch.linalg.svd(weight, full_matrices=False)
                weight.copy_(up[:, :4] * values[:4] @ down[:4])
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    raw_recipe["teacher"] = str(tmp_path)
    raw_recipe["student"] = {
        "init_from_teacher": {},
        "low_rank": {"energy": 0.999, "whiten": False},
    }
    assert probe(prepare(raw_recipe), 0).seconds_per_step > 0
