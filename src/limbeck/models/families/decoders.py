"""The rows of the decoders in the table of families."""

from dataclasses import replace

from ..architecture import Architecture

_LLAMA = Architecture(
    layers="layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    head=("lm_head",),
    causal=True,
    positions="rotary",
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
# Queries and keys have norms, each head its own or all heads one.
_NORM_PATHS = replace(_LLAMA, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
_HEAD_NORMS = replace(
    _NORM_PATHS, axes=(("q_norm.weight", ("same",)), ("k_norm.weight", ("same",)), *_LLAMA.axes)
)
_WIDE_NORMS = replace(
    _NORM_PATHS, axes=(("q_norm.weight", ("heads",)), ("k_norm.weight", ("groups",)), *_LLAMA.axes)
)
_GEMMA = replace(_LLAMA, norms_add_one=True, soft_cap_field="final_logit_softcapping")
_NEOX_AXES = (
    ("query_key_value.weight", ("qkv", "hidden")),
    ("dense.weight", ("hidden", "heads")),
    ("dense_h_to_4h.weight", ("inner", "hidden")),
    ("dense_4h_to_h.weight", ("hidden", "inner")),
    ("layernorm.weight", ("hidden",)),
    ("lm_head.weight", ("same", "hidden")),
)
_BLOOM = Architecture(
    layers="h",
    query="self_attention.query_key_value",
    key="self_attention.query_key_value",
    value="self_attention.query_key_value",
    head=("lm_head",),
    grouped=True,
    causal=True,
    positions="alibi",
    separable_documents=False,
    axes=(
        ("word_embeddings.weight", ("same", "hidden")),
        ("word_embeddings_layernorm.weight", ("hidden",)),
        ("ln_f.weight", ("hidden",)),
        ("ln_attn.weight", ("hidden",)),
        ("ln_mlp.weight", ("hidden",)),
        *_NEOX_AXES,
    ),
)

DECODERS: dict[str, Architecture] = {
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
    "smollm3": _LLAMA,
    "granite": replace(_LLAMA, logits_divisor_field="logits_scaling"),
    "qwen3": _HEAD_NORMS,
    "olmo2": _WIDE_NORMS,
    "gemma2": _GEMMA,
    "gemma3_text": replace(
        _HEAD_NORMS,
        norms_by_head=True,
        norms_add_one=True,
        soft_cap_field="final_logit_softcapping",
    ),
    "phi3": replace(
        _LLAMA,
        query="self_attn.qkv_proj",
        key="self_attn.qkv_proj",
        value="self_attn.qkv_proj",
        axes=(
            ("qkv_proj.weight", ("qkv", "hidden")),
            ("gate_up_proj.weight", ("gated", "hidden")),
            *_LLAMA.axes,
        ),
    ),
    "gpt_neox": Architecture(
        layers="layers",
        query="attention.query_key_value",
        key="attention.query_key_value",
        value="attention.query_key_value",
        head=("lm_head",),
        grouped=True,
        causal=True,
        positions="rotary",
        axes=(
            ("embed_in.weight", ("same", "hidden")),
            ("final_layer_norm.weight", ("hidden",)),
            *_NEOX_AXES,
        ),
    ),
    "bloom": replace(_BLOOM, intermediate_field=""),
    "falcon": replace(
        _BLOOM,
        positions="rotary",
        separable_documents=True,
        intermediate_field="ffn_hidden_size",
        key_value_heads_field="num_kv_heads",
    ),
    "opt": replace(
        _LLAMA,
        layers="decoder.layers",
        positions="table",
        separable_documents=False,
        intermediate_field="ffn_dim",
        axes=(
            ("embed_tokens.weight", ("same", "embedding")),
            ("embed_positions.weight", ("positions", "hidden")),
            ("project_in.weight", ("hidden", "embedding")),
            ("project_out.weight", ("embedding", "hidden")),
            ("q_proj.weight", ("heads", "hidden")),
            ("k_proj.weight", ("heads", "hidden")),
            ("v_proj.weight", ("heads", "hidden")),
            ("out_proj.weight", ("hidden", "heads")),
            ("fc1.weight", ("inner", "hidden")),
            ("fc2.weight", ("hidden", "inner")),
            ("layer_norm.weight", ("hidden",)),
            ("lm_head.weight", ("same", "embedding")),
        ),
    ),
    # Every fourth layer attends; the others have no queries, keys and values.
    "qwen3_5_text": replace(
        _HEAD_NORMS,
        norms_add_one=True,
        separable_documents=False,  # a linear layer's state goes from one document to the next
        axes=(
            ("q_proj.weight", ("gated_heads", "hidden")),
            ("linear_attn.norm.weight", ("same",)),
            ("linear_attn.out_proj.weight", ("hidden", "same")),
            ("in_proj_qkv.weight", ("same", "hidden")),
            ("in_proj_z.weight", ("same", "hidden")),
            ("in_proj_b.weight", ("same", "hidden")),
            ("in_proj_a.weight", ("same", "hidden")),
            *_HEAD_NORMS.axes,
        ),
    ),
}
