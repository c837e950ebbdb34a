"""An old recipe is told the new name of every old key at once."""

import re

import pytest
import yaml

from limbeck.errors import RecipeError
from limbeck.recipe.json_schema import recipe_schema
from limbeck.recipe.parse import check_form, parse_recipe
from limbeck.recipe.renamed import KEYS, VALUES, with_new_words

OLD = """
teacher: {model: minilm-demo, anatomy: {layers: a, query: b, key: c, value: d}}
student:
  layers: 3
  hidden: 192
  heads: 6
  intermediate: 768
  positions: 128
  key_value_heads: 2
  vocabulary: 5000
  architecture: bert
  copy: {layers: uniform, width: svd}
  embeddings: mean
  other_normalisation: true
  low_rank: {kind: replace, layers: all, budget: 0.5, alpha: 4, whitened: false, export: factored}
data:
  text: a.txt
  length: 64
  response: 16
  between: " "
  chat: false
  predicted: everything
  packed: true
  apart: false
  held_out: {share: 0.1}
stages:
  - mixed: {share: 0.5}
    steps: 3
    masking: {share: 0.2, replaced: 0.8, random: 0.1}
  - objectives:
      hidden: {}
      mean_hidden: {trained: false}
      vectors: {}
      attention_maps: {}
      output: {signal: top_k, pieces: 5}
      chunks: {}
      uld: {pieces: 9}
      mine: {kind: labels}
    steps: 3
    trained: factors
    projections: random
    alignment: {kind: ends, of_parts: pool, teacher_reads: everything}
    policy: {kind: speculative, share: 1, replay: 0, kept: 9, block: 4, graphs: false, top: 3,
             labels: written}
    optimizer: {warmup_share: 0.1, decay: cosine, clip_norm: 1, beta2: 0.9}
  - {alignment: ends, preset: output, steps: 1}
training: {checkpointing: true, log_every: 1, held_out_every: 1, checkpoint_every: 1,
           checkpoints_kept: 3, trackers: [tensorboard]}
evaluation:
  writing: {response: 4, length: 32, between: " ", chat: false, rows: 3}
  settings: {epochs: 2}
  training_rows: 10
  no_distillation: runs/control
  test_split: dev
"""


def test_every_old_word_is_told_with_the_new_one():
    raw = yaml.safe_load(OLD)
    new, problems = with_new_words(raw)
    told = {message for _, message in problems}
    for table, form in ((KEYS, "unknown key; did you mean {new!r}?"), (VALUES, None)):
        for pattern, pairs in table.items():
            for old, name in pairs.items():
                wanted = form.format(new=name) if form else f"is {old!r}; did you mean {name!r}?"
                if (pattern, old) in NOT_IN_IT:
                    continue
                assert wanted in told, (pattern, old)
    # The places are those of the user's own file.
    places = [place for place, _ in problems]
    assert "evaluation.writing.response" in places and "student.low_rank.budget" in places
    assert len(problems) == len(set(problems))
    # What is left is a recipe of today: no key of it is unknown.
    _, left = parse_recipe(new)
    assert not [message for _, message in left if "unknown" in message]


NOT_IN_IT = {("student.low_rank.kind", "adapt"), ("data.loss_on", "responses")}


def test_the_command_names_them_all():
    with pytest.raises(RecipeError) as refused:
        check_form(yaml.safe_load(OLD))
    said = str(refused.value)
    assert re.search(r"the recipe has \d\d problems", said)
    assert "student.layers: unknown key; did you mean 'num_hidden_layers'?" in said
    assert "evaluation.writing.rows: unknown key; did you mean 'max_eval_samples'?" in said


def test_an_objective_may_have_any_name_of_its_own():
    stage = {"objectives": {"hidden": {"kind": "hidden_states"}}, "max_steps": 1}
    raw = {"teacher": "minilm-demo", "student": {}, "data": {"text": "a.txt"}, "stages": [stage]}
    assert with_new_words(raw) == (raw, [])


def test_an_old_key_beside_its_new_one_is_told_too():
    raw = {"student": {"layers": 3, "num_hidden_layers": 4}}
    new, problems = with_new_words(raw)
    assert new == {"student": {"num_hidden_layers": 4}} and len(problems) == 1


def test_new_names_are_those_of_the_schema():
    text = str(recipe_schema())
    for pairs in KEYS.values():
        assert all(f"'{new}'" in text for new in pairs.values())
