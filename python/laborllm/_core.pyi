"""Types of the Rust core. Arrow comes and goes through the PyCapsule interface, without a copy."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

__all__ = ["TitleTrie", "bind_template", "check_panel", "render", "strip_template", "template_fields"]

class _Stream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

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
def render(
    panel: _Stream,
    *,
    header: str,
    row: str,
    end: str,
    missing: Mapping[str, str],
    education: str,
    complete: _Array | None,
    windows: tuple[_Array, _Array] | None,
    metadata: Mapping[str, str],
    batch_bytes: int,
) -> Any: ...

@final
class TitleTrie:
    def __new__(cls, units: Sequence[Sequence[int]]) -> TitleTrie: ...
    @property
    def num_nodes(self) -> int: ...
    @property
    def first(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def title_of(self) -> Any: ...
    def allowed(self, state: int) -> list[int] | None: ...
    def advance(self, state: int, token: int) -> int | None: ...
    def walk(self, tokens: Sequence[int]) -> int | None: ...
    def title(self, state: int) -> int | None: ...
