"""Tiny random models and tokenizers of several families, for the tests that need torch."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, PreTrainedModel, Qwen3Config

from laborllm.train.base import train_tokenizer

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "llama": lambda vocab: LlamaConfig(vocab_size=vocab, **SMALL, num_key_value_heads=2),
    "gpt2": lambda vocab: GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4),
    "qwen3": lambda vocab: Qwen3Config(vocab_size=vocab, **SMALL, num_key_value_heads=2, head_dim=8),
    "mistral, window 8": lambda vocab: MistralConfig(
        vocab_size=vocab, **SMALL, num_key_value_heads=2, sliding_window=8
    ),
}


def random_model(
    family: str, vocab: int, *, dtype: torch.dtype = torch.float64, window: int | None = None, seed: int = 0
) -> PreTrainedModel:
    """A model of random weights whose distributions are far from uniform."""
    torch.manual_seed(seed)
    config = CONFIGS[family](vocab)
    if window is not None:
        config.max_position_embeddings = window
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    return model.eval()


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
