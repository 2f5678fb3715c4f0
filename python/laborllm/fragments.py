"""Fragments of resumes as token ids, with the proof that joined they are what the tokenizer gives for the whole text.

Text is cut behind the newlines of the template and before the space that leads a title. A fragment is encoded behind a
fragment that stands before it in some resume, whose own ids are taken away again: tokenizers that put a space in front
of every text, or join across what is really there, then do what they do inside a resume.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from laborllm.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

RANDOM_RESUMES = 4_000
"""Random resumes that are compared when the first fragments are encoded."""
TIE = 1e-6
"""Two spellings of a Unigram model whose log-probabilities differ by less are told apart by rounding alone."""

Places = list[list[str]]


class InexactError(TokenizerError):
    """The ids of fragments are not those of the whole text under this tokenizer; encode the text instead."""


class FragmentEncoder:
    """Encodes each fragment once and proves that fragments may be joined.

    A call gets texts by place: stretches of the header, stretches of a row, the end. For every text that it has not
    seen it checks that its ids are the same behind two examples of what stands before it, and that two examples of
    what stands behind it do not change them. Then random resumes, put together from everything known, are encoded
    whole and compared: 4,000 at the first call, later four for each new text.

    Args:
        tokenizer: Any fast tokenizer.
        units: The ids that some texts have in every resume: each title with its space and its newline.
        seed: Of the random examples.

    Raises:
        InexactError: One of the checks fails, or a text holds an added token of the tokenizer.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, units: Mapping[str, list[int]], seed: int = 0) -> None:
        self._tokenizer = tokenizer
        self._units = units
        self._added = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content]
        self._scores = _unigram_scores(tokenizer)
        self._random = random.Random(seed)  # noqa: S311  examples, no secrets
        self._known: list[dict[str, list[int]]] = []
        self._header = self._rows = 0

    def __call__(self, header: Places, row: Places, end: Places) -> list[list[list[int]]]:
        """Give the ids of each text, place by place."""
        if not header:
            raise InexactError("the template has no header, so that the first row begins the text")
        places = [*header, *row, *end]
        first = not self._known
        if first:
            self._known = [{} for _ in places]
            self._header, self._rows = len(header), len(row)
        unknown = [
            [text for text in texts if text not in known] for texts, known in zip(places, self._known, strict=True)
        ]
        examples = [texts + list(known) for texts, known in zip(unknown, self._known, strict=True)]
        for place, texts in enumerate(unknown):
            if texts:
                ids = self._encode(texts, *self._neighbours(place, examples))
                self._known[place] |= dict(zip(texts, ids, strict=True))
        new = sum(map(len, unknown))
        self._compare(RANDOM_RESUMES if first else min(RANDOM_RESUMES, 4 * new))
        return [[known[text] for text in texts] for texts, known in zip(places, self._known, strict=True)]

    def _neighbours(self, place: int, examples: list[list[str]]) -> tuple[list[str], list[str]]:
        """Examples of what stands before and behind a place."""
        last_row = self._header + self._rows - 1
        before = [place - 1] if place else []
        after = [place + 1] if place + 1 < len(examples) else []
        if place == self._header:
            before.append(last_row)
        if place == last_row:
            after.append(self._header)
        return self._some(before, examples), self._some(after, examples)

    def _some(self, places: list[int], examples: list[list[str]]) -> list[str]:
        return [self._random.choice(examples[place]) for place in places for _ in range(2)]

    def _encode(self, texts: list[str], before: list[str], after: list[str]) -> list[list[int]]:
        """Ids of texts in their place, and all checks on them."""
        found = self._behind(before[0] if before else None, texts)
        for guard in before[1:]:
            for text, own, other in zip(texts, found, self._behind(guard, texts), strict=True):
                if own != other:
                    raise InexactError(f"the tokens of {text[:48]!r} change with what stands before them")
        for follower in after:
            joined = self._behind(before[0] if before else None, [text + follower for text in texts])
            for text, own, ids in zip(texts, found, joined, strict=True):
                if ids[: len(own)] != own:
                    raise InexactError(f"the tokens of {text[:48]!r} change when {follower[:24]!r} follows")
        for text, own in zip(texts, found, strict=True):
            self._check(text, own, [(before[0] if before else "") + text + example for example in after or [""]])
        return found

    def _check(self, text: str, own: list[int], joined: list[str]) -> None:
        if self._units.get(text, own) != own:
            raise InexactError(f"the tokens of {text!r} are not those that the title has elsewhere")
        for content in self._added:
            if any(content in example for example in joined):
                raise InexactError(f"near {text[:48]!r} stands {content!r}, which the tokenizer reads as one token")
        if self._scores and spelling_gap(text, self._scores) < TIE:
            raise InexactError(f"two spellings of {text[:48]!r} are equally probable: rounding decides between them")

    def _behind(self, guard: str | None, texts: list[str]) -> list[list[int]]:
        """Ids of texts behind a guard, without those of the guard; without one at the start of a text."""
        if guard is None:
            return self._whole(texts, start=True)
        (head,) = self._whole([guard], start=False)
        found = self._whole([guard + text for text in texts], start=False)
        for text, ids in zip(texts, found, strict=True):
            if ids[: len(head)] != head:
                raise InexactError(f"the tokens of {guard[-24:]!r} change when {text[:24]!r} follows")
        return [ids[len(head) :] for ids in found]

    def _whole(self, texts: Sequence[str], *, start: bool) -> list[list[int]]:
        """Ids of whole texts; at their start with the tokens that the tokenizer puts in front."""
        return list(without_tail(self._tokenizer, texts, special=start))

    def _compare(self, many: int) -> None:
        """Put random resumes together and compare them with the ids of their whole text."""
        known = [list(place.items()) for place in self._known]
        header, row, end = (
            known[: self._header],
            known[self._header : self._header + self._rows],
            known[self._header + self._rows :],
        )
        resumes = []
        for _ in range(many):
            rows = chain.from_iterable(row for _ in range(self._random.randint(1, 12)))
            pieces = [self._random.choice(place) for place in chain(header, rows, end)]
            resumes.append(("".join(text for text, _ in pieces), [one for _, ids in pieces for one in ids]))
        whole = self._whole([text for text, _ in resumes], start=True)
        for (text, joined), ids in zip(resumes, whole, strict=True):
            if joined != ids:
                at = next((i for i, (a, b) in enumerate(zip(joined, ids, strict=False)) if a != b), len(ids))
                near = self._tokenizer.decode(ids[max(0, at - 3) : at + 3], skip_special_tokens=False)
                raise InexactError(f"the tokens of {text[:32]!r}… differ from those of its parts near {near!r}")


