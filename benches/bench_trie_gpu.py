"""The title trie on a CUDA device: DeviceTrie beside STATIC's formulation, no wait for the host.

    python benches/bench_trie_gpu.py [--set 100000] [--rows 1024] [--rounds 9] [--ids FILE.npz]
    python benches/bench_trie_gpu.py --write FILE.npz   # where ../shared/data and the tokenizers are; needs no device
    python benches/bench_trie_gpu.py --check            # on the CPU, both give the same tokens; nothing is timed

Greedy decoding of whole titles for B * beams rows at once over the same random logits (B, V), V = 128,256: all steps of
the longest title, every row from the root. STATIC (arXiv 2602.22647) is written from its paper: rows of a CSR matrix
over (token, next node) pairs, each level padded to its widest fan-out, the first token by a dense mask over the
vocabulary and a dense table of nodes (a second dense level would hold V * V entries: 82 GB), titles padded to one
length. Each is measured over the padded candidates alone and with the masked (B, V) scores written, by CUDA events,
eagerly and as one CUDA graph; variants are interleaved. A profiler trace of the eager decoding is searched for
synchronisations and copies to the host, and `set_sync_debug_mode("error")` is on while graphs are captured.
Results go to benches/results/trie_gpu.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measured import circumstances
from trie_peers import packed_sort_csr

RESULTS = Path(__file__).parent / "results" / "trie_gpu.json"
FAMILY = "llama-3"
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")


class Static:
    """STATIC's index and its step, in torch.

    Args:
        flat, offsets: Token ids of all titles and where each begins.
        stop: The token that pads titles to the length of the longest.
        vocabulary: Columns of the scores.
        device: Where to.
    """

    def __init__(self, flat: np.ndarray, offsets: np.ndarray, *, stop: int, vocabulary: int, device: str) -> None:
        import torch

        lengths = np.diff(offsets)
        self.length = int(lengths.max())
        padded = np.full((len(lengths), self.length), stop, np.uint32)
        padded[np.arange(self.length) < lengths[:, None]] = flat
        csr = packed_sort_csr(padded.ravel(), np.arange(len(lengths) + 1) * self.length)
        first = csr.first.astype(np.int64)
        self.widths, begin, end = [], 0, 1
        for _ in range(self.length):
            self.widths.append(int(np.diff(first[begin : end + 1]).max()))
            begin, end = end, int(first[end]) + 1
        pairs = np.stack([csr.labels.astype(np.int32), np.arange(1, len(csr.labels) + 1, dtype=np.int32)], axis=1)
        self.pairs = torch.from_numpy(np.pad(pairs, [(0, max(self.widths)), (0, 0)])).to(device)  # (edges + K, 2)
        self.rows = torch.from_numpy(csr.first.astype(np.int32)).to(device)  # (nodes + 1,)
        begins = torch.from_numpy(csr.labels[: first[1]].astype(np.int64)).to(device)
        self.mask = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.mask[begins] = True
        self.next = torch.zeros(vocabulary, dtype=torch.int64, device=device)
        self.next[begins] = torch.arange(1, len(begins) + 1, device=device)
        self.ramps = [torch.arange(width, device=device) for width in self.widths]
        self.nbytes = sum(tensor.nbytes for tensor in (self.pairs, self.rows, self.mask, self.next))

    def decode(self, scores: Any, *, write: bool) -> Any:
        """The tokens of every row, int64 (B, L)."""
        import torch

        masked = torch.where(self.mask, scores, -torch.inf)
        chosen = masked.argmax(dim=1)
        states, tokens = self.next[chosen], [chosen]
        for ramp in self.ramps[1:]:
            begin = self.rows[states]
            count = self.rows[states + 1] - begin
            slices = self.pairs[begin[:, None] + ramp]  # (B, K, 2)
            labels, following = slices[..., 0].long(), slices[..., 1]
            found = torch.where(ramp < count[:, None], scores.gather(1, labels), -torch.inf)
            if write:  # padding is written to a column of its own
                columns = torch.where(ramp < count[:, None], labels, scores.shape[1])
                wide = torch.full((len(scores), scores.shape[1] + 1), -torch.inf, device=scores.device)
                wide.scatter_(1, columns, found)
                chosen = wide[:, :-1].argmax(dim=1, keepdim=True)
                best = (labels == chosen).int().argmax(dim=1, keepdim=True)
            else:
                best = found.argmax(dim=1, keepdim=True)
            tokens.append(labels.gather(1, best).squeeze(1))
            states = following.gather(1, best).squeeze(1).long()
        return torch.stack(tokens, dim=1)


def decode(trie: Any, scores: Any, *, length: int, stop: int, write: bool) -> Any:
    """The same with a DeviceTrie: candidates or masked scores, then one step."""
    import torch

    states, tokens = trie.start(len(scores)), []
    for depth in range(length):
        if write:
            chosen = trie.masked(scores, states, depth=depth, stop=stop).argmax(dim=1)
        else:
            labels, valid = trie.candidates(states, depth)
            found = torch.where(valid, scores.gather(1, labels), -torch.inf)
            chosen = labels.gather(1, found.argmax(dim=1, keepdim=True)).squeeze(1)
            chosen = torch.where(valid[:, 0], chosen, stop)
        tokens.append(chosen)
        states = trie.step(states, chosen)
    return torch.stack(tokens, dim=1)


def variants(ids: dict[str, Any], *, rows: int, device: str) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """What is timed, and facts about it."""
    import torch

    from laborllm.generate import DeviceTrie
    from laborllm.trie import TitleTrie

    flat, offsets, vocabulary = ids["flat"], ids["offsets"], int(ids["vocabulary"])
    stop = vocabulary - 1
    lists = [flat[a:b].tolist() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    trie = DeviceTrie(TitleTrie(lists), device)
    static = Static(flat, offsets, stop=stop, vocabulary=vocabulary, device=device)
    torch.manual_seed(0)
    scores = torch.randn(rows, vocabulary, device=device)
    length = static.length
    made = {
        "laborllm, candidates": lambda: decode(trie, scores, length=length, stop=stop, write=False),
        "STATIC, candidates": lambda: static.decode(scores, write=False),
        "laborllm, (B, V) written": lambda: decode(trie, scores, length=length, stop=stop, write=True),
        "STATIC, (B, V) written": lambda: static.decode(scores, write=True),
    }
    facts = {
        "titles": len(lists),
        "vocabulary": vocabulary,
        "rows": rows,
        "steps": length,
        "widths": static.widths,
        "laborllm_mb": trie.nbytes / 1e6,
        "static_mb": static.nbytes / 1e6,
    }
    return made, facts


def different(made: dict[str, Callable[[], Any]]) -> list[str]:
    """Variants whose tokens are not those of the first."""
    results = {name: run().cpu() for name, run in made.items()}
    want = next(iter(results.values()))
    return [name for name, tokens in results.items() if not bool((tokens == want).all())]


def waits(run: Callable[[], Any]) -> list[str]:
    """Names in a profiler trace that say that the host was waited for or written to."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as trace:
        run()  # the profiler itself synchronises the device when it stops, with cudaDeviceSynchronize
    counts: dict[str, int] = {}
    for event in trace.events():
        if any(word in event.name for word in WAITS):
            counts[event.name] = counts.get(event.name, 0) + 1
    if counts.get("cudaDeviceSynchronize") == 1:
        del counts["cudaDeviceSynchronize"]
    return [f"{name} x {count}" for name, count in counts.items()]


