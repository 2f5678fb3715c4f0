"""Tiny random models and tokenizers of several families, for the tests that need torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PreTrainedModel, Qwen3Config

from laborllm.train.base import train_tokenizer

torch.set_num_threads(1)  # threads would wait for each other longer than these models run

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "llama": lambda vocab: LlamaConfig(vocab_size=vocab, **SMALL, num_key_value_heads=2),
    "gpt2": lambda vocab: GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4),
    "qwen3": lambda vocab: Qwen3Config(vocab_size=vocab, **SMALL, num_key_value_heads=2, head_dim=8),
    "mistral, window 8": lambda vocab: MistralConfig(
        vocab_size=vocab, **SMALL, num_key_value_heads=2, sliding_window=8
    ),
}


def small(name: str, **options: Any) -> Callable[[int], transformers.PreTrainedConfig]:
    """The configuration of two layers with grouped keys, under the names that Llama gives its sizes."""
    kind = getattr(transformers, name)
    sizes = SMALL | {"num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0} | options
    return lambda vocab: kind(vocab_size=vocab, **{key: size for key, size in sizes.items() if size is not None})


SLIDING = ["sliding_attention", "full_attention"]
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
QWEN2_MOE = {
    "use_sliding_window": True,
    "max_window_layers": 1,
    "layer_types": SLIDING,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
FAMILY_CONFIGS = {
    "llama": small("LlamaConfig"),
    "llama, tied, biases": small("LlamaConfig", tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "mistral": small("MistralConfig", sliding_window=None),
    "mistral, window": small("MistralConfig", sliding_window=8),
    "mixtral": small("MixtralConfig", **EXPERTS),
    "qwen2": small("Qwen2Config"),
    "qwen2, window": small(
        "Qwen2Config", use_sliding_window=True, sliding_window=8, max_window_layers=1, layer_types=SLIDING
    ),
    "qwen3": small("Qwen3Config", head_dim=8),
    "gemma2": small(
        "Gemma2Config",
        head_dim=8,
        sliding_window=8,
        layer_types=SLIDING,
        query_pre_attn_scalar=8,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=4.0,
    ),
    "gemma3": small("Gemma3TextConfig", head_dim=8, sliding_window=8, layer_types=SLIDING, query_pre_attn_scalar=8),
    "phi": small("PhiConfig"),
    "phi3, window": small("Phi3Config", sliding_window=8),
    "phi3, longrope": small(
        "Phi3Config",
        sliding_window=None,
        original_max_position_embeddings=90,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            "original_max_position_embeddings": 90,
            "factor": 4.0,
        },
    ),
    "olmo2": small("Olmo2Config"),
    "olmo3": small("Olmo3Config", sliding_window=8, layer_types=SLIDING),
    "smollm3": small("SmolLM3Config"),
    "starcoder2, window": small("Starcoder2Config", sliding_window=8),
    "granite": small(
        "GraniteConfig",
        logits_scaling=2.5,
        embedding_multiplier=3.0,
        residual_multiplier=0.7,
        attention_multiplier=0.2,
    ),
    "cohere": small("CohereConfig", logit_scale=0.4),
    "cohere2": small("Cohere2Config", logit_scale=0.4, sliding_window=8, layer_types=SLIDING),
    "exaone4": small("Exaone4Config", sliding_window=8, layer_types=SLIDING),
    "gpt-oss": small("GptOssConfig", head_dim=8, sliding_window=8, layer_types=SLIDING, **EXPERTS),
    "deepseek v3": small(
        "DeepseekV3Config",
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_nope_head_dim=8,
        qk_rope_head_dim=8,
        v_head_dim=12,
        head_dim=8,
    ),
    "gpt2": lambda vocab: GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    "gpt2, scaled by layer": lambda vocab: GPT2Config(
        vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, scale_attn_by_inverse_layer_idx=True
    ),
    "gpt-neox": small("GPTNeoXConfig", num_key_value_heads=None),
    "opt": lambda vocab: transformers.OPTConfig(
        vocab_size=vocab, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16
    ),
    "gemma": small("GemmaConfig", head_dim=8),
    "glm4": small("Glm4Config", head_dim=8),
}
"""Families whose attention can be hooked, two layers each; a window is smaller than any text."""

OWN_ATTENTION = {
    "falcon": lambda vocab: transformers.FalconConfig(
        vocab_size=vocab, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
    "bloom": lambda vocab: transformers.BloomConfig(vocab_size=vocab, hidden_size=32, n_layer=2, n_head=4),
    "gpt-neo": lambda vocab: transformers.GPTNeoConfig(
        vocab_size=vocab,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=512,
    ),
    "nemotron": small("NemotronConfig"),
    "mpt": lambda vocab: transformers.MptConfig(vocab_size=vocab, d_model=32, n_layers=2, n_heads=4, max_seq_len=512),
    "mamba": lambda vocab: transformers.MambaConfig(
        vocab_size=vocab, hidden_size=32, num_hidden_layers=2, state_size=8
    ),
    "qwen2-moe, window": small("Qwen2MoeConfig", sliding_window=8, **QWEN2_MOE),
    "qwen2-moe, window beyond all texts": small("Qwen2MoeConfig", sliding_window=400, **QWEN2_MOE),
    "qwen3-next": small(
        "Qwen3NextConfig",
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
}
"""Families that attend by code of their own, by slopes or states, or do not pass on a window or our arguments."""


def random_model(
    family: str, vocab: int, *, dtype: torch.dtype = torch.float64, window: int | None = None, seed: int = 0
) -> PreTrainedModel:
    """A model of random weights whose distributions are far from uniform."""
    torch.manual_seed(seed)
    config = (FAMILY_CONFIGS | OWN_ATTENTION | CONFIGS)[family](vocab)
    if window is not None:
        config.max_position_embeddings = window
    if dtype == torch.float64:
        config._experts_implementation = "eager"  # the grouped product has no float64
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:  # biases, the weights of norms, sinks
                parameter.copy_(parameter.nan_to_num().clamp(-1, 1) + 0.3 * torch.randn_like(parameter))
    return model.eval()


class EverythingInFloat64(TorchFunctionMode):
    """Whatever transformers widens to float32 in norms, softmaxes, routers and rotary angles is float64 instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def wider(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        func = torch.Tensor.double if func is torch.Tensor.float else func
        return func(*map(wider, args), **{key: wider(value) for key, value in (kwargs or {}).items()})


def byte_level(texts: list[str], *, vocab: int = 500) -> Tokenizer:
    """GPT-2's way: byte-level BPE behind a regular expression."""
    return train_tokenizer(texts, vocab_size=vocab).backend_tokenizer


def sentencepiece_bpe(texts: list[str], *, vocab: int = 500) -> Tokenizer:
    """Llama 2's way: no pre-tokenizer, a marker for spaces, bytes for what is unknown; tokens cross no newline."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    known = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=known, show_progress=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.train_from_iterator([line for text in texts for line in text.split("\n")], trainer)
    tokenizer.pre_tokenizer = None
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram(texts: list[str], *, vocab: int = 300) -> Tokenizer:
    """A Unigram model over words marked by their leading space; newlines are words of their own."""
    tokenizer = Tokenizer(models.Unigram())
    newline = pre_tokenizers.Split("\n", behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([newline, pre_tokenizers.Metaspace(prepend_scheme="never")])
    alphabet = sorted({character for text in texts for character in text} | {"▁"})
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab, special_tokens=["<unk>"], unk_token="<unk>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


FAMILIES = {"byte-level": byte_level, "sentencepiece": sentencepiece_bpe, "unigram": unigram}
