"""Tokenizers whose ids have holes or exceed their number, from recipe to report."""

import json

import numpy as np
import pytest
import torch
from conftest import SPECIAL, make_model, make_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from limbeck.activations import Activations
from limbeck.errors import ModelError, RecipeError
from limbeck.generation.decoding import DecodingOptions, generate
from limbeck.generation.rules import Speculative, Student, Teacher
from limbeck.models.load import load_model
from limbeck.recipe.check import check, prepare
from limbeck.run.accelerator import build_accelerator
from limbeck.run.batches import held_out_batches, stage_batches
from limbeck.run.cache import open_cache, write_cache
from limbeck.run.distill import distill
from limbeck.run.learner import build_learner
from limbeck.run.models import build_models
from limbeck.teacher.manifest import Kind
from limbeck.token_ids import TokenIds
from limbeck.tokenization.load import load_tokenizer
from limbeck.tokenization.masking import Masking
from limbeck.tokenization.token_map import map_tokens

HOLES = range(100, 147)  # of 200 tokens the largest id is 246
ROWS = 250  # and the last rows of the table are padding


def moved(number):
    return number if number < HOLES.start else number + len(HOLES)


def with_holes(tokenizer):
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    raw["model"]["vocab"] = {token: moved(n) for token, n in raw["model"]["vocab"].items()}
    backend = Tokenizer.from_str(json.dumps(raw))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokenizer.special_tokens_map)


@pytest.fixture(scope="module")
def holed(tokenizer):
    return with_holes(tokenizer)


@pytest.fixture
def raw(raw_recipe, holed, tmp_path):
    folder = tmp_path / "holed"
    make_model(vocabulary=ROWS).save_pretrained(folder)
    holed.save_pretrained(folder)
    recipe = {**raw_recipe, "teacher": str(folder)}
    recipe["stages"] = [
        {"objectives": {"logits": {}, "labels": {}}, "max_steps": 3, "batch_size": 4}
    ]
    return recipe


def test_ids_of_tokenizers(tokenizer, holed):
    assert TokenIds.of(tokenizer) == TokenIds(len(tokenizer))
    ids = TokenIds.of(holed)
    assert (ids.end, len(ids), ids.absent) == (247, 200, tuple(HOLES))
    assert ids.below(120) == TokenIds(120, tuple(range(100, 120)))
    assert isinstance(TokenIds(5).columns("cpu"), slice)  # nothing is copied where none is absent
    drawn = ids.at(np.linspace(0, 1, 10_000, endpoint=False))
    assert set(drawn.tolist()) == set(holed.get_vocab().values())


def test_an_added_token_gets_an_id():
    tokenizer = make_tokenizer()
    before = TokenIds.of(tokenizer)
    tokenizer.add_tokens(["[NEW]"])
    assert len(TokenIds.of(tokenizer)) == len(before) + 1


def test_an_id_that_no_table_has_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 2**24}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="largest id is 16777216, of 2 tokens"):
        TokenIds.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]"))


def test_both_tables_hold_the_largest_id(raw, holed):
    setup = prepare(raw)
    for side in (setup.models.student.shape, setup.models.teacher.shape):
        assert side.token_ids == TokenIds.of(holed)
    assert setup.models.student.config.vocab_size == ROWS
    for name in ("logits", "labels"):
        assert setup.stages[0].objectives[name].vocabulary == TokenIds.of(holed)
    raw["student"]["vocab_size"] = 247
    assert prepare(raw).models.student.config.vocab_size == 247
    raw["student"]["vocab_size"] = 246
    with pytest.raises(RecipeError, match="has 200 tokens with ids up to 246; give 247 or more"):
        prepare(raw)


@pytest.mark.parametrize("rows", [200, 246])
def test_a_teacher_without_a_row_for_every_id_is_refused(raw, holed, tmp_path, rows):
    make_model(vocabulary=rows).save_pretrained(tmp_path / "small")
    holed.save_pretrained(tmp_path / "small")
    raw["teacher"] = str(tmp_path / "small")
    problems = dict(check(raw)[1])
    assert f"{rows} embeddings" in problems["teacher.model"] and "246" in problems["teacher.model"]


def held_out_by_hand(setup, folder):
    """Forward KL, label loss and agreement over the tokens, computed row by row."""
    real = torch.tensor(sorted(setup.models.student.tokenizer.get_vocab().values()))
    student, teacher = (
        load_model(str(place), architecture=setup.models.student.architecture)
        for place in (folder / "student", setup.recipe.teacher.model)
    )
    kl = labels = same = count = 0.0
    for batch in held_out_batches(setup, masking=Masking()):
        tokens = batch.student
        with torch.no_grad():
            logits = [
                model(input_ids=tokens.input_ids, attention_mask=tokens.mask).logits.double()
                for model in (student, teacher)
            ]
        for row, place in tokens.predicted.nonzero().tolist():
            q, p = (side[row, place, real].log_softmax(-1) for side in logits)
            label = int((real == tokens.labels[row, place]).nonzero())
            kl += float((p.exp() * (p - q)).sum())
            labels -= float(q[label])
            same += int(p.argmax() == q.argmax())
            count += 1
    return kl / count, labels / count, same / count


