"""Titles as token ids in the place where they are predicted: behind a prompt, before a terminator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from laborllm.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

BATCH = 20_000
"""Titles that are encoded, in parallel, before their ids are put away."""


def encode_titles(
    titles: Sequence[str], tokenizer: tokenizers.Tokenizer, *, prompt: str, terminator: str
) -> pa.LargeListArray:
    """Encode `{prompt} {title}{terminator}` for every title and keep what stands behind the prompt's own tokens.

    Returns:
        One list of int32 ids per title.

    Raises:
        TokenizerError: The tokenizer merges the prompt's end with a title, cannot spell a title, or reads a part of
            one as a special token; a title is null or holds the terminator. The message names the title.
    """
    titles = checked_titles(titles, terminator)
    tokenizer = plain(tokenizer)
    _refuse_what_is_dropped(tokenizer, titles, prompt, terminator)
    head = tokenizer.encode(prompt, add_special_tokens=False).ids
    ids: list[np.ndarray] = []
    for start in range(0, len(titles), BATCH):
        texts = [f"{prompt} {title}{terminator}" for title in titles[start : start + BATCH]]
        for row, encoding in enumerate(tokenizer.encode_batch_fast(texts, add_special_tokens=False), start):
            tokens = encoding.ids
            if tokens[: len(head)] != head:
                raise TokenizerError(
                    f"the prompt {prompt[-24:]!r} is no token prefix of the prompt followed by {titles[row]!r} (row "
                    f"{row}): this tokenizer merges across the prompt's end; end the prompt elsewhere"
                )
            ids.append(np.array(tokens[len(head) :], np.int32))
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    units = pa.LargeListArray.from_arrays(offsets, np.concatenate([np.empty(0, np.int32), *ids]))
    special = [index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    added = np.isin(units.values.to_numpy(), special)
    rows = np.searchsorted(offsets, np.flatnonzero(added), side="right") - 1
    refuse_special_text(tokenizer, [titles[row] for row in np.unique(rows)])
    refuse_unknown(tokenizer, titles, units)
    return units


def checked_titles(titles: Sequence[str], terminator: str) -> list[str]:
    """Titles as a list of text.

    Raises:
        TokenizerError: One is no text, blank, or holds the terminator; the message names it and its row.
    """
    try:
        texts: list[str] = pa.array(titles).to_pylist()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TokenizerError(f"titles are a list of text ({' '.join(str(error).split())})") from error
    for row, title in enumerate(texts):
        if not isinstance(title, str) or not title.strip() or (terminator and terminator in title):
            raise TokenizerError(
                f"the title {title!r} (row {row}) is no text, is blank, or holds the terminator {terminator!r}"
            )
    return texts


def plain(tokenizer: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer, or a copy that neither cuts nor fills texts."""
    if tokenizer.padding is None and tokenizer.truncation is None:
        return tokenizer
    copy = type(tokenizer).from_str(tokenizer.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def _refuse_what_is_dropped(
    tokenizer: tokenizers.Tokenizer, titles: Sequence[str], prompt: str, terminator: str
) -> None:
    """Refuse a tokenizer that leaves out the terminator, or a letter of a title, instead of spelling it."""
    letters = sorted({letter for title in titles for letter in title if not letter.isspace()})
    texts = [f"{prompt} {letter}{end}" for letter in ["", *letters] for end in ("", terminator)]
    ids = [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    for at, letter in enumerate(letters, 1):
        if ids[2 * at + 1] == ids[1]:
            title = next(title for title in titles if letter in title)
            raise TokenizerError(f"the tokenizer cannot spell {title!r}: it drops {letter!r}")
        if terminator and ids[2 * at] == ids[2 * at + 1]:
            raise TokenizerError(f"the tokenizer drops the terminator {terminator!r}, so that titles have no end")


def units_digest(titles: Sequence[str], tokenizer: tokenizers.Tokenizer, *, prompt: str, terminator: str) -> str:
    """Hash all that the units depend on; 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for text in _lengths_and_texts(tokenizer.to_str(), prompt, terminator, *titles):
        digest.update(text)
    return digest.hexdigest()


def _lengths_and_texts(*texts: str) -> Iterator[bytes]:
    for text in texts:
        encoded = text.encode()
        yield len(encoded).to_bytes(8, "little") + encoded


def refuse_special_text(tokenizer: tokenizers.Tokenizer, titles: Sequence[str]) -> None:
    """Refuse a title that holds what the tokenizer reads as a special token.

    Raises:
        TokenizerError: The message names the title.
    """
    for token in tokenizer.get_added_tokens_decoder().values():
        for title in titles:
            if token.special and token.content and token.content in title:
                raise TokenizerError(
                    f"the title {title!r} holds {token.content!r}, which the tokenizer reads as a special token"
                )


def refuse_unknown(tokenizer: tokenizers.Tokenizer, titles: Sequence[str], units: pa.LargeListArray) -> None:
    """Refuse a title that the tokenizer cannot spell.

    Raises:
        TokenizerError: The message names the title.
    """
    model = json.loads(tokenizer.to_str())["model"]
    name = model.get("unk_token")
    unknown = model.get("unk_id") if name is None else tokenizer.token_to_id(name)
    if unknown is None:
        return
    places = np.flatnonzero(units.flatten().to_numpy() == unknown)
    if len(places):
        row = int(np.searchsorted(units.offsets.to_numpy(), places[0], side="right")) - 1
        raise TokenizerError(f"the tokenizer cannot spell {titles[row]!r}: it needs the unknown token")
