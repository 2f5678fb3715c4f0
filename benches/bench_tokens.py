"""Panel → token ids: laborllm against Hugging Face's tokenizers and the fastest recent encoders; same ids.

    python benches/bench_tokens.py [--workers 100000] [--rounds 9] [--threads 2] [--tokenizer NAME=tokenizer.json]

laborllm begins with a checked panel. The peers (token_peers.py) get the finished texts, made before the clock starts,
each in the form it reads fastest, and need not take the ids out of what they return; both favour them. Every peer runs
whole and in quarters of whole workers, and its better form counts. Variants are interleaved, three runs of each a
round: the first is cold (the others have run since), the best of the others warm. Before the rounds each has run four
times, since some keep what they have seen. `SLOW` ones run on the first fiftieth of the workers: rates are per token.
CPU time is that of all threads of the process. Ids are compared with Hugging Face's by SHA-256, without what a
tokenizer puts in front and behind, which some peers cannot add. Peak memory is that of a fresh process, above its
prepared input.
The tokenizers are those of tests/families.py at full size, trained at the first run, or given by path; under the
trained ones a mean of tokens that is not within 15 % of the released tokenizers' is an error.
Results go to benches/results/tokens.json.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from measured import circumstances, growth

sys.path.insert(0, str(Path(__file__).parents[1]))

RESULTS = Path(__file__).parent / "results" / "tokens.json"
EXPECTED = {"llama-2": 360, "llama-3": 275}
"""Tokens of a resume of about a kilobyte under the released tokenizers."""
SLOW = {"HF encode_batch", "HF encode_batch_fast", "kitoken", "riptoken", "tiktoken", "tokie", "tuetoken"}
SLOW_SHARE = 50
REPEATS = 3
OURS = "laborllm"


class Run(NamedTuple):
    """A variant that is ready.

    Attributes:
        batches: Does the work and gives its results one by one; each is let go of before the next.
        flat: From a result to its ids, one text after another, and where each text begins.
        special: Whether the tokenizer's own first and last tokens are among the ids.
        lists: The result is Python objects; a buffer's pages are read inside the clock.
    """

    batches: Callable[[], Iterable[Any]]
    flat: Callable[[Any], Any]
    special: bool
    lists: bool


def make_panel(workers: int) -> Any:
    """The panel of bench_resumes.py, checked."""
    from bench_resumes import make_rows

    from laborllm.panel import Panel

    table, occupations = make_rows(workers, shuffle=False)
    return Panel.from_arrow(table, occupations=occupations, dataset="PSID")


def make_texts(panel: Any) -> list[str]:
    """Every worker's resume."""
    from laborllm.resume import Template, render

    return [text for batch in render(panel, Template.load("labor-llm")) for text in batch["resume"].to_pylist()]


def laborllm_variant(panel: Any, tokenizer: Any, template: Any) -> Run:
    """Panel to ids; what is proved about the tokenizer is proved before the clock starts."""
    import numpy as np

    from laborllm.encoder import PanelEncoder

    encoder = PanelEncoder(tokenizer, panel.occupations, template.bind(panel.table.column_names))

    def flat(batch: Any) -> Any:
        ids = batch["input_ids"]
        offsets = ids.offsets.to_numpy()
        return ids.flatten().to_numpy().view(np.uint32), offsets - offsets[0]

    return Run(lambda: encoder.table(panel), flat, special=True, lists=False)


