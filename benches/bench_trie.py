"""The title trie: building, steps, bit masks, processors, memory, walks, and engines made for grammars beside it.

    python benches/bench_trie.py [--cases build step ...] [--rounds 9] [--most 1000000] [--cap 60] [--families ...]

Cases: build, step, bitmask, processor, memory, walk, grammars. `--most` leaves out larger title sets, `--cap` is how
many seconds an engine for grammars has to build a set and step through it, in a process of its own; only those that
did are then built in this one. Tokenizers are those of tests/families.py at full size, title sets in trie_sets.py.

Variants of a table are interleaved; ratios are medians over rounds of a peer's time over laborllm's in the same round,
so above 1 laborllm is faster. Times of steps are per sequence, of a batch that is another one in each of 16 calls; the
peers' inputs are in the form each likes best before the clock starts (trie_peers.py, trie_grammars.py, where matchers
step through fewer batches and have seen them, which favours them). The outputs of all variants are compared: equal, or
for engines for grammars, which allow more spellings, ours among theirs. Results go to benches/results/trie.json, case
by case: those that were not run stay as they were. Marks are those of the issue.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measured import circumstances

RESULTS = Path(__file__).parent / "results" / "trie.json"
FAMILIES = ("llama-2", "llama-3")
SETS = {"occ1990dd": 330, "ESCO": 3_003, "10000": 10_000, "O*NET alternate": 42_877, "100000": 100_000} | {
    "1000000": 1_000_000
}
STEPPED = ("occ1990dd", "10000", "100000", "1000000")
FACTS = ("titles", "nodes", "tokens", "longest", "allowed", "file_mb", "megabytes", "bytes_a_node_without_4_a_title")
FACTS += ("dict_bytes_a_node", "tokenizer_s", "build_s", "build_over_laborllm")
BY_GRAMMAR = ("occ1990dd", "ESCO", "10000", "100000")
PACKAGES = ("laborllm", "numpy", "torch", "transformers", "pyarrow", "llguidance", "xgrammar", "outlines-core")


class Engines:
    """Which engines for grammars can build which sets, tried once each, from small sets to large ones."""

    def __init__(self, *, cap: float, rounds: int) -> None:
        self.cap, self.rounds = cap, rounds
        self.found: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def tried(self, engine: str, family: str, name: str) -> dict[str, Any]:
        """How an engine did with a set; not tried where it failed with a smaller one."""
        from trie_uses import probe

        for smaller in BY_GRAMMAR[: BY_GRAMMAR.index(name) + 1]:
            record: dict[str, Any] = probe(engine, family, smaller, cap=self.cap, rounds=self.rounds)
            if "failed" in record:
                break
        return record | {"set": name} | ({} if smaller == name else {"failed": f"not tried: failed with {smaller}"})

    def able(self, family: str, name: str) -> list[str]:
        """The engines to build a set in this process with."""
        from trie_grammars import ENGINES

        if name not in BY_GRAMMAR:
            return []
        return [engine for engine in ENGINES if "failed" not in self.tried(engine, family, name)]


Tables = Iterator[dict[str, Any]]


def build(family: str, options: argparse.Namespace, engines: Engines) -> Tables:
    """From token ids to a trie."""
    from trie_cases import build

    for name in options.sets:
        yield build(name, family, rounds=options.rounds, engines=engines.able(family, name))


def step(family: str, options: argparse.Namespace, engines: Engines) -> Tables:
    """The allowed tokens of a batch."""
    from trie_cases import step

    for name in options.stepped:
        for size in (1, 64, 1024):
            yield step(name, family, size=size, rounds=options.rounds, engines=engines.able(family, name))


def bitmask(family: str, options: argparse.Namespace, engines: Engines) -> Tables:
    """The same as bit masks."""
    from trie_cases import bitmask

    for size in (1, 1024):
        able = engines.able(family, "occ1990dd")
        yield bitmask("occ1990dd", family, size=size, rounds=options.rounds, engines=able)


def processor(family: str, options: argparse.Namespace, _engines: Engines) -> Tables:
    """A step of `generate()` without its model."""
    if find_spec("laborllm.generate.processor") is None:
        print("processor: not measured, laborllm.generate has no TitleLogitsProcessor here")
        return
    from trie_uses import processor

    for name in options.stepped[:2]:
        alone, written = processor(name, family, rows=options.rows)
        yield alone(options.rounds)
        if name == options.stepped[0]:  # the write takes the same time whatever the titles
            yield written(options.rounds)


def memory(family: str, options: argparse.Namespace, _engines: Engines) -> Tables:
    """Bytes, and loading."""
    from trie_uses import loading, memory

    for name in options.stepped[1:]:  # a process that grows by kilobytes says nothing
        yield memory(name, family)
    yield loading(options.stepped[-1], family, rounds=options.rounds)


def walk(family: str, options: argparse.Namespace, _engines: Engines) -> Tables:
    """States from ids."""
    from trie_walks import walk

    for name in options.stepped:
        yield from walk(name, family, size=1024, rounds=options.rounds)


def grammars(family: str, options: argparse.Namespace, engines: Engines) -> Tables:
    """Engines made for grammars, wherever they can build a set."""
    from trie_grammars import ENGINES

    for engine in ENGINES:
        for name in [name for name in BY_GRAMMAR if name in options.sets]:
            tried = engines.tried(engine, family, name)
            wrong = [way for table in tried["steps"] for way in table["wrong"]]
            yield {"case": "grammars", "title": f"{engine}, {name}, {family}", **tried, "marks": [], "wrong": wrong}


CASES = {case.__name__: case for case in (build, step, bitmask, processor, memory, walk, grammars)}


def show(record: dict[str, Any]) -> None:
    """Print one table."""
    print(f"\n{record['title']}")
    facts = {key: value for key, value in record.items() if key in FACTS}
    if facts:
        print("  " + ", ".join(f"{key.replace('_', ' ')} {_number(value)}" for key, value in facts.items()))
    if "failed" in record:
        print(f"  failed: {record['failed']}")
    for table in record.get("steps", []):
        _engine_step(table)
    _rows(record)
    for mark in filter(None, record["marks"]):
        bound = f"{'<=' if mark['most'] else '>='} {mark['passing']:g}, goal {mark['goal']:g}"
        verdict = "reaches the goal" if mark["reaches_goal"] else "passes" if mark["passes"] else "MISSES"
        print(f"  {mark['what']}: {mark['ratio']:.3g} ({bound}): {verdict}")
    print(f"  outputs: {'DIFFER, ' + '; '.join(record['wrong']) if record['wrong'] else 'equal'}")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _engine_step(table: dict[str, Any]) -> None:
    """One line for each way of an engine to write masks."""
    rows = table["rows"]
    for way, allows in table["allowed_over_trie"].items():
        row = rows[way]
        masks = row["over_laborllm"] / rows["laborllm, bit mask"]["over_laborllm"]
        print(f"  {table['title']:<8}{way:<18}{row['seconds'] * 1e9:>12,.0f} ns", end="")
        print(f"{row['over_laborllm']:>10,.1f} x sparse{masks:>10,.1f} x mask; allows {allows:.2f} times as much")


def _rows(record: dict[str, Any]) -> None:
    if "rows" not in record:
        return
    fastest = min(row["seconds"] for row in record["rows"].values())
    scale, unit = next(
        s for s in ((1, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns")) if fastest * s[0] >= 0.1 or s[0] == 1e9
    )
    print(f"  {'variant':<40}{unit:>12}{'quartiles':>24}{'x laborllm':>12}")
    for name, row in sorted(record["rows"].items(), key=lambda item: item[1]["seconds"]):
        low, high = (q * scale for q in row["quartiles"])
        spread = f"{low:,.2f}..{high:,.2f}"
        print(f"  {name:<40}{row['seconds'] * scale:>12,.2f}{spread:>24}{row['over_laborllm']:>12,.2f}")


def versions() -> dict[str, str | None]:
    """Of laborllm and the peers; None where one is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def main() -> None:
    """Measure, print each table as it comes, write the JSON, fail where outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--most", type=int, default=1_000_000, help="titles of the largest set")
    parser.add_argument("--rows", type=int, default=1024, help="B * beams of the processors")
    parser.add_argument("--cap", type=float, default=60, help="seconds for an engine made for grammars and one set")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.sets = [name for name, size in SETS.items() if size <= options.most]
    options.stepped = [name for name in STEPPED if name in options.sets]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    saved = json.loads(options.output.read_text("utf-8")) if options.output.exists() else {}
    cases: dict[str, Any] = saved.get("cases", {})
    engines = Engines(cap=options.cap, rounds=options.rounds)
    facts = {**circumstances(), "rounds": options.rounds, "most": options.most, "cap_s": options.cap}
    print("trie:", ", ".join(f"{key} {value}" for key, value in facts.items()), versions())
    wrong = []
    for case in options.cases:
        records = []
        for family in options.families:
            for record in CASES[case](family, options, engines):
                show(record)
                sys.stdout.flush()
                records.append(record)
                wrong += [f"{record['title']}: {what}" for what in record["wrong"]]
        cases[case] = {**facts, "versions": versions(), "load": os.getloadavg(), "tables": records}
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("outputs differ: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