def test_a_whole_run_is_measured_over_the_tokens(raw, tmp_path):
    run = distill(raw, tmp_path / "run")
    report = run.report
    kl, labels, same = held_out_by_hand(prepare(raw), run.folder)
    assert report["held_out"]["logits"]["after"] == pytest.approx(kl, rel=1e-4)
    assert report["held_out"]["labels"]["after"] == pytest.approx(labels, rel=1e-4)
    assert report["held_out_text"]["top_agreement"] == pytest.approx(same)
    assert 0 < report["held_out_text"]["teacher_mass_on_no_piece"] < 1
    assert report["student"]["vocabulary_size"] == ROWS


@pytest.mark.parametrize("logits", ["top_k", "sampled", "exact"])
def test_cached_signals_are_of_tokens(raw, tmp_path, logits):
    raw["stages"][0]["objectives"] = {"logits": {}}
    setup = prepare(raw)
    accelerator = build_accelerator(setup.recipe.training, tmp_path)
    kind = Kind(logits=logits, tokens=150)
    write_cache(setup, tmp_path / "kept", kind, accelerator)
    kept = {**raw, "teacher": {"cache": str(tmp_path / "kept")}}
    teacher = open_cache(prepare(kept), "cpu")
    _, live = build_models(setup, accelerator)
    batch, needs = stage_batches(setup, 0).batch(0), setup.stages[0].teacher_needs()
    found, true = (side.signals(batch, needs).predictions for side in (teacher, live))
    if logits == "exact":
        assert torch.equal(found.features, true.features)
        return
    known, ids = found.selected, TokenIds.of(setup.models.student.tokenizer)
    assert not set(known.tokens.unique().tolist()) & set(HOLES)
    assert int(known.tokens.max()) in range(200, ids.end)
    of_tokens = known.logits(slice(None), ids).exp().sum(-1)
    torch.testing.assert_close(of_tokens, torch.ones_like(of_tokens), atol=2e-3, rtol=0)
    if logits == "top_k":
        every = ids.only(true.logits()).log_softmax(-1)
        torch.testing.assert_close(known.logs, every.gather(-1, known.tokens), atol=5e-3, rtol=0)


def test_random_replacements_are_tokens(raw):
    raw["stages"][0] |= {
        "objectives": {"labels": {}},
        "masking": {"mlm_probability": 0.9, "mask_replace_prob": 0.0, "random_replace_prob": 1.0},
    }
    source = stage_batches(prepare(raw), 0)
    seen = torch.cat([source.batch(n).student.input_ids.flatten() for n in range(20)])
    assert not set(seen.tolist()) & set(HOLES) and int(seen.max()) > 200


@pytest.mark.parametrize("swapped", [False, True], ids=["student has holes", "teacher has holes"])
@pytest.mark.parametrize(
    "alignment", ["match", {"kind": "reduce", "columns": "mapped"}, {"columns": "all"}], ids=str
)
def test_two_vocabularies_one_of_them_with_holes(
    raw, teacher_folder, tokenizer, vocabulary, holed, tmp_path, alignment, swapped
):
    if swapped:
        raw["student"]["tokenizer"] = vocabulary
    else:
        other = with_holes(PreTrainedTokenizerFast.from_pretrained(vocabulary))
        shift_all(other).save_pretrained(tmp_path / "other")
        raw["teacher"], raw["student"]["tokenizer"] = str(teacher_folder), str(tmp_path / "other")
    raw["student"]["embedding_init"] = "mean"
    objective = "uld" if alignment == {"columns": "all"} else "logits"
    kind = {"kind": "match", **alignment} if isinstance(alignment, dict) else alignment
    raw["stages"][0] |= {"alignment": kind, "objectives": {objective: {}, "labels": {}}}
    setup = prepare(raw)
    ids = TokenIds.of(setup.models.student.tokenizer)
    assert setup.models.student.config.vocab_size == ids.end
    assert setup.stages[0].objectives["labels"].vocabulary == ids
    assert_learns(setup, tmp_path)


