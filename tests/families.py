"""Tokenizers of the four families that language models use, trained on the text that packages carry.

Each is configured as a released one, so that what is proved on it holds there: where spaces go, what may merge, what
is added in front and behind. Only the vocabularies differ; no job title is in the corpus.

    llama-2   SentencePiece BPE with byte fallback, no pre-tokenizer: meta-llama/Llama-2-7b-hf. Begins with <s>.
    llama-3   byte-level BPE behind cl100k's expression with \\p{N}{1,3}: meta-llama/Meta-Llama-3-8B. Begins with
              <|begin_of_text|>.
    gpt-2     byte-level BPE behind GPT-2's expression: openai-community/gpt2. Adds nothing.
    unigram   Unigram with byte fallback and a piece for the newline, no pre-tokenizer: llm-jp-tokenizer ver2.2, the
              tokenizer of a causal model for English, Japanese and code. Ends with <EOD>.

Sources: the tokenizer.json files of the repositories named; for llm-jp-tokenizer its folders hf/ and scripts/.
"""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
SPACE = "▁"
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SENTENCEPIECE_WORDS = rf"{SPACE}*[\p{{L}}\p{{M}}]+|\p{{N}}|{SPACE}*[^\p{{L}}\p{{M}}\p{{N}}{SPACE}]+|{SPACE}+"
"""What no piece crosses when it is learned: split_by_whitespace, split_by_unicode_script and split_digits."""


@dataclass(frozen=True)
class Mix:
    """About how many characters of each kind of text, and which packages beside the standard library."""

    prose: int
    code: int
    packages: tuple[str, ...] = ()


FULL = Mix(10_000_000, 40_000_000, ("numpy", "scipy", "sklearn", "torch", "transformers", "sympy"))
SMALL = Mix(1_200_000, 800_000)
FULL_SIZE = {"llama-2": 32_000, "llama-3": 128_256, "gpt-2": 50_257, "unigram": 32_000}
SMALL_SIZE = {"llama-2": 3_000, "llama-3": 4_000, "gpt-2": 3_000, "unigram": 3_000}


def corpus(mix: Mix) -> list[str]:
    """Docstrings, manuals, readmes and licences; and sources: what this interpreter has, chosen evenly.

    The texts do not depend on where the packages lie or on the order in which a file system lists them. Cost: two
    seconds for the full mix.

    Raises:
        ModuleNotFoundError: One of the packages is not installed; the `all` extra brings those of the full mix.
    """
    homes = [Path(sysconfig.get_path("stdlib")), *map(_home, mix.packages)]
    prose, code = [], []
    for path in chain.from_iterable(map(_files, homes)):
        text = path.read_text("utf-8", errors="replace")
        if path.suffix != ".py":
            prose.append(text)
        elif path.parent.name == "pydoc_data":  # the language reference, as string literals
            prose.append(text.replace("\\n", "\n"))
        else:
            code.append(text)
            prose.extend(DOCSTRING.findall(text))
    return [*_evenly(prose, mix.prose), *_evenly(code, mix.code)]


def _home(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the corpus takes text of {package}, which is not installed: pip install laborllm[all]"
        )
    return Path(spec.origin).parent


def _files(home: Path) -> Iterator[Path]:
    """Sources and descriptions of a package, and the readme and licence that it was installed with."""
    for path in chain(home.rglob("*"), home.parent.glob(f"{home.name}-*.dist-info/**/*")):
        other_package = "site-packages" in path.relative_to(home.parent).parts
        wanted = path.suffix in {".py", ".rst", ".md"} or path.name.startswith(("METADATA", "LICENSE"))
        if wanted and not other_package and path.is_file():
            yield path


def _evenly(texts: Iterable[str], size: int) -> list[str]:
    """Texts of about so many characters, each once, in the order of their hashes."""
    chosen = []
    for text in sorted(set(texts), key=lambda text: sha256(text.encode()).digest()):
        if size <= 0:
            break
        chosen.append(text)
        size -= len(text)
    return chosen


