"""Objectives as the loss of a loop of one's own: the same sums as the house's own loop."""

import warnings
from copy import deepcopy

import pytest
import torch
from conftest import make_model
from peft import LoraConfig, get_peft_model
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.batch import Batch
from limbeck.errors import ObjectiveError
from limbeck.models.capture import capture
from limbeck.models.families.lookup import architecture_of
from limbeck.objectives import (
    AttentionScores,
    ClassLogits,
    DistillationLoss,
    Embeddings,
    HiddenStates,
    Labels,
    Logits,
    MeanHiddenStates,
    Qkv,
    Ramp,
    Relations,
    SentenceVectors,
    tokens_of,
)
from limbeck.objectives.contract import joint_needs


@pytest.fixture(params=["bert", "llama"])
def models(request):
    family = request.param
    return make_model(family, layers=2, hidden=16, seed=1), make_model(family, layers=3, hidden=24)


def inputs_of(rows=3, length=10):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 200, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.5, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)}


OBJECTIVES = {"labels": Labels(), "logits": Logits(), "states": HiddenStates(), "all": Relations()}


def test_totals_are_those_of_the_objectives(models):
    student, teacher = models
    loss = DistillationLoss(student, teacher, OBJECTIVES, seed=3)
    found = loss.totals(inputs_of())
    parts = architecture_of(student.config)
    tokens = tokens_of(inputs_of(), causal=parts.causal)
    bound = loss.objectives
    mine = capture(student, parts, tokens, joint_needs(o.student_needs() for o in bound.values()))
    theirs = capture(teacher, parts, tokens, joint_needs(o.teacher_needs() for o in bound.values()))
    for (name, objective), maps in zip(bound.items(), loss.maps, strict=True):
        expected = objective.total(mine, theirs, Batch(tokens, tokens), maps)
        assert found[name].loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert found[name].items == objective.count(Batch(tokens, tokens)) > 0


def test_labels_are_those_of_transformers(models):
    """The mean over what is predicted, shifted where a decoder reads."""
    student, _ = models
    ours = DistillationLoss(student, None, {"labels": Labels()})(inputs_of())
    assert ours.item() == pytest.approx(student(**inputs_of()).loss.item(), rel=1e-5)


def test_nothing_is_predicted_at_padding(models):
    ids = torch.tensor([[5, 6, 7, 3]])
    given = {"input_ids": ids, "attention_mask": ids > 3}
    decoder = tokens_of(given, causal=True)
    assert decoder.predicted.tolist() == [[True, True, False, False]]
    assert decoder.labels.tolist() == [[6, 7, 0, 0]]
    encoder = tokens_of({**given, "labels": ids}, causal=False)
    assert encoder.predicted.tolist() == [[True, True, True, False]]
    assert encoder.labels.tolist() == [[5, 6, 7, 0]]
    inputs = inputs_of()
    nothing = {**inputs, "labels": torch.full_like(inputs["labels"], -100)}
    assert DistillationLoss(*models, {"labels": Labels()})(nothing).item() == 0.0


def test_sums_do_not_depend_on_how_a_step_is_split(models):
    loss = DistillationLoss(*models, OBJECTIVES)
    whole, inputs = loss.totals(inputs_of()), inputs_of()
    halves = [
        loss.totals({name: tensor[rows] for name, tensor in inputs.items()})
        for rows in (slice(0, 1), slice(1, 3))
    ]
    for name, total in whole.items():
        assert sum(half[name].items for half in halves) == total.items
        summed = sum(half[name].loss.item() for half in halves)
        assert summed == pytest.approx(total.loss.item(), rel=1e-4)


def test_the_student_and_the_maps_alone_learn(models):
    student, teacher = models
    loss = DistillationLoss(student, teacher, OBJECTIVES, weights={"states": 0.5})
    assert len(list(loss.parameters())) == 1  # the map of the hidden states
    teacher.requires_grad_(True)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    loss(inputs_of()).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert next(loss.parameters()).grad.abs().sum() > 0
    assert student.get_input_embeddings().weight.grad.abs().sum() > 0
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def test_what_cannot_be_compared_is_said_at_once(models):
    student, _ = models
    wrong = {"states": HiddenStates(layers={0: 7}), "relations": Relations(heads=5)}
    with pytest.raises(ObjectiveError, match=r"states\.layers .*; relations\.heads is 5"):
        DistillationLoss(student, models[1], wrong)
    with pytest.raises(ObjectiveError, match="needs a teacher"):
        DistillationLoss(student, None, {"logits": Logits()})
    with pytest.raises(ObjectiveError, match="'lables' has a weight and is no objective"):
        DistillationLoss(student, None, {"labels": Labels()}, weights={"lables": 2.0})


