"""A world whose law is known: how near do the tuned counts and a tiny language model from scratch come to the optimum?

J = 50, 20,000 workers x 16 years (`markov-50`). The optimum is the perplexity of the true law on the same test rows.

    python benches/bench_markov_world.py [--workers 20000] [--epochs 3]

writes benches/results/markov_world.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from laborllm.models.counts import Laplace, Markov
from laborllm.models.language import LanguageModel
from laborllm.panel import Panel
from laborllm.resume import Template
from laborllm.synth import World
from laborllm.train import TrainingOptions, make_base

RESULT = Path(__file__).parent / "results" / "markov_world.json"
TEMPLATE = Template(name="world", version=1, header="", row="{year}: {title}\n", end="<END OF DATA>", missing={})


def compare(*, workers: int, epochs: int) -> dict[str, Any]:
    """Fit on 70 % of the workers, choose on 10 %, and give each model's perplexity on 20 % over the optimum."""
    world = World.named("markov-50")
    panel = Panel.from_arrow(world.simulate(workers, 16), occupations=world.occupations, dataset="WORLD")
    panel = panel.with_split({"train": 0.7, "val": 0.1, "test": 0.2})
    train, val, test = (panel.part(name) for name in ("train", "val", "test"))
    true = world.optimum(test).log_p
    log_p = {model.kind: model.fit(train, val).predict(test).log_p for model in (Laplace(), Markov())}
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        make_base([train], f"{folder}/base", template=TEMPLATE)
        options = TrainingOptions(epochs=epochs, learning_rate=3e-3)
        tiny = LanguageModel(f"{folder}/base", options=options, lora_rank=None, template=TEMPLATE)
        log_p["tiny language model, raw"] = tiny.fit(train, val).predict(test).log_p
    return {
        "world": "markov-50",
        "workers": workers,
        "epochs": epochs,
        "test_transitions": len(true),
        "test_workers": test.num_workers,
        "optimum_perplexity": float(np.exp(-true.mean())),
        "ratio_to_optimum": {name: float(np.exp(true.mean() - values.mean())) for name, values in log_p.items()},
        "weights": tiny.scorer.model.num_parameters(),
        "seconds": round(time.perf_counter() - begin),
    }


def main() -> None:
    """Print and write the ratios to the optimum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    facts = compare(workers=arguments.workers, epochs=arguments.epochs)
    facts |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip(),
    }
    RESULT.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"optimum {facts['optimum_perplexity']:.3f} on {facts['test_transitions']} test transitions")
    for name, ratio in facts["ratio_to_optimum"].items():
        print(f"{name:26s} {ratio * facts['optimum_perplexity']:7.3f}  {ratio:.4f} x optimum")


if __name__ == "__main__":
    main()
