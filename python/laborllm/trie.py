"""The token sequences of J titles as a trie: which tokens may come next, and which title has been said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from laborllm import _core
from laborllm.errors import FileError, TrieError
from laborllm.files import existing, make_folder, metadata_entry, output_file, unreadable, with_metadata
from laborllm.units import checked_titles, encode_titles, units_digest

if TYPE_CHECKING:
    import tokenizers

FORMAT = "title-trie 1"
NODES = pa.large_list(pa.uint32())
LAYOUTS = [{"first": NODES, "labels": labels, "titles": NODES} for labels in (pa.large_list(pa.uint16()), NODES)]


class TitleTrie:
    """A trie over token ids, one unit (the tokens of a title and its terminator) per title.

    Nodes are in level order and the root is node 0. The edges of node n are `first[n]:first[n + 1]`, ascending by
    token, and edge e leads to node e + 1, so that `labels[n - 1]` is the token that leads to node n. Every title ends
    in a leaf, since no unit begins another.

    The state of a sequence is its node, uint32: beams are reordered by indexing the array of states, and the trie
    itself never changes, so that any number of threads may share it. All methods take and give one entry a sequence.
    A sequence that took a token which was not allowed is `NOWHERE` ever after; nothing may follow there.

    Args:
        units: Token ids per title, in the order of the titles: an Arrow list array, or a sequence of sequences.

    Raises:
        TrieError: There is no title, or a unit is empty, longer than 512 tokens, repeated, or begins another; the
            message names the rows.

    >>> trie = TitleTrie([[5, 6, 1], [5, 1]])
    >>> states = trie.walk([[5]])
    >>> trie.allowed(states)
    (array([0, 2]), array([1, 6], dtype=uint16))
    >>> trie.title(trie.advance(trie.edges(states)))
    array([ 1, -1])
    """

    NOWHERE: ClassVar[int] = 2**32 - 1

    def __init__(self, units: Any) -> None:
        self._core = _core.TitleTrie(_lists(units))

    @classmethod
    def from_titles(
        cls,
        titles: Sequence[str],
        tokenizer: tokenizers.Tokenizer,
        *,
        prompt: str,
        terminator: str = "\n",
        cache: str | Path | None = None,
    ) -> TitleTrie:
        """Encode titles behind a prompt, and build their trie.

        The terminator keeps a title apart from those it begins ("Physicians", "Physicians' assistants"). Encoding
        takes all threads of the tokenizer, and longer than all the rest.

        Args:
            titles: J different titles.
            tokenizer: A fast tokenizer, as `laborllm.tokens.load_tokenizer` gives it.
            prompt: What stands before every title, without the space: the open line of a resume, "1994:".
            terminator: What ends every title.
            cache: A folder, made where there is none. The trie is kept there under a hash of tokenizer, prompt,
                terminator and titles, and loaded from there the next time; a damaged file is written anew.

        Raises:
            TokenizerError: The tokenizer cannot spell a title, or merges the prompt's end with it.
            TrieError: As for the units; a title that repeats another does so by its tokens.
        """
        texts = checked_titles(titles, terminator)
        if cache is None:
            return cls(encode_titles(texts, tokenizer, prompt=prompt, terminator=terminator))
        digest = units_digest(texts, tokenizer, prompt=prompt, terminator=terminator)
        path = Path(cache) / f"titles-{digest}.arrow"
        with suppress(FileError):
            return cls.load(path)
        make_folder(cache)
        cls(encode_titles(texts, tokenizer, prompt=prompt, terminator=terminator)).save(path, overwrite=True)
        return cls.load(path)

    @classmethod
    def load(cls, path: str | Path) -> TitleTrie:
        """Map a saved trie into memory; processes that load one file share it.

        The file may be replaced or removed meanwhile, as `save` does it, but not written over in place.

        Raises:
            FileError: There is no such file, or it is damaged.
        """
        source = existing(path)
        try:
            with pa.memory_map(str(source)) as file:
                return cls._read(pa.ipc.open_file(file).get_batch(0))
        except (pa.ArrowException, OSError, ValueError, TrieError) as error:
            raise unreadable(source, error) from error

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the arrays as an Arrow IPC file of one row, in one atomic step.

        Raises:
            FileError: `path` exists and `overwrite` is false, or its folder does not exist.
        """
        batch = self._batch()
        with output_file(path, overwrite=overwrite) as temporary, pa.ipc.new_file(temporary, batch.schema) as file:
            file.write_batch(batch)

    def __reduce__(self) -> tuple[Callable[[bytes], TitleTrie], tuple[bytes]]:
        """Go to another process as the bytes of the arrays."""
        batch, sink = self._batch(), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return type(self)._from_bytes, (sink.getvalue().to_pybytes(),)

    @classmethod
    def _from_bytes(cls, content: bytes) -> TitleTrie:
        with pa.ipc.open_stream(content) as stream:
            return cls._read(stream.read_next_batch())

    @classmethod
    def _read(cls, batch: pa.RecordBatch) -> TitleTrie:
        kinds = dict(zip(batch.schema.names, batch.schema.types, strict=True))
        if metadata_entry(batch.schema, "format") != FORMAT or kinds not in LAYOUTS:
            raise TrieError(f"this is no {FORMAT}; save the trie anew")
        batch.validate(full=True)
        arrays = [batch[name].flatten() for name in kinds]
        trie = cls.__new__(cls)
        trie._core = _core.TitleTrie.from_arrays(*arrays)
        if metadata_entry(batch.schema, "checksum") != str(trie._core.checksum()):
            raise TrieError("its checksum is not that of its arrays")
        return trie

    def _batch(self) -> pa.RecordBatch:
        arrays = {name: pa.array(getattr(self._core, name)) for name in ("first", "labels", "titles")}
        columns = {name: pa.LargeListArray.from_arrays([0, len(array)], array) for name, array in arrays.items()}
        batch = pa.record_batch(columns)
        entries = {"format": FORMAT, "checksum": str(self._core.checksum())}
        return batch.replace_schema_metadata(with_metadata(batch.schema, entries).metadata)

    def __repr__(self) -> str:
        return f"TitleTrie(num_titles={self.num_titles}, num_nodes={self.num_nodes})"

    @property
    def num_titles(self) -> int:
        """Titles, J."""
        return self._core.num_titles

    @property
    def num_nodes(self) -> int:
        """Nodes, the root among them."""
        return self._core.num_nodes

    @cached_property
    def levels(self) -> list[int]:
        """First node of each depth, then the number of nodes: the nodes behind d tokens are levels[d]:levels[d + 1]."""
        starts = [0, 1]
        while starts[-1] < self.num_nodes:
            starts.append(int(self.first[starts[-1]]) + 1)
        return starts

    @property
    def longest(self) -> int:
        """Tokens of the longest unit: the `max_new_tokens` within which every title ends."""
        return len(self.levels) - 2

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays: 6.2 a node (8.2 where tokens exceed 65,535), 4 a title, a bit for each token."""
        return self._core.nbytes

    @property
    def vocabulary(self) -> int:
        """The greatest token plus one; a model's vocabulary is at least as large."""
        return self._core.vocabulary

    @cached_property
    def first(self) -> np.ndarray:
        """First edge of each node, then the number of edges, uint32, shape (nodes + 1,); a view."""
        return _numpy(self._core.first)

    @cached_property
    def labels(self) -> np.ndarray:
        """Token of each edge, uint16 (uint32 where tokens exceed 65,535), shape (edges,) = (nodes - 1,); a view."""
        return _numpy(self._core.labels)

    @cached_property
    def titles(self) -> np.ndarray:
        """The title that ends at each of `leaves`, uint32, shape (J,); a view."""
        return _numpy(self._core.titles)

    @cached_property
    def leaves(self) -> np.ndarray:
        """The node at which each of `titles` ends, uint32, shape (J,), ascending."""
        return _numpy(self._core.leaves)

    def walk(self, ids: Any) -> np.ndarray:
        """Give the state of each row of tokens, from the root.

        Args:
            ids: Integers, shape (B, T). What follows the last token of a title is not looked at.

        Returns:
            uint32, shape (B,); `NOWHERE` for a row that leaves the trie.
        """
        return self._core.walk(_integers(ids, "ids"))

    def step(self, states: np.ndarray, tokens: Any) -> np.ndarray:
        """Give the state after one more token each, by a search among those that are allowed.

        Args:
            states: uint32, shape (B,).
            tokens: Integers, shape (B,).

        Returns:
            uint32, shape (B,): `NOWHERE` for a token that is not allowed; a finished title stays as it is.
        """
        return self._core.step(states, _integers(tokens, "tokens"))

    def allowed(
        self, states: np.ndarray, *, subsets: np.ndarray | None = None, which: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the tokens that may follow each state.

        Args:
            states: uint32, shape (B,).
            subsets: Only titles of these sets, as `restrict` gives them, shape (S, words).
            which: int64, shape (B,): the set of each row. Without it row b is under set b, or under the only one.

        Returns:
            `indptr`, int64, (B + 1,), and `tokens`, of the type of `labels`: what may follow state b stands at
            `indptr[b]:indptr[b + 1]`, ascending. None follow at the end of a title.

        Raises:
            TrieError: A state or a set that this trie never gave, or an array of another kind.
        """
        return self._core.allowed(states, _of(subsets, which), which)

    def edges(
        self, states: np.ndarray, *, subsets: np.ndarray | None = None, which: np.ndarray | None = None
    ) -> np.ndarray:
        """Give the edge of every token that `allowed` gives, uint32, in the same places; for `advance`.

        They are not given with the tokens, since a step needs one a sequence: without subsets the edge of a row's
        k-th token is `first[states] + k`.
        """
        return self._core.edges(states, _of(subsets, which), which)

    def advance(self, edges: np.ndarray) -> np.ndarray:
        """Give the states that edges lead to, uint32, the shape of `edges`: each edge plus one."""
        return self._core.advance(edges)

    def forced(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give the tokens that must follow each state until there is a choice, or the title ends.

        Returns:
            `indptr`, int64, (B + 1,) and `tokens`, uint32, as `allowed` has them; and the states where the chains
            end, uint32, (B,).
        """
        return self._core.forced(states)

    def rollback(self, states: np.ndarray, *, steps: int = 1) -> np.ndarray:
        """Give the states so many tokens earlier, uint32, (B,); before the root there is the root."""
        if steps < 0:
            raise TrieError(f"steps={steps} is no number of tokens to go back")
        return self._core.rollback(states, steps)

    def title(self, states: np.ndarray) -> np.ndarray:
        """Give the title that ends at each state, int64, (B,); -1 inside of titles."""
        return self._core.title(states)

    def fill_bitmask(
        self,
        states: np.ndarray,
        bitmask: Any,
        *,
        previous: np.ndarray | None = None,
        subsets: np.ndarray | None = None,
        which: np.ndarray | None = None,
    ) -> None:
        """Set the bits of the tokens that may follow each state, and no others.

        The layout is that of llguidance, xgrammar and outlines-core: bit t % 32 of word t // 32 is token t.

        Args:
            states: uint32, shape (B,).
            bitmask: int32, shape (B, W), W at least ceil(vocabulary / 32): a numpy array, or a torch tensor on the CPU.
            previous: The states whose bits the mask holds and no others; only their words are cleared then.
            subsets: Only titles of these sets, as for `allowed`.
            which: The set of each row, as for `allowed`.

        Raises:
            TrieError: An unknown state, a mask too narrow or of another kind.
        """
        words = np.asarray(bitmask)
        if words is not bitmask and words.flags.owndata:
            raise TrieError(f"the bitmask is a {type(bitmask).__name__}, not memory to write to; pass a numpy array")
        self._core.fill_bitmask(states, words, previous, _of(subsets, which), which)

    def restrict(self, titles: Any) -> np.ndarray:
        """Give the nodes that lead to one of some titles, for the `subsets` of the other methods.

        Args:
            titles: Truth values, shape (J,) or (S, J): the titles of each set, as those valid in a year.

        Returns:
            uint64, shape (S, words): bit n % 64 of word n // 64 is node n.
        """
        sets = np.atleast_2d(_array(titles, "titles"))
        if sets.dtype != bool or sets.ndim != 2 or not len(sets) or sets.shape[1] != self.num_titles:
            raise TrieError(
                f"the sets are {sets.dtype} of shape {sets.shape}; pass truth values, one for each of the "
                f"{self.num_titles} titles"
            )
        return self._core.restrict(np.ascontiguousarray(sets)).reshape(len(sets), -1)


def _of(subsets: np.ndarray | None, which: np.ndarray | None) -> np.ndarray | None:
    if subsets is None and which is not None:
        raise TrieError("which= names sets, but there are none; pass subsets=, as restrict() gives them")
    return subsets


def _array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise TrieError(f"{name} make no array ({' '.join(str(error).split())}); pass rows of one length") from error


def _integers(values: Any, name: str) -> np.ndarray:
    array = _array(values, name)
    if array.size and array.dtype.kind not in "iu":
        raise TrieError(f"{name} are integers, not {array.dtype}")
    return np.ascontiguousarray(array, np.int64)


def _lists(units: Any) -> pa.Array:
    if isinstance(units, pa.Array):
        return units
    if isinstance(units, pa.ChunkedArray):
        return units.combine_chunks()
    if hasattr(units, "__arrow_c_array__") or hasattr(units, "__arrow_c_stream__"):
        return _lists(pa.chunked_array(units) if hasattr(units, "__arrow_c_stream__") else pa.array(units))
    try:
        return pa.array(units) if len(units) else pa.array([], pa.large_list(pa.int64()))
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise TrieError(f"units are lists of token ids ({' '.join(str(error).split())})") from error


def _numpy(array: Any) -> np.ndarray:
    """View an Arrow array as numpy, read-only and without a copy."""
    view: np.ndarray = pa.array(array).to_numpy(zero_copy_only=True)
    return view