def make(name: str, path: Path, panel: Any) -> Run:
    """Prepare one variant on the panel's workers; "PEER, quarters" on their texts in four parts."""
    peer_name, _, form = name.partition(", ")
    if peer_name == OURS:
        from tokenizers import Tokenizer

        from laborllm.resume import Template

        return laborllm_variant(panel, Tokenizer.from_file(str(path)), Template.load("labor-llm"))
    from token_peers import PEERS

    peer = PEERS[peer_name][1](path)
    texts = make_texts(panel)
    size = -(-len(texts) // (4 if form else 1))
    parts = [peer.prepare(texts[start : start + size]) for start in range(0, len(texts), size)]
    return Run(lambda: map(peer.encode, parts), peer.flat, peer.special, peer.lists)


def workers_of(name: str, panel: Any) -> Any:
    """The workers that a variant runs on."""
    slow = name.partition(", ")[0] in SLOW
    return panel.slice_workers(0, panel.num_workers // SLOW_SHARE) if slow else panel


def clock(run: Run) -> tuple[float, float]:
    """Seconds of CPU, of all threads, and of wall until the consumer has all ids."""
    cpu, wall = time.process_time(), time.perf_counter()
    for result in run.batches():
        if not run.lists:
            int(run.flat(result)[0][:: 4096 // 4].sum())
        del result  # the loop would hold it while the next is made
    return time.process_time() - cpu, time.perf_counter() - wall


def digest(run: Run, specials: tuple[int, int]) -> tuple[str, int]:
    """SHA-256 of the ids and lengths of all texts without the tokenizer's own tokens, and how many ids with them."""
    import numpy as np

    state, tokens = hashlib.sha256(), 0
    head, tail = specials if run.special else (0, 0)
    for result in run.batches():
        ids, offsets = run.flat(result)
        for start, stop in itertools.pairwise(offsets.tolist()):
            text = ids[start + head : stop - tail].astype(np.uint32)
            state.update(len(text).to_bytes(4, "little") + text.tobytes())
        tokens += len(ids) + (len(offsets) - 1) * (sum(specials) - head - tail)
    return state.hexdigest(), tokens


def specials_of(path: Path) -> tuple[int, int]:
    """How many tokens the tokenizer puts in front of a text and behind it."""
    from tokenizers import Tokenizer

    mask = Tokenizer.from_file(str(path)).encode("x").special_tokens_mask
    return mask.index(0), mask[::-1].index(0)


def load(panel: Any, path: Path) -> tuple[dict[str, Run], dict[str, str]]:
    """All variants that can be made, and why the others cannot."""
    from token_peers import PEERS, version

    names = [OURS, *(name for peer in PEERS for name in (peer, f"{peer}, quarters"))]
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for name in names:
        peer = name.partition(", ")[0]
        if peer != OURS and version(peer) is None:
            missing[peer] = "not installed"
        elif peer not in missing:
            try:
                runs[name] = make(name, path, workers_of(name, panel))
            except Exception as error:  # noqa: BLE001  each library has exceptions of its own
                missing[peer] = " ".join(str(error).split())[:160]
    return runs, missing


def measure(family: str, path: Path, panel: Any, *, rounds: int) -> dict[str, Any]:
    """Interleave all variants under one tokenizer."""
    specials = specials_of(path)
    runs, missing = load(panel, path)
    reference = {
        workers.num_workers: digest(make("HF encode_batch_fast", path, workers), specials)
        for workers in (panel, workers_of("HF encode_batch", panel))
    }
    tokens, same = {}, {}
    for name, run in runs.items():
        seen, tokens[name] = digest(run, specials)
        same[name] = seen == reference[workers_of(name, panel).num_workers][0]
        for _ in range(REPEATS):
            clock(run)
    cold: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    warm: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            first, *rest = [clock(run) for _ in range(REPEATS)]
            cold[name].append(first)
            warm[name].append((min(cpu for cpu, _ in rest), min(wall for _, wall in rest)))
    found = {
        name: {
            "ids_equal": same[name],
            "tokens": tokens[name],
            **rates("cpu", tokens[name], [cpu for cpu, _ in warm[name]]),
            **rates("wall", tokens[name], [wall for _, wall in warm[name]]),
            **rates("cpu_cold", tokens[name], [cpu for cpu, _ in cold[name]]),
            "peak_mb": peak(name, path, panel.num_workers),
        }
        for name in runs
    }
    return {
        "family": family,
        "tokens_per_resume": reference[panel.num_workers][1] / panel.num_workers,
        "expected": EXPECTED.get(family),
        "text_mb": sum(len(text.encode()) for text in make_texts(panel)) / 1e6,
        "ratios": {key: ratios(found, key) for key in ("cpu", "wall")},
        "variants": found,
        "missing": missing,
    }


def rates(what: str, tokens: int, seconds: list[float]) -> dict[str, Any]:
    """Millions of tokens per second: median and quartiles over the rounds."""
    low, median, high = statistics.quantiles((tokens / second / 1e6 for second in seconds), n=4)
    return {f"{what}_mtok_per_s": median, f"{what}_mtok_per_s_quartiles": [low, high]}


def ratios(found: dict[str, Any], key: str) -> dict[str, Any]:
    """Our rate over that of Hugging Face's fast call and over that of the best encoder with the same ids."""
    rate = {name: row[f"{key}_mtok_per_s"] for name, row in found.items() if row["ids_equal"] and name != OURS}
    fast = max(speed for name, speed in rate.items() if name.startswith("HF encode_batch_fast"))
    best = max(rate, key=lambda name: rate[name])
    ours = found[OURS][f"{key}_mtok_per_s"]
    return {"HF encode_batch_fast": ours / fast, "best peer": best, "over best peer": ours / rate[best]}


def peak(name: str, path: Path, workers: int) -> float:
    """Peak memory of one run in a fresh process, above what the prepared input took, in MB."""
    command = [sys.executable, __file__, "--workers", str(workers), "--tokenizer", f"one={path}", "--one", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(name: str, path: Path, panel: Any) -> None:
    """Print the growth of peak memory while a variant runs once."""
    run = make(name, path, workers_of(name, panel))
    print(growth(lambda: clock(run)))


def show(record: dict[str, Any]) -> None:
    """Print one table per family."""
    facts = [f"{record['workers']} workers", record["machine"], f"{record['threads']} threads", record["date"]]
    print("tokens:", ", ".join([*facts, f"commit {record['commit']}", f"{record['rounds']} interleaved rounds"]))
    for family in record["families"]:
        mean, expected = family["tokens_per_resume"], family["expected"]
        print(f"\n{family['family']}: {family['text_mb']:.0f} MB of text, {mean:.1f} tokens a resume", end="")
        print(f" (released: about {expected})" if expected else "")
        print(f"{'variant':<32}{'Mtok/CPU s':>11}{'quartiles':>16}{'cold':>8}{'wall':>8}{'peak MB':>9}  ids")
        for name, row in sorted(family["variants"].items(), key=lambda item: -item[1]["cpu_mtok_per_s"]):
            spread = "{:.1f}..{:.1f}".format(*row["cpu_mtok_per_s_quartiles"])
            ids = "equal" if row["ids_equal"] else "OTHER"
            cold, wall = row["cpu_cold_mtok_per_s"], row["wall_mtok_per_s"]
            print(f"{name:<32}{row['cpu_mtok_per_s']:>11.1f}{spread:>16}{cold:>8.1f}{wall:>8.1f}", end="")
            print(f"{row['peak_mb']:>9.0f}  {ids}")
        for clocked, ratio in family["ratios"].items():
            print(
                f"laborllm, {clocked} time: {ratio['HF encode_batch_fast']:.1f} x HF encode_batch_fast, "
                f"{ratio['over best peer']:.2f} x {ratio['best peer']}"
            )
        for peer, why in family["missing"].items():
            print(f"{peer} did not run: {why}")
    print(f"\non a fiftieth of the workers: {', '.join(sorted(SLOW))}")


def wrong(families: list[dict[str, Any]]) -> list[str]:
    """What makes the ratios mean nothing."""
    found = [f"{row['family']}: laborllm's ids differ" for row in families if not row["variants"][OURS]["ids_equal"]]
    for row in families:
        mean, expected = row["tokens_per_resume"], row["expected"]
        if expected and abs(mean / expected - 1) > 0.15:
            found.append(f"{row['family']}: {mean:.0f} tokens a resume, not within 15 % of {expected}")
    return found


def main() -> None:
    """Measure under each tokenizer, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=PATH", help="instead of the trained")
    parser.add_argument("--one", metavar="VARIANT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for variable in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, str(options.threads))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    paths = {name: Path(path) for name, _, path in (given.partition("=") for given in options.tokenizer)}
    if not paths:
        from tests.families import family_path

        paths = {family: family_path(family, full=True) for family in EXPECTED}
    panel = make_panel(options.workers)
    if options.one:
        one(options.one, *paths.values(), panel)
        return
    from token_peers import PEERS, version

    families = [measure(family, path, panel, rounds=options.rounds) for family, path in paths.items()]
    record = {
        "workers": options.workers,
        "rounds": options.rounds,
        "threads": options.threads,
        **circumstances(),
        "versions": {peer: version(peer) for peer in PEERS},
        "families": families,
    }
    show(record)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if found := wrong(families):
        sys.exit("; ".join(found))


if __name__ == "__main__":
    main()