def without_tail(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], *, special: bool = True) -> Iterator[list[int]]:
    """Encode texts and take away the special tokens that the tokenizer puts behind them."""
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=special):
        ids: list[int] = encoding.ids
        keep = len(ids)
        if special:
            mask = encoding.special_tokens_mask
            while keep and mask[keep - 1]:
                keep -= 1
        yield ids[:keep]


def _unigram_scores(tokenizer: tokenizers.Tokenizer) -> dict[str, float]:
    """Log-probability of each piece of a Unigram model, empty for the others."""
    model = json.loads(tokenizer.to_str())["model"]
    return dict(map(tuple, model["vocab"])) if model["type"] == "Unigram" else {}


def spelling_gap(text: str, scores: dict[str, float]) -> float:
    """Difference of log-probability between the best and the second-best way to spell a text with pieces.

    Spaces are written as SentencePiece writes them; a character without a piece is passed at no cost. Infinity where
    there is one way only. Cost: the text's length times that of the longest piece.
    """
    marked = text.replace(" ", "▁")
    longest = max(map(len, scores))
    best = [(0.0, -math.inf)] + [(-math.inf, -math.inf)] * len(marked)
    for end in range(1, len(marked) + 1):
        reached = [-math.inf, -math.inf]
        for start in range(max(0, end - longest), end):
            score = scores.get(marked[start:end], 0.0 if end - start == 1 and marked[start] not in scores else None)
            if score is not None:
                reached += [value + score for value in best[start]]
        reached.sort(reverse=True)
        best[end] = (reached[0], reached[1])
    first, second = best[-1]
    return first - second if second > -math.inf else math.inf
