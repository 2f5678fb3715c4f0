"""The base that is fine-tuned: loaded from a directory or a hub, or made small where no pretrained one can be had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from laborllm.errors import ModelError
from laborllm.files import output_directory
from laborllm.panel import Panel
from laborllm.resume import Template, render

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab": 1_024,
    },
    "small": {
        "hidden_size": 384,
        "intermediate_size": 1_024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "vocab": 8_192,
    },
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
WINDOW = 2_048
SPECIAL = ("<s>", "</s>", "<pad>")


def make_base(
    panels: Sequence[Panel],
    directory: str | Path,
    *,
    template: Template,
    size: str = "tiny",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write a byte-level BPE tokenizer trained on the panels' resumes and a Llama of random weights.

    Args:
        panels: Usually the `train` parts: every row they hold is read.
        directory: Where to write `config.json`, `model.safetensors`, `tokenizer.json`.
        template: Bound to each panel's columns.
        size: `tiny` (about half a million weights) or `small` (about 13 million).
        seed: Of the weights.
        overwrite: Replace an existing directory.

    Raises:
        ModelError: The size is unknown.
    """
    if size not in SIZES:
        raise ModelError(f"no base of size {size!r}; choose from {', '.join(SIZES)}")
    shape = dict(SIZES[size])
    tokenizer = train_tokenizer(
        (
            text
            for panel in panels
            for batch in render(panel, template.bind(panel.table.column_names))
            for text in batch["resume"].to_pylist()
        ),
        vocab_size=shape.pop("vocab"),
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=WINDOW,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        **shape,
    )
    with output_directory(directory, overwrite=overwrite) as temporary:
        LlamaForCausalLM(config).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer that begins each text with `<s>`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]),
        ]
    )
    bos, eos, pad = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad)


def load_base(base: str | Path, *, dtype: str = "float32") -> PreTrainedModel:
    """Load a causal language model's weights (safetensors only, no code from the hub).

    Raises:
        ModelError: There is no such directory, it holds no weights, or transformers cannot load it as a causal LM.
    """
    path = Path(base)
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            raise ModelError(f"the base {path} holds no weights (*.safetensors); pickled weights are not read")
    elif path.exists() or path.is_absolute() or str(base).startswith((".", "~")) or str(base).count("/") > 1:
        raise ModelError(f"there is no base directory {path}; give a directory, a hub name, or make one: laborllm base")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(base),
            dtype=DTYPES[dtype],
            use_safetensors=True,
            local_files_only=path.is_dir(),
            output_loading_info=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the base {base} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    model: PreTrainedModel
    model, report = loaded
    if report["missing_keys"]:
        raise ModelError(f"the base {base} lacks the weights {sorted(report['missing_keys'])[:3]}; it is incomplete")
    return model


def fingerprint(base: str | Path) -> str:
    """SHA-256 over the configuration and weight files of a local base; name and commit of one from a hub."""
    path = Path(base)
    if not path.is_dir():
        return f"{base}@{getattr(AutoConfig.from_pretrained(str(base)), '_commit_hash', None)}"
    digest = sha256()
    for file in sorted([path / "config.json", *path.glob("*.safetensors")]):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
