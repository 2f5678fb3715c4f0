"""The closed, ordered set of states a worker can be in: code, title, status."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv

from laborllm.errors import OccupationsError
from laborllm.files import read_table

STATUSES = ("employed", "unemployed", "out_of_labor_force", "in_education", "not_employed")


@dataclass(frozen=True)
class Occupations:
    """J states in a fixed order, never inferred from data.

    Whoever holds a state nobody was ever seen in still gives it a probability, and the order is that of every column
    of every law over titles.

    Raises:
        OccupationsError: No state at all, an empty or repeated code or title, one that spans lines, has outer space or
            holds what is no printable text (control characters, lone surrogates), an unknown status.

    >>> states = Occupations(("1", "2"), ("Cooks", "Not employed"), ("employed", "not_employed"))
    >>> states.index("Not employed")
    1
    """

    codes: tuple[str, ...]
    titles: tuple[str, ...]
    statuses: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check the set once, when it is made."""
        if not self.titles:
            raise OccupationsError("the list of occupations is empty; it needs one row per state")
        if not len(self.codes) == len(self.titles) == len(self.statuses):
            raise OccupationsError("codes, titles and statuses differ in length; give one of each per state")
        for name, values in (("code", self.codes), ("title", self.titles)):
            seen: dict[str, int] = {}
            for row, value in enumerate(values):
                if not value or value != value.strip() or any(map(_unprintable, value)):
                    raise OccupationsError(
                        f"the {name} {value!r} in row {row} is empty, has outer space, spans lines or holds control "
                        "characters; clean it"
                    )
                if value in seen:
                    raise OccupationsError(
                        f"the {name} {value!r} stands in rows {seen[value]} and {row}; a state is listed once"
                    )
                seen[value] = row
        for row, status in enumerate(self.statuses):
            if status not in STATUSES:
                raise OccupationsError(f"unknown status {status!r} in row {row}; choose from {', '.join(STATUSES)}")

    def __len__(self) -> int:
        """J, the number of states."""
        return len(self.titles)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read `code,title,status` from a CSV, Parquet or Arrow file."""
        return cls.from_arrow(read_table(path), source=str(path))

    @classmethod
    def from_arrow(cls, data: Any, *, source: str = "the list of occupations") -> Self:
        """Take the columns `code`, `title`, `status` of anything with an Arrow stream, in the order of its rows.

        `status` may be absent: every state is then taken as employed.
        """
        table = data if isinstance(data, pa.Table) else pa.table(data)
        if len(set(table.column_names)) < len(table.column_names):
            raise OccupationsError(f"{source} names a column twice: {', '.join(table.column_names)}; rename one")
        for name in ("code", "title"):
            if name not in table.column_names:
                raise OccupationsError(f"{source} has no column {name!r}; present are {', '.join(table.column_names)}")
            if table[name].null_count:
                raise OccupationsError(f"the column {name!r} of {source} holds nulls; every state needs a {name}")
        try:
            titles = table["title"].cast(pa.large_string()).to_pylist()
            status = table["status"].cast(pa.large_string()).to_pylist() if "status" in table.column_names else None
        except pa.ArrowException as error:
            reason = " ".join(str(error).split())
            raise OccupationsError(f"{source} holds text that is no UTF-8 ({reason}); save it as UTF-8") from error
        return cls(
            codes=tuple(str(code) for code in table["code"].to_pylist()),
            titles=tuple(titles),
            statuses=tuple(str(s) for s in status) if status else ("employed",) * len(titles),
        )

    @classmethod
    def from_titles(cls, titles: list[str] | tuple[str, ...]) -> Self:
        """Number the titles from 0 and take all of them as employed."""
        return cls(tuple(str(j) for j in range(len(titles))), tuple(titles), ("employed",) * len(titles))

    @classmethod
    def occ1990dd(cls) -> Self:
        """330 time-consistent occupations and three states without a job.

        Source: the codes of D. Dorn's occ1990dd (Autor and Dorn, American Economic Review 103(5), 2013), titles in the
        wording of IPUMS OCC1990 where the two agree; the three other states as in arXiv 2406.17972.
        """
        raw = resources.files("laborllm").joinpath("data/occ1990dd.csv").read_bytes()
        return cls.from_arrow(pa.csv.read_csv(BytesIO(raw)), source="occ1990dd.csv")

    @classmethod
    def union(cls, first: Occupations, second: Occupations) -> Self:
        """Keep the order of `first` and append what only `second` has; one code with two titles is refused."""
        title_of = dict(zip(first.codes, first.titles, strict=True))
        codes, titles, statuses = list(first.codes), list(first.titles), list(first.statuses)
        for code, title, status in zip(second.codes, second.titles, second.statuses, strict=True):
            if code in title_of and title_of[code] != title:
                raise OccupationsError(
                    f"the code {code!r} names {title_of[code]!r} in one list and {title!r} in the other; recode one"
                )
            if code not in title_of:
                codes.append(code)
                titles.append(title)
                statuses.append(status)
        return cls(tuple(codes), tuple(titles), tuple(statuses))

    def take(self, order: Iterable[int]) -> Occupations:
        """The states at these places, in this order."""
        places = [int(j) for j in order]
        codes, titles, statuses = (
            tuple(values[j] for j in places) for values in (self.codes, self.titles, self.statuses)
        )
        return Occupations(codes, titles, statuses)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of codes, titles and statuses in their order, as hexadecimal text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def dictionary(self) -> pa.Array:
        """The J titles in order as a large_string array: the values of every dictionary-encoded state column."""
        return pa.array(self.titles, pa.large_string())

    @cached_property
    def _index(self) -> dict[str, int]:
        return {title: j for j, title in enumerate(self.titles)}

    def index(self, title: str) -> int:
        """Position of a title in [0, J)."""
        if title not in self._index:
            raise OccupationsError(f"{title!r} is none of the {len(self)} titles; {_nearest(title, self.titles)}")
        return self._index[title]

    def prefixes(self) -> list[tuple[str, str]]:
        """Pairs of a title and a longer title that begins with it (they differ only through the terminator)."""
        ordered = sorted(self.titles)
        pairs = []
        for position, title in enumerate(ordered):
            for longer in ordered[position + 1 :]:
                if not longer.startswith(title):
                    break
                pairs.append((title, longer))
        return pairs

    def to_table(self) -> pa.Table:
        """Columns `code`, `title`, `status`."""
        return pa.table({"code": list(self.codes), "title": list(self.titles), "status": list(self.statuses)})

    def to_json(self) -> str:
        """Canonical JSON: what the hash is taken of, and what files and model directories carry."""
        rows = list(zip(self.codes, self.titles, self.statuses, strict=True))
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`."""
        codes, titles, statuses = zip(*json.loads(text), strict=True)
        return cls(codes, titles, statuses)


def _unprintable(character: str) -> bool:
    """Control characters, line and paragraph separators, surrogates; marks, joiners and directions are text."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _nearest(title: str, titles: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  loaded for an error message only

    near = get_close_matches(title, titles, n=3, cutoff=0.0)
    return "nearest are " + ", ".join(repr(t) for t in near)
