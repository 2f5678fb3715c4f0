"""Types of the Rust core. Arrow comes and goes through the PyCapsule interface, without a copy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np

__all__ = [
    "Batches",
    "FirstFit",
    "Pieces",
    "TitleTrie",
    "bind_template",
    "check_panel",
    "draws",
    "pack_best_fit",
    "render",
    "strip_template",
    "tally",
    "template_fields",
    "tokenize",
]

class _Stream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _Schema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

class _Array(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

def check_panel(
    data: _Stream,
    *,
    codes: Sequence[str],
    titles: Sequence[str],
    dataset: str | None,
    columns: Sequence[tuple[str, str]],
    drop_null_occupations: bool,
) -> tuple[Any, Any, tuple[int, int, dict[str, int], int]]: ...
def bind_template(header: str, row: str, end: str, columns: Sequence[str]) -> list[str]: ...
def strip_template(header: str, row: str, end: str, fields: Sequence[str]) -> list[str]: ...
def template_fields(header: str, row: str, end: str) -> tuple[list[str], list[str], bool]: ...
def draws(panel: _Stream, starts: _Array, tag: str) -> Any: ...

_Places = list[list[str]]
_Encode = Callable[[_Places, _Places, _Places], list[list[list[int]]]]
_Texts = tuple[str, str, str, Mapping[str, str], str]

def render(
    panel: _Stream,
    *,
    template: _Texts,
    starts: _Array,
    complete: _Array,
    windows: tuple[_Array, _Array] | None,
    metadata: Mapping[str, str],
    batch_bytes: int,
    prompts: bool = False,
) -> Batches: ...
def tokenize(
    panel: _Stream,
    *,
    template: _Texts,
    starts: _Array,
    complete: _Array,
    windows: tuple[_Array, _Array] | None,
    metadata: Mapping[str, str],
    batch_bytes: int,
    encode: _Encode,
) -> Batches: ...

@final
class Batches:
    @property
    def schema(self) -> Any: ...
    def reader(self) -> Any: ...
    def finish(self) -> None: ...

@final
class Pieces:
    def __new__(
        cls,
        data: _Stream,
        *,
        codes: Sequence[str],
        titles: Sequence[str],
        dataset: str | None,
        columns: Sequence[tuple[str, str]],
        drop_null_occupations: bool,
        shard: tuple[int, int] | None,
        piece_rows: int,
    ) -> Pieces: ...
    @property
    def schema(self) -> Any: ...
    @property
    def report(self) -> tuple[int, int, dict[str, int], int]: ...
    def __iter__(self) -> Pieces: ...
    def __next__(self) -> tuple[Any, Any]: ...
    def render(self, template: _Texts, metadata: Mapping[str, str], batch_bytes: int) -> Batches: ...

def tally(
    contexts: Sequence[tuple[np.ndarray, int]],
    outcomes: tuple[np.ndarray, int],
    chosen: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]: ...
def pack_best_fit(
    tokens: _Stream,
    *,
    length: int,
    pad_id: int,
    labels: str | None,
    position_ids: bool,
    metadata: Mapping[str, str],
    seed: int | None,
) -> Any: ...

@final
class FirstFit:
    def __new__(
        cls,
        schema: _Schema,
        *,
        length: int,
        pad_id: int,
        labels: str | None,
        position_ids: bool,
        metadata: Mapping[str, str],
        open_bins: int,
    ) -> FirstFit: ...
    @property
    def schema(self) -> Any: ...
    def push(self, batch: _Array) -> list[Any]: ...
    def finish(self) -> list[Any]: ...

_Lists = tuple[np.ndarray, np.ndarray]
_Chains = tuple[np.ndarray, np.ndarray, np.ndarray]

@final
class TitleTrie:
    def __new__(cls, units: _Array) -> TitleTrie: ...
    @staticmethod
    def from_arrays(first: _Array, labels: _Array, titles: _Array) -> TitleTrie: ...
    @property
    def num_nodes(self) -> int: ...
    @property
    def num_titles(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def first(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def titles(self) -> Any: ...
    @property
    def leaves(self) -> Any: ...
    def checksum(self) -> int: ...
    def allowed(
        self, states: np.ndarray, subsets: np.ndarray | None = None, which: np.ndarray | None = None
    ) -> _Lists: ...
    def edges(
        self, states: np.ndarray, subsets: np.ndarray | None = None, which: np.ndarray | None = None
    ) -> np.ndarray: ...
    def advance(self, edges: np.ndarray) -> np.ndarray: ...
    def walk(self, ids: np.ndarray) -> np.ndarray: ...
    def step(self, states: np.ndarray, tokens: np.ndarray) -> np.ndarray: ...
    def forced(self, states: np.ndarray) -> _Chains: ...
    def rollback(self, states: np.ndarray, steps: int) -> np.ndarray: ...
    def title(self, states: np.ndarray) -> np.ndarray: ...
    def fill_bitmask(
        self,
        states: np.ndarray,
        bitmask: np.ndarray,
        previous: np.ndarray | None = None,
        subsets: np.ndarray | None = None,
        which: np.ndarray | None = None,
    ) -> None: ...
    def restrict(self, titles: np.ndarray) -> np.ndarray: ...
