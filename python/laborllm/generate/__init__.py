"""Titles decoded under the trie: what transformers, vLLM and loops of one's own need, and the next row of a history."""

from laborllm.generate.decode import Decoded, decode, next_rows
from laborllm.generate.processor import TitleLogitsProcessor, prefix_allowed_tokens_fn
from laborllm.generate.walk import DeviceTrie

__all__ = ["Decoded", "DeviceTrie", "TitleLogitsProcessor", "decode", "next_rows", "prefix_allowed_tokens_fn"]