def test_tables_of_one_tokenizer_may_have_rows_without_a_token(models):
    """As those of Qwen2.5, which are padded to 151,936 or 152,064 rows for 151,665 tokens."""
    student, teacher = models
    wide = make_model(student.config.model_type, vocabulary=256, layers=2, seed=1)
    for pair in ((wide, teacher), (student, wide)):
        with pytest.raises(ObjectiveError, match=r"a compares .*Logits\(vocabulary=len\(tokeniz"):
            DistillationLoss(*pair, {"a": Logits()})
        found = DistillationLoss(*pair, {"a": Logits(vocabulary=200)})(inputs_of())
        inputs = inputs_of()
        at = inputs.pop("labels") != -100
        if student.config.model_type == "llama":  # whose labels stand one token later
            at = at.roll(-1, 1)
            at[:, -1] = False
        mine, theirs = (model(**inputs).logits[at][:, :200] for model in pair)
        expected = torch.nn.functional.kl_div(
            mine.log_softmax(-1), theirs.softmax(-1), reduction="batchmean"
        )
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(ObjectiveError, match=r"a\.vocabulary is 201; give 1 to 200"):
        DistillationLoss(wide, teacher, {"a": Logits(vocabulary=201)})


def test_types_of_pairs_are_read_by_models_that_distinguish_them():
    """BERT learns from the pair; DistilBERT, which has no types, and one of a type from the ids."""
    teacher, student = (make_model("bert", layers=2, seed=seed).eval() for seed in (1, 2))
    others = [
        make_model("distilbert", layers=2, seed=3).eval(),
        make_model("bert", layers=2, seed=4, type_vocab_size=1).eval(),
    ]
    inputs = inputs_of()
    types = torch.zeros_like(inputs["input_ids"])
    types[:, 5:] = 1
    with_types = {**inputs, "token_type_ids": types}
    for learner in (student, *others):
        loss = DistillationLoss(learner, teacher, {"logits": Logits()})
        found = loss(with_types)
        named = {name: value for name, value in with_types.items() if name != "labels"}
        theirs = teacher(**named).logits
        if learner is not student:
            named.pop("token_type_ids")
        mine = learner(**named).logits
        at = inputs["labels"] != -100
        logs, soft = mine[at].log_softmax(-1), theirs[at].softmax(-1)
        expected = torch.nn.functional.kl_div(logs, soft, reduction="batchmean")
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)
        assert found.item() != pytest.approx(loss(inputs).item(), rel=1e-3)


def test_inputs_that_are_not_read_or_missing(models):
    student, teacher = models
    loss = DistillationLoss(student, teacher, {"logits": Logits()})
    inputs = inputs_of()
    with pytest.raises(ObjectiveError, match="have position_ids, which is not read; leave it out"):
        loss({**inputs, "position_ids": inputs["input_ids"]})
    with pytest.raises(ObjectiveError, match="no `input_ids`; they have labels"):
        loss({"labels": inputs["labels"]})
    del inputs["labels"]
    if student.config.model_type == "bert":
        with pytest.raises(ObjectiveError, match="no `labels`, which say where an encoder"):
            loss(inputs)
        states = DistillationLoss(student, teacher, {"states": HiddenStates()})
        assert states(inputs).item() > 0
    else:
        assert loss(inputs).item() > 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": torch.tensor([0, 1, 2])}, r"`labels` have the shape \(3,\), .* leave them out"),
        ({"labels": torch.tensor([[0], [1], [2]])}, r"`labels` have the shape \(3, 1\)"),
        ({"attention_mask": torch.ones(1, 10)}, r"`attention_mask` have the shape \(1, 10\), and"),
        ({"token_type_ids": torch.zeros(3, 9)}, r"`token_type_ids` have the shape \(3, 9\)"),
        ({"input_ids": torch.arange(5, 15)}, r"`input_ids` have the shape \(10,\); give \(rows, t"),
        ({"input_ids": [[5, 6]]}, r"`input_ids` is a list; give a tensor, \(rows, tokens\)"),
    ],
)
@pytest.mark.parametrize("causal", [True, False])
def test_inputs_have_one_number_for_each_token(given, said, causal):
    with pytest.raises(ObjectiveError, match=said):
        tokens_of({**inputs_of(), **given}, causal=causal)


