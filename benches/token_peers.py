"""Encoders to compare with: how each reads a tokenizer.json, and the call under which it is fastest.

    pip install gigatoken tokie tiktoken kitoken fastokens splintr-rs snaptokens tuetoken quicktok-v1 riptoken

All of them gave Hugging Face's ids on the resumes of the bench when this was written, for the families they can read;
the bench compares again. Left out: iree-tokenizer 0.3.0 (other ids in 10 % of resumes under the Llama-2 family, 88 %
under Llama-3), basetenkenizer 0.2.8 (knows no Prepend; on 2 000 resumes a segmentation fault under Llama-3), morpheme
0.5.0 (the speed of Hugging Face's), wordchipper 0.9.2, bpe-openai and rs-bpe (read no vocabulary but their own).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Flat = tuple[np.ndarray, np.ndarray]
"""All ids one after another, and where each text begins and the last one ends."""


class Peer(NamedTuple):
    """One encoder with its tokenizer loaded.

    Attributes:
        encode: What the clock sees, on what `prepare` gave.
        flat: The ids of a result; only outside of the clock where the result is lists.
        special: Whether the tokenizer's own first and last tokens are among the ids; some cannot add them.
        prepare: Texts in the form that the encoder reads fastest, made before the clock starts.
        lists: The result is Python objects, one per text or token, and no buffer.
    """

    encode: Callable[[Any], Any]
    flat: Callable[[Any], Flat]
    special: bool
    prepare: Callable[[list[str]], Any] = list
    lists: bool = False


def _threads() -> int:
    return int(os.environ["RAYON_NUM_THREADS"])


def _from_lists(lists: Iterable[list[int]]) -> Flat:
    arrays = [np.asarray(ids, np.uint32) for ids in lists]
    return np.concatenate(arrays), np.cumsum([0, *map(len, arrays)])


def _from_encodings(encodings: list[Any]) -> Flat:
    return _from_lists(encoding.ids for encoding in encodings)


def _from_bytes(result: tuple[bytes, bytes]) -> Flat:
    return np.frombuffer(result[0], np.uint32), np.frombuffer(result[1], np.uint64).astype(np.int64)


def hugging_face(path: Path) -> Peer:
    """`encode_batch`: ids, offsets in the text, and more."""
    from tokenizers import Tokenizer

    return Peer(Tokenizer.from_file(str(path)).encode_batch, _from_encodings, special=True, lists=True)


def hugging_face_fast(path: Path) -> Peer:
    """`encode_batch_fast`: without the offsets."""
    from tokenizers import Tokenizer

    return Peer(Tokenizer.from_file(str(path)).encode_batch_fast, _from_encodings, special=True, lists=True)


def gigatoken(path: Path) -> Peer:
    """Its own interface on one buffer of texts, an awkward array back; its cache is warm from the third pass on."""
    from gigatoken import BytesSource, Tokenizer

    def flat(result: Any) -> Flat:
        return np.asarray(result.layout.content.data), np.asarray(result.layout.offsets.data)

    def prepare(texts: list[str]) -> Any:
        return BytesSource("\0".join(texts).encode(), separator=b"\0")

    return Peer(Tokenizer(path).encode_batch, flat, special=False, prepare=prepare)


def tokie(path: Path) -> Peer:
    """`encode_files`, which builds no Python object per text; the file is in the page cache."""
    from tokie import Tokenizer

    def prepare(texts: list[str]) -> Any:
        file = tempfile.NamedTemporaryFile("w", encoding="utf-8")  # noqa: SIM115  as long as its text is wanted
        file.write("<|endoftext|>".join(texts))
        file.flush()
        return file

    tokenizer = Tokenizer.from_json(str(path))
    return Peer(lambda file: tokenizer.encode_files([file.name]), lambda result: result, special=False, prepare=prepare)


def tiktoken(path: Path) -> Peer:
    """`encode_ordinary_batch` on the vocabulary's ranks."""
    from tiktoken import Encoding

    pattern, ranks, special = _ranks(path)
    encoding = Encoding(path.stem, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return Peer(
        lambda texts: encoding.encode_ordinary_batch(texts, num_threads=_threads()),
        _from_lists,
        special=False,
        lists=True,
    )


def riptoken(path: Path) -> Peer:
    """The same ranks in another reading of tiktoken."""
    from riptoken import CoreBPE

    pattern, ranks, special = _ranks(path)
    encoding = CoreBPE(ranks, special, pattern)
    return Peer(encoding.encode_ordinary_batch, _from_lists, special=False, lists=True)


def kitoken(path: Path) -> Peer:
    """`encode_all`."""
    from kitoken import Kitoken

    return Peer(Kitoken.from_tokenizers_file(str(path)).encode_all, _from_lists, special=False, lists=True)


def fastokens(path: Path) -> Peer:
    """`encode_batch_flat`."""
    from fastokens import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return Peer(lambda texts: tokenizer.encode_batch_flat(texts, add_special_tokens=True), _from_bytes, special=True)


def snaptokens(path: Path) -> Peer:
    """`encode_batch_flat`."""
    from snaptokens import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return Peer(lambda texts: tokenizer.encode_batch_flat(texts, add_special_tokens=True), _from_bytes, special=True)


def splintr(path: Path) -> Peer:
    """`encode_batch_flat`."""
    from splintr import from_json

    return Peer(from_json(str(path)).encode_batch_flat, _from_bytes, special=True)


def tuetoken(path: Path) -> Peer:
    """`encode_ordinary_to_buffer`."""
    from tuetoken import Tokenizer

    tokenizer = Tokenizer(str(path))
    return Peer(
        lambda texts: tokenizer.encode_ordinary_to_buffer(texts, _threads()),
        lambda result: (result["data"], result["offsets"]),
        special=False,
    )


def quicktok(path: Path) -> Peer:
    """Imported into its own format, then `encode_batch`."""
    from quicktok import Tokenizer, import_tokenizer

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        import_tokenizer(str(path), "peer", folder)
        tokenizer = Tokenizer("peer", folder)
    return Peer(lambda texts: tokenizer.encode_batch(texts, _threads()), lambda result: result, special=False)


def _ranks(path: Path) -> tuple[str, dict[bytes, int], dict[str, int]]:
    """Expression, ranks of byte strings and special tokens of a byte-level tokenizer made from tiktoken's ranks."""
    saved = json.loads(path.read_text("utf-8"))
    split = (saved["pre_tokenizer"] or {}).get("pretokenizers", [{}])[0]
    if split.get("type") != "Split" or not saved["model"].get("ignore_merges"):
        raise ValueError("no ranks of byte strings behind one expression")
    special = {token["content"]: token["id"] for token in saved["added_tokens"]}
    byte = {character: code for code, character in enumerate(_byte_alphabet())}
    ranks = {
        bytes(byte[character] for character in piece): rank
        for piece, rank in saved["model"]["vocab"].items()
        if piece not in special
    }
    return split["pattern"]["Regex"], ranks, special


def _byte_alphabet() -> str:
    """The character by which byte-level vocabularies write each byte: printable ones stand for themselves."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return "".join(chr(code if code in shown else next(hidden)) for code in range(256))


PEERS: dict[str, tuple[str, Callable[[Path], Peer]]] = {
    "HF encode_batch": ("tokenizers", hugging_face),
    "HF encode_batch_fast": ("tokenizers", hugging_face_fast),
    "gigatoken": ("gigatoken", gigatoken),
    "fastokens": ("fastokens", fastokens),
    "snaptokens": ("snaptokens", snaptokens),
    "splintr": ("splintr-rs", splintr),
    "quicktok": ("quicktok-v1", quicktok),
    "tuetoken": ("tuetoken", tuetoken),
    "tokie": ("tokie", tokie),
    "riptoken": ("riptoken", riptoken),
    "kitoken": ("kitoken", kitoken),
    "tiktoken": ("tiktoken", tiktoken),
}
"""Package and loader of each; a loader raises ImportError where the package is not there, ValueError or RuntimeError
where it cannot read the tokenizer."""


def version(name: str) -> str | None:
    """Version of the package behind a peer, None where it is not installed."""
    try:
        return metadata.version(PEERS[name][0])
    except metadata.PackageNotFoundError:
        return None