def llama_2(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """SentencePiece's BPE: a rank for every pair that makes a piece, bytes for what has no piece."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 259, limit_alphabet=1_000, max_token_length=16, show_progress=False
    )
    pieces = _by_id(_trained(Tokenizer(models.BPE()), texts, trainer, normalizer=_marked_spaces()))
    vocab = {piece: index for index, piece in enumerate(["<unk>", "<s>", "</s>", *BYTES, *pieces])}
    model = models.BPE(vocab, _all_merges(pieces), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _marked_spaces()
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in ("<unk>", "<s>", "</s>")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def llama_3(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """tiktoken's BPE: pairs are ranked by the token that they make; 256 special tokens at the end."""
    special = [f"<|reserved_special_token_{index}|>" for index in range(256)]
    special[:2] = ["<|begin_of_text|>", "<|end_of_text|>"]
    special[6:10] = ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 256, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    pieces = _by_id(_trained(Tokenizer(models.BPE()), texts, trainer, cut=cut))
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, _all_merges(pieces), ignore_merges=True))
    tokenizer.pre_tokenizer = cut
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.decoder = decoders.ByteLevel()
    begin = special[0]
    template = processors.TemplateProcessing(
        single=f"{begin} $A",
        pair=f"{begin} $A {begin}:1 $B:1",
        special_tokens=[(begin, tokenizer.token_to_id(begin))],
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def gpt_2(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """Byte-level BPE as it was first released."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    _trained(tokenizer, texts, trainer, cut=pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def unigram(vocab_size: int, texts: Iterable[str]) -> Tokenizer:
    """SentencePiece's Unigram over the whole text; runs of spaces, the newline and bytes are pieces of their own."""
    special = ["<unk>", "<s>", "</s>", "<EOD>"]
    own = [*special, *(SPACE * length for length in range(24, 0, -1)), "\n", *BYTES]
    trainer = trainers.UnigramTrainer(vocab_size=vocab_size, max_piece_length=16, show_progress=False)
    trained = _trained(Tokenizer(models.Unigram()), texts, trainer, normalizer=_marked_spaces())
    learned = [entry for entry in json.loads(trained.to_str())["model"]["vocab"] if entry[0] not in own]
    pieces = [*((piece, -80.0) for piece in own), *map(tuple, learned)]
    tokenizer = Tokenizer(models.Unigram(pieces[:vocab_size], unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"(?<!\n)^"), SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <EOD>", pair="$A <EOD> $B:1 <EOD>:1", special_tokens=[("<EOD>", special.index("<EOD>"))]
    )
    return tokenizer


def _marked_spaces() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])


def _trained(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    trainer: trainers.Trainer,
    *,
    normalizer: normalizers.Normalizer | None = None,
    cut: pre_tokenizers.PreTokenizer | None = None,
) -> Tokenizer:
    """Train; without a way to cut text, pieces cross neither newlines nor what SentencePiece keeps apart."""
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = cut or pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", behavior="removed"),
            pre_tokenizers.Split(Regex(SENTENCEPIECE_WORDS), behavior="isolated"),
        ]
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _by_id(tokenizer: Tokenizer) -> list[str]:
    return [piece for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def _all_merges(pieces: list[str]) -> list[tuple[str, str]]:
    """Every way to make a piece from two others, pieces in order: what ranks by the result mean as a list of pairs."""
    rank = {piece: index for index, piece in enumerate(pieces)}
    return [
        (piece[:at], piece[at:])
        for piece in pieces
        for at in range(1, len(piece))
        if piece[:at] in rank and piece[at:] in rank
    ]


FAMILIES: dict[str, Callable[[int, Iterable[str]], Tokenizer]] = {
    "llama-2": llama_2,
    "llama-3": llama_3,
    "gpt-2": gpt_2,
    "unigram": unigram,
}


def train_family(name: str, vocab_size: int, *, corpus: Iterable[str]) -> Tokenizer:
    """Train a tokenizer of a family; on two cores seconds, and 40 for 32 000 Unigram pieces of the full mix."""
    return FAMILIES[name](vocab_size, corpus)


def family(name: str, *, full: bool = False, folder: Path | None = None) -> Tokenizer:
    """A small or full tokenizer of a family, trained on the first call and read from a folder on the next.

    Args:
        name: One of `FAMILIES`.
        full: The released vocabulary size and the full mix, else a few thousand entries.
        folder: Where the tokenizers are kept; `cache_folder()` by default.
    """
    return Tokenizer.from_file(str(family_path(name, full=full, folder=folder)))


def family_path(name: str, *, full: bool = False, folder: Path | None = None) -> Path:
    """The tokenizer.json of `family`; its name changes with the corpus, this file and the version of tokenizers."""
    mix = FULL if full else SMALL
    key = sha256(f"{tokenizers.__version__} {_digest(mix)}".encode() + Path(__file__).read_bytes()).hexdigest()
    size = (FULL_SIZE if full else SMALL_SIZE)[name]
    path = (folder or cache_folder()) / f"{name}-{size}-{key[:16]}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
            file.write(train_family(name, size, corpus=_corpus(mix)).to_str())
        Path(file.name).replace(path)
    return path


def cache_folder() -> Path:
    """The folder that LABORLLM_TOKENIZERS names, or one in the user's cache."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("LABORLLM_TOKENIZERS", caches / "laborllm" / "tokenizers"))


_corpus = cache(corpus)


@cache
def _digest(mix: Mix) -> str:
    state = sha256()
    for text in _corpus(mix):
        state.update(text.encode() + b"\0")
    return state.hexdigest()