def test_labels_of_as_many_texts_as_tokens_are_not_taken_for_tokens():
    inputs = {**inputs_of(10, 10), "labels": torch.zeros(10, dtype=torch.long)}
    with pytest.raises(ObjectiveError, match="labels of whole texts are not read"):
        tokens_of(inputs, causal=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_16_bits_learn_by_maps_in_float32(models, dtype):
    """The maps to another width, too, as in float32."""
    objectives = {
        "states": HiddenStates(layers="uniform"),
        "mean": MeanHiddenStates(),
        "embeddings": Embeddings(),
        "qkv": Qkv(),
        "scores": AttentionScores(),
        "logits": Logits(),
    }
    exact = DistillationLoss(*models, objectives)(inputs_of())
    student, teacher = (deepcopy(model).to(dtype) for model in models)
    for mine, theirs in ((student, teacher), (student, models[1]), (models[0], teacher)):
        loss = DistillationLoss(mine, theirs, objectives)
        found = loss(inputs_of())
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(exact.item(), rel=0.02)
        found.backward()
        assert all(p.grad.abs().sum() > 0 for p in loss.parameters() if p.requires_grad)


def test_what_changes_over_the_training_follows_its_progress(models):
    plain = DistillationLoss(*models, {"a": Logits(temperature=3.0)}, weights={"a": 0.5})
    ramps = {"a": Logits(temperature=Ramp(4.0, 2.0))}
    loss = DistillationLoss(*models, ramps, weights={"a": Ramp(1.0, 0.0)})
    assert loss(inputs_of(), progress=0.5).item() == pytest.approx(plain(inputs_of()).item())
    assert loss(inputs_of(), progress=1.0).item() == 0.0
    with pytest.raises(ObjectiveError, match=r"a changes over the training .* give `progress`"):
        loss(inputs_of())
    weighted = DistillationLoss(*models, {"a": Logits()}, weights={"a": Ramp(1.0, 0.0)})
    with pytest.raises(ObjectiveError, match="a changes over the training"):
        weighted.totals(inputs_of())


def test_objectives_of_whole_texts_are_of_recipes(models):
    for objective in (ClassLogits(), SentenceVectors()):
        with pytest.raises(ObjectiveError, match="a is of classes or vectors of whole texts"):
            DistillationLoss(*models, {"a": objective})


def test_a_student_of_parts_of_its_teacher(models):
    """Layers that are the teacher's own would be frozen with it, without a word."""
    student, teacher = deepcopy(models[1]), models[1]
    parts = architecture_of(student.config).layers
    layers = student.base_model.get_submodule(parts)
    layers[0] = teacher.base_model.get_submodule(parts)[0]
    with pytest.raises(ObjectiveError, match=r"parameters of the student \(.*\) are the teacher's"):
        DistillationLoss(student, teacher, {"a": Logits()})
    with pytest.raises(ObjectiveError, match="are the teacher's own"):
        DistillationLoss(teacher, teacher, {"a": Logits()})
    layers[0].requires_grad_(False)
    assert DistillationLoss(student, teacher, {"a": Logits()})(inputs_of()).item() >= 0


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # asked by peft
def test_adapters_learn_in_the_model_that_is_inside():
    student, teacher = (make_model("llama", layers=2, seed=seed) for seed in (1, 2))
    adapted = get_peft_model(student, LoraConfig(target_modules=["q_proj", "down_proj"], r=4))
    with pytest.raises(
        ObjectiveError, match=r"the student is a PeftModel, .* `get_base_model\(\)`"
    ):
        DistillationLoss(adapted, teacher, {"a": Logits()})
    DistillationLoss(adapted.get_base_model(), teacher, {"a": Logits()})(inputs_of()).backward()
    learned = [p.grad for name, p in adapted.named_parameters() if "lora_B" in name]
    assert len(learned) == 4 and all(grad.abs().sum() > 0 for grad in learned)


def test_several_processes_whose_gradients_nothing_averages(models, tmp_path, monkeypatch):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = models[0]
            self.loss = DistillationLoss(*models, {"a": Logits()})

        def forward(self, inputs):
            return self.loss(inputs)

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        both = Both()
        wrapped = DistributedDataParallel(both, find_unused_parameters=True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
        with pytest.warns(UserWarning, match="not called inside DistributedDataParallel"):
            both.loss(inputs_of())
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            wrapped(inputs_of()).backward()
            with torch.no_grad():
                both.loss(inputs_of())
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("objectives", "weights", "said"),
    [
        ({}, {}, "objectives are {}; give one or more by name"),
        ([Relations()], {}, "give one or more by name"),
        ({"a": Relations}, {}, "a is <class .*Relations'>, no objective; give an object"),
        ({"a": {"heads": 4}}, {}, "a is {'heads': 4}, no objective"),
        ({"a": Relations()}, {"a": float("nan")}, "the weight of a is nan; give a finite"),
        ({"a": Relations()}, {"a": "1"}, "the weight of a is '1'; give a finite"),
    ],
)
def test_what_is_no_objective_is_refused(models, objectives, weights, said):
    with pytest.raises(ObjectiveError, match=said):
        DistillationLoss(*models, objectives, weights=weights)
