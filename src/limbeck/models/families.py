"""Where each family of Transformers keeps its layers, projections and vocabulary head.

One entry for each family. Everything that looks inside a model reads this table, so a new family
needs one more entry. A model whose family is missing can be described by the same fields in a
recipe.
"""

from dataclasses import replace

from ..errors import ModelError
from .architecture import Architecture, Axes

_BERT_AXES: tuple[tuple[str, Axes], ...] = (
    ("word_embeddings.weight", ("same", "embedding")),
    ("position_embeddings.weight", ("positions", "embedding")),
    ("token_type_embeddings.weight", ("same", "embedding")),
    ("embeddings.LayerNorm.weight", ("embedding",)),
    ("embeddings_project.weight", ("hidden", "embedding")),
    ("attention.self.query.weight", ("heads", "hidden")),
    ("attention.self.key.weight", ("heads", "hidden")),
    ("attention.self.value.weight", ("heads", "hidden")),
    ("attention.output.dense.weight", ("hidden", "heads")),
    ("intermediate.dense.weight", ("inner", "hidden")),
    ("output.dense.weight", ("hidden", "inner")),
    ("LayerNorm.weight", ("hidden",)),
    ("transform.dense.weight", ("hidden", "hidden")),
    ("decoder.weight", ("same", "hidden")),
    ("predictions.bias", ("same",)),
    ("generator_predictions.dense.weight", ("embedding", "hidden")),
    ("generator_lm_head.weight", ("same", "embedding")),
    ("lm_head.dense.weight", ("hidden", "hidden")),
    ("layer_norm.weight", ("hidden",)),
    ("lm_head.bias", ("same",)),
)
_BERT = Architecture(
    layers="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    head=("cls",),
    output="cls.predictions.decoder",
    axes=_BERT_AXES,
)
_LLAMA = Architecture(
    layers="layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    head=("lm_head",),
    causal=True,
    axes=(
        ("embed_tokens.weight", ("same", "hidden")),
        ("q_proj.weight", ("heads", "hidden")),
        ("k_proj.weight", ("groups", "hidden")),
        ("v_proj.weight", ("groups", "hidden")),
        ("o_proj.weight", ("hidden", "heads")),
        ("gate_proj.weight", ("inner", "hidden")),
        ("up_proj.weight", ("inner", "hidden")),
        ("down_proj.weight", ("hidden", "inner")),
        ("layernorm.weight", ("hidden",)),
        ("norm.weight", ("hidden",)),
        ("lm_head.weight", ("same", "hidden")),
    ),
)
_ROBERTA = Architecture(
    layers=_BERT.layers,
    query=_BERT.query,
    key=_BERT.key,
    value=_BERT.value,
    head=("lm_head",),
    output="lm_head.decoder",
    positions_after_padding=True,
    axes=_BERT_AXES,
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": Architecture(
        layers=_BERT.layers,
        query=_BERT.query,
        key=_BERT.key,
        value=_BERT.value,
        head=("generator_predictions", "generator_lm_head"),
        # Unlike every other norm, that of the head has the width of the embeddings.
        axes=(("generator_predictions.LayerNorm.weight", ("embedding",)), *_BERT_AXES),
    ),
    "distilbert": Architecture(
        layers="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        head=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
        intermediate_field="hidden_dim",
        axes=(
            ("word_embeddings.weight", ("same", "hidden")),
            ("position_embeddings.weight", ("positions", "hidden")),
            ("q_lin.weight", ("heads", "hidden")),
            ("k_lin.weight", ("heads", "hidden")),
            ("v_lin.weight", ("heads", "hidden")),
            ("out_lin.weight", ("hidden", "heads")),
            ("lin1.weight", ("inner", "hidden")),
            ("lin2.weight", ("hidden", "inner")),
            ("LayerNorm.weight", ("hidden",)),
            ("layer_norm.weight", ("hidden",)),
            ("vocab_transform.weight", ("hidden", "hidden")),
            ("vocab_projector.weight", ("same", "hidden")),
        ),
    ),
    "modernbert": Architecture(
        layers="layers",
        query="attn.Wqkv",
        key="attn.Wqkv",
        value="attn.Wqkv",
        head=("head", "decoder"),
        axes=(
            ("tok_embeddings.weight", ("same", "hidden")),
            ("attn.Wqkv.weight", ("qkv", "hidden")),
            ("attn.Wo.weight", ("hidden", "heads")),
            ("mlp.Wi.weight", ("gated", "hidden")),
            ("mlp.Wo.weight", ("hidden", "inner")),
            ("norm.weight", ("hidden",)),
            ("head.dense.weight", ("hidden", "hidden")),
            ("decoder.weight", ("same", "hidden")),
        ),
    ),
    "gpt2": Architecture(
        layers="h",
        query="attn.c_attn",
        key="attn.c_attn",
        value="attn.c_attn",
        head=("lm_head",),
        causal=True,
        inputs_first=True,
        intermediate_field="n_inner",
        axes=(
            ("wte.weight", ("same", "hidden")),
            ("wpe.weight", ("positions", "hidden")),
            ("attn.c_attn.weight", ("hidden", "qkv")),
            ("attn.c_proj.weight", ("heads", "hidden")),
            ("mlp.c_fc.weight", ("hidden", "inner")),
            ("mlp.c_proj.weight", ("inner", "hidden")),
            ("ln_1.weight", ("hidden",)),
            ("ln_2.weight", ("hidden",)),
            ("ln_f.weight", ("hidden",)),
            ("lm_head.weight", ("same", "hidden")),
        ),
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": replace(
        _LLAMA, axes=(("q_norm.weight", ("same",)), ("k_norm.weight", ("same",)), *_LLAMA.axes)
    ),
}


def architecture_of(model_type: str) -> Architecture:
    """The architecture of a family, by ``config.model_type``.

    Raises:
        ModelError: The family is not in the table.
    """
    if model_type not in ARCHITECTURES:
        raise ModelError(
            f"the architecture {model_type!r} is not known (known:"
            f" {', '.join(sorted(ARCHITECTURES))}); for a teacher, and for a student of the same"
            " architecture, give the module paths in the recipe, as"
            " `teacher: {model: ..., architecture: {layers: encoder.layer,"
            " query: attention.self.query, key: ..., value: ..., head: [cls]}}`"
        )
    return ARCHITECTURES[model_type]
