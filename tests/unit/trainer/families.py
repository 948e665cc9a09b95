"""Tiny random models of the families that people fine-tune: one configuration each, far below a megabyte."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 8,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "n_inner": 64, "rotary_dim": 8, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64,
    "ffn_dim": 64, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "encoder_layers": 2, "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64, "word_embed_proj_dim": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "shared_intermediate_size": 32, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_ssm": 64, "use_mamba_kernels": False,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0, "n_groups": 1, "mamba_chunk_size": 8, "chunk_size": 8,
}  # fmt: skip
"""By the names that configurations use; each gets those that it knows."""

LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"]}
LATENT = {"head_dim": None, "num_key_value_heads": 4}
GEMMA4 = dict(**SLIDING, global_head_dim=8, vocab_size_per_layer_input=96, hidden_size_per_layer_input=8, num_kv_shared_layers=0)  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}

FAMILIES: dict[str, dict[str, Any]] = {
    "apertus": {}, "arcee": {}, "bart": {}, "biogpt": {}, "bitnet": {}, "bloom": {}, "codegen": {}, "cohere": {},
    "cohere2": {}, "deepseek_v2": LATENT, "deepseek_v3": LATENT, "ernie4_5": {}, "ernie4_5_moe": {}, "exaone4": {},
    "falcon": {"head_dim": None}, "gemma": {}, "gemma2": {}, "gemma3_text": SLIDING, "glm": {}, "glm4": {}, "glm4_moe": {},
    "gpt2": {}, "gpt_bigcode": {}, "gpt_neox": {}, "gpt_oss": SLIDING, "gptj": {}, "granite": {"logits_scaling": 4.0},
    "granitemoe": {}, "helium": {}, "hunyuan_v1_dense": {}, "hyperclovax": {"logits_scaling": 2.0},
    "lfm2": {"layer_types": ["conv", "full_attention"]}, "llama": {}, "llama4_text": {}, "minicpm3": LATENT, "minimax": {},
    "minimax_m2": {}, "ministral": {}, "mistral": {}, "mixtral": {}, "modernbert-decoder": {}, "mpt": {}, "nanochat": {},
    "nemotron": {}, "olmo": {}, "olmo2": {}, "olmo3": SLIDING, "olmoe": {}, "openai-gpt": {}, "opt": {}, "persimmon": {},
    "phi": {}, "phi3": {}, "qwen2": {}, "qwen2_moe": {}, "qwen3": {}, "qwen3_moe": {}, "qwen3_next": LINEAR,
    "qwen3_5_text": LINEAR, "seed_oss": {}, "smollm3": {}, "stablelm": {}, "starcoder2": {}, "vaultgemma": {}, "xglm": {},
    "bamba": {"attn_layer_indices": [1]},
    "falcon_h1": {"lm_head_multiplier": 0.3},
    "falcon_mamba": {"layer_types": None},
    "gemma3n_text": dict(**SLIDING, intermediate_size=[64, 64], vocab_size_per_layer_input=96, hidden_size_per_layer_input=8,
                         num_kv_shared_layers=0, laurel_rank=4, altup_num_inputs=2, activation_sparsity_pattern=[0.0, 0.0]),
    "gemma4_text": GEMMA4,
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "layers_block_type": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "layer_types": None, "sliding_window": None},
    "mamba": {"layer_types": None},
    "mamba2": {"layer_types": None, "num_heads": 8},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"], "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8},
}  # fmt: skip
"""What each family needs beside the sizes; None leaves one of them out."""

AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "gemma3": {"vision_config": dict(**VISION, image_size=32, patch_size=16)},
    "gemma4": {"vision_config": dict(**VISION, head_dim=8), "audio_config": None},
}
"""Models whose text part is published inside one for pictures, with what the other part needs."""


def _known(kind: str, extra: dict[str, Any]) -> dict[str, Any]:
    default = AutoConfig.for_model(kind)
    aliases = getattr(default, "attribute_map", None) or {}
    sizes = {k: v for k, v in SIZES.items() if k not in extra and k not in aliases and k in default.to_dict()}
    return sizes | {k: v for k, v in extra.items() if v is not None}


def tiny_config(kind: str) -> Any:
    """The configuration of a family."""
    if kind in AS_PUBLISHED:
        text = _known(f"{kind}_text", FAMILIES[f"{kind}_text"])
        return AutoConfig.for_model(kind, text_config=text, **AS_PUBLISHED[kind])
    return AutoConfig.for_model(kind, **_known(kind, FAMILIES[kind]))


def tiny_policy(kind: str) -> Any:
    """A causal language model whose weights are large enough that its tokens differ in probability."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind)).float()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.mul_(3)
    return model
