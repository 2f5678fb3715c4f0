"""The law over titles on a CPU: rows, time, memory and equality, beside lm-evaluation-harness and Hugging Face loops.

    python benches/bench_score.py [--cases law masked ...] [--rounds 3] [--share 4] [--years 10] [--workers 30]
        [--shape tiny]

    law       one worker's whole law (333 titles of occ1990dd, 10 years, Llama of hidden 512, random weights) against
              lm-evaluation-harness, padded texts, a cache per prompt, and a cache per career with titles sorted
    masked    the whole masked law against the whole raw law
    observed  what happened in careers of NLSY97, against a text per transition and a padded pass per career
    batch     the same workers alone, together, reordered, under other budgets
    memory    growth of peak memory for 41,000 rows of trie nodes, at V = 32,000 and at V = 128,256
    exact     tree against naive in three types, and both against float64
    rows      rows forwarded, and those of every history and title alone

Variants of a case are interleaved; ratios are medians over rounds of a variant's time over laborllm's in the same
round. The peers that run every (history, title) as a text take `1 / share` of the requests a call, each call others,
evenly over their lengths; their times are multiplied by `share`, and with three rounds and a share of 4 (the first
call is cold and not timed) each request has run once. Peers try several sizes of batch first and take the fastest.
Outputs of all variants are compared. Results go to benches/results/score.json, case by case: those that were not run
stay as they were. Marks are those of the issue.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from measured import circumstances

RESULTS = Path(__file__).parent / "results" / "score.json"
CASES = ("law", "masked", "observed", "batch", "memory", "exact", "rows")
TIMED = ("law", "masked", "observed")
PACKAGES = ("laborllm", "torch", "transformers", "numpy", "lm_eval")
FACTS = ("trunk", "nodes", "alone", "alone_over_ours", "batch", "budget", "work", "tokens", "requests_checked")
FACTS += ("largest_difference", "gaps", "runs")


def cases(options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    """Each case, ready to run."""
    import score_cases
    import score_checks
    import score_worlds

    shape = score_worlds.SHAPES[options.shape]
    if options.years:
        shape = replace(shape, years=options.years)
    if options.workers is not None:
        shape = replace(shape, survey_workers=options.workers)
    return {
        "law": lambda: score_cases.law(shape, rounds=options.rounds, share=options.share),
        "masked": lambda: score_cases.masked(shape, rounds=options.rounds),
        "observed": lambda: score_cases.observed(shape, rounds=options.rounds),
        "batch": lambda: score_checks.batch(shape),
        "memory": lambda: score_checks.memory(options.shape),
        "exact": lambda: score_checks.exact(shape),
        "rows": lambda: score_checks.rows(shape),
    }


def show(record: dict[str, Any]) -> None:
    """Print one table."""
    print(f"\n{record['title']}")
    for key in FACTS:
        if key in record:
            print(f"  {key.replace('_', ' ')}: {_plain(record[key])}")
    for count in record.get("counts", []):
        print("  {years} years: {trunk} + {nodes} rows; alone {alone:,}, {ratio:.1f} times as many".format(**count))
    if "rows" in record:
        print(f"  {'variant':<36}{'s':>10}{'quartiles':>20}{'x laborllm':>12}")
        for name, row in record["rows"].items():
            spread = "{:.2f}..{:.2f}".format(*row["quartiles"])
            print(f"  {name:<36}{row['seconds']:>10.2f}{spread:>20}{row['over_laborllm']:>12.2f}")
    for mark in record["marks"]:
        bound = f"{'<=' if mark['most'] else '>='} {mark['passing']:g}, goal {mark['goal']:g}"
        verdict = "reaches the goal" if mark["reaches_goal"] else "passes" if mark["passes"] else "MISSES"
        print(f"  {mark['what']}: {mark['ratio']:.3g} ({bound}): {verdict}")
    print(f"  outputs: {'DIFFER, ' + '; '.join(record['wrong']) if record['wrong'] else 'agree'}", flush=True)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{key} ({_plain(v)})" if isinstance(v, dict) else f"{key} {_plain(v)}" for key, v in value.items()
        )
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def versions() -> dict[str, str | None]:
    """Of laborllm and the peers; None where one is not installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="three where a variant takes more than two seconds")
    parser.add_argument("--share", type=int, default=4, help="slices of the requests of peers that run all of them")
    parser.add_argument("--workers", type=int, help="of NLSY97, in `observed`")
    parser.add_argument("--years", type=int, help="of the career whose law is timed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shape", choices=("small", "tiny"), default="small")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("IDS", "VOCABULARY"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, print each table as it comes, write the JSON, fail where outputs differ."""
    options = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    if options.one:
        from score_checks import memory_of_one
        from score_worlds import SHAPES

        print(json.dumps(memory_of_one(SHAPES[options.shape], *options.one)))
        return
    warnings.simplefilter("ignore")
    saved = json.loads(options.output.read_text("utf-8")) if options.output.exists() else {}
    kept: dict[str, Any] = saved.get("cases", {})
    facts = {**circumstances(), "threads": options.threads, "shape": options.shape}
    print("score:", ", ".join(f"{key} {value}" for key, value in facts.items()), versions())
    ready, wrong = cases(options), []
    for case in options.cases:
        record = ready[case]()
        show(record)
        wrong += [f"{record['title']}: {what}" for what in record["wrong"]]
        timing = {"rounds": options.rounds} if case in TIMED else {}
        kept[case] = {**facts, **timing, "versions": versions(), "load": os.getloadavg(), "tables": [record]}
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(json.dumps({"cases": kept}, indent=1) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("outputs differ: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