def captured(run: Callable[[], Any]) -> Any:
    """The variant as a CUDA graph; a wait for the host would be an error."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return graph


def measure(made: dict[str, Callable[[], Any]], *, rounds: int, steps: int) -> dict[str, Any]:
    """Microseconds a step, eager and as a graph, and what waited."""
    import torch

    rows: dict[str, Any] = {name: {"waits": waits(run)} for name, run in made.items()}
    timed = dict(made)
    for name, run in made.items():
        try:
            graph = captured(run)
        except RuntimeError as error:
            rows[name]["no graph"] = " ".join(str(error).split())[:160]
        else:
            timed[f"{name}, graph"] = graph.replay
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            run()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(5):
                run()
            end.record()
            torch.cuda.synchronize()
            found[name].append(begin.elapsed_time(end) * 1e3 / 5 / steps)
    for name, row in found.items():
        peer = found.get(name.replace("laborllm", "STATIC"), row)
        rows.setdefault(name, {})
        rows[name] |= {
            "us_a_step": statistics.median(row),
            "quartiles": [float(q) for q in np.quantile(row, [0.25, 0.75])],
            "static_over_this": statistics.median(theirs / ours for theirs, ours in zip(peer, row, strict=True)),
        }
    return rows


def main() -> None:
    """Measure, print, write the JSON; without CUDA say so and end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="100000")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ids", type=Path, help="token ids that --write wrote")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    import torch

    if not (torch.cuda.is_available() or options.write or options.check):
        print("trie on a device: not measured, torch finds no CUDA device")
        return
    if options.ids:
        ids = dict(np.load(options.ids))
    else:
        from trie_sets import title_set

        titles = title_set(options.set, FAMILY)
        ids = {"flat": titles.flat, "offsets": titles.offsets, "vocabulary": np.array(titles.vocabulary)}
    if options.write:
        np.savez_compressed(options.write, **ids)
        return
    made, facts = variants(ids, rows=options.rows, device="cpu" if options.check else "cuda")
    wrong = different(made)
    if options.check:
        sys.exit(f"tokens differ: {wrong}" if wrong else None)
    rows = measure(made, rounds=options.rounds, steps=facts["steps"])
    record = {**circumstances(), "device": torch.cuda.get_device_name(), "torch": torch.__version__, **facts}
    print("trie on a device:", ", ".join(f"{key} {value}" for key, value in record.items()))
    print(f"{'variant':<36}{'us a step':>12}{'quartiles':>20}{'STATIC / it':>12}  waits")
    for name, row in rows.items():
        spread = "{:.1f}..{:.1f}".format(*row["quartiles"])
        print(f"{name:<36}{row['us_a_step']:>12.1f}{spread:>20}{row['static_over_this']:>12.2f}", end="  ")
        print(row.get("no graph") or "; ".join(row.get("waits", [])) or "none")
    print(f"tokens: {'DIFFER, ' + '; '.join(wrong) if wrong else 'equal'}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({**record, "rounds": options.rounds, "rows": rows}, indent=1) + "\n", encoding="utf-8"
    )
    if wrong:
        sys.exit(f"tokens differ: {wrong}")


if __name__ == "__main__":
    main()