def assert_learns(setup, folder):
    """Every loss is finite, and rows that belong to no token get no gradient from predictions."""
    student, teacher = build_models(setup, build_accelerator(setup.recipe.training, folder))
    learner = build_learner(setup, student, 0)
    batch, needs = stage_batches(setup, 0).batch(0), setup.stages[0].teacher_needs()
    signals = teacher.signals(batch, needs) if teacher else Activations()
    losses = learner(batch, signals)
    assert losses and all(np.isfinite(loss.item()) for loss in losses.values())
    sum(losses.values()).backward()
    bias = student.get_output_embeddings().bias.grad
    absent = list(TokenIds.of(setup.models.student.tokenizer).absent)
    assert bias is None or (bias.any() and not bias[absent].any())


def shift_all(tokenizer):
    """Double every id, so that each is followed by a hole."""
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    raw["model"]["vocab"] = {token: 2 * n for token, n in raw["model"]["vocab"].items()}
    for special in raw["post_processor"]["special_tokens"].values():
        special["ids"] = [2 * n for n in special["ids"]]
    backend = Tokenizer.from_str(json.dumps(raw))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL)


def test_a_mixed_stage_reads_and_predicts_tokens_alone(raw, vocabulary, tmp_path):
    raw["student"] |= {"tokenizer": vocabulary, "embedding_init": "mean"}
    raw["stages"] = [
        {
            "mixed": {"student_fraction": 0.5},
            "masking": {
                "mlm_probability": 0.9,
                "mask_replace_prob": 0.0,
                "random_replace_prob": 1.0,
            },
            "max_steps": 2,
            "batch_size": 4,
        },
        {"objectives": {"labels": {}}, "max_steps": 2, "batch_size": 4},
    ]
    setup = prepare(raw)
    source = stage_batches(setup, 0)
    seen = torch.cat([source.batch(n).student.input_ids.flatten() for n in range(20)]).tolist()
    assert not set(seen) & {*HOLES, *range(247, ROWS)} and max(seen) > ROWS
    student, _ = build_models(setup, build_accelerator(setup.recipe.training, tmp_path))
    learner = build_learner(setup, student, 0)
    assert learner.vocabularies == (
        TokenIds(247, tuple(HOLES)),
        setup.models.student.shape.token_ids,
    )
    learner(source.batch(0), Activations())["labels"].backward()
    bias = learner.mixed.body.get_output_embeddings().bias.grad
    assert bias.any() and not bias[list(HOLES)].any() and not bias[247:].any()


def test_the_map_of_two_vocabularies_uses_ids(tokenizer, holed):
    found = map_tokens(holed, tokenizer)
    assert len(found.same) == len(found.spellable) == 247
    for token, number in tokenizer.get_vocab().items():
        if token != "[UNK]" and found.same[moved(number)] >= 0:
            assert found.same[moved(number)] == number
    assert (found.same[list(HOLES)] == -1).all() and not found.spellable[list(HOLES)].any()


@pytest.mark.parametrize("rule", [Student(), Teacher(), Speculative(top_k=3)], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_only_tokens_are_generated_and_those_of_large_ids_too(rule, temperature):
    ids = TokenIds(40, absent=(3, 4, 20, 30))
    pair = []
    for seed in (0, 1):
        model = make_model("gpt2", vocabulary=48, layers=1, seed=seed)
        wide = torch.zeros(48)
        wide[list(ids.absent)] = wide[ids.end :] = 50.0  # what a model would generate without this
        wide[37:40] = 4.0  # beyond the number of tokens
        with torch.no_grad():
            head = model.get_output_embeddings()
            head.weight = torch.nn.Parameter(head.weight.clone())
            head.bias = torch.nn.Parameter(wide)
        pair.append(model)
    options = DecodingOptions(12, temperature=temperature, draft_length=4)
    prompts = [[5, 6], [7], [8, 9, 10]] * 4
    found = generate(*pair, prompts, rule, options=options, vocabulary=ids, eos_token_id=(2,))
    generated = {
        token
        for row, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
        for token in row[:length]
    }
    assert not generated & set(ids.absent) and max(generated) < ids.end
    assert generated & {37, 38, 39}


def test_ids_as_text_for_a_table():
    assert str(TokenIds(30522)) == "30522 ids"
    assert str(TokenIds(6, absent=(1, 4))) == "4 of 6 ids"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda special: special["[CLS]"]["ids"].clear(), r"'\[CLS\]' no id"),
        (lambda special: special["[SEP]"]["tokens"].clear(), "the id 2 without a token"),
        (lambda special: special.pop("[SEP]"), r"'\[SEP\]' no id"),
    ],
)
def test_an_incomplete_frame_is_refused(tmp_path, change, said):
    make_tokenizer().save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    raw["post_processor"]["single"].pop()  # a text is read well, and a pair is not
    change(raw["post_processor"]["special_tokens"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=said):
        load_tokenizer(str(tmp_path))
