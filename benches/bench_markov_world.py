"""A world whose law is known: how near do the tuned counts and a tiny language model from scratch come to the optimum?

J = 50, 20,000 workers x 16 years (`markov-50`). The optimum is the perplexity of the true law on the same test rows.
Run: python benches/bench_markov_world.py [--workers 20000] [--epochs 3]; writes benches/results/markov_world.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from laborllm.models.counts import Laplace, Markov
from laborllm.models.language import LanguageModel
from laborllm.panel import Panel
from laborllm.resume import Template
from laborllm.synth import MarkovWorld
from laborllm.train import TrainingOptions, make_base

RESULT = Path(__file__).parent / "results" / "markov_world.json"


def main() -> None:
    """Fit the models, print and write their ratios to the optimum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    world = MarkovWorld.named("markov-50")
    panel = Panel.from_arrow(world.simulate(arguments.workers, 16), occupations=world.occupations, dataset="WORLD")
    panel = panel.with_split({"train": 0.7, "val": 0.1, "test": 0.2})
    train, val, test = (panel.part(name) for name in ("train", "val", "test"))
    transitions = test.transitions()
    true = world.log_p(transitions.previous, transitions.occupation)
    optimum = float(np.exp(-true.mean()))

    nll = {"optimum": -true}
    for model in (Laplace(), Markov()):
        nll[model.kind] = -model.fit(train, val).predict(test).log_p
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        row = "{year}: {title}\n"
        template = Template(name="world", version=1, header="", row=row, end="<END OF DATA>", missing={})
        make_base([train], f"{folder}/base", template=template)
        options = TrainingOptions(epochs=arguments.epochs, learning_rate=3e-3)
        tiny = LanguageModel(f"{folder}/base", options=options, lora_rank=None, template=template)
        nll["tiny language model, raw"] = -tiny.fit(train, val).predict(test).log_p
    seconds = time.perf_counter() - begin

    ratios = {name: float(np.exp(values.mean())) / optimum for name, values in nll.items()}
    facts = {
        "world": "markov-50",
        "workers": arguments.workers,
        "test_transitions": len(true),
        "optimum_perplexity": optimum,
        "ratio_to_optimum": ratios,
        "language_model": {
            "epochs": arguments.epochs,
            "weights": sum(p.numel() for p in tiny.scorer.model.parameters()),
            "seconds": round(seconds),
            "threads": torch.get_num_threads(),
        },
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "date": date.today().isoformat(),
        "commit": subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip(),
    }
    RESULT.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"optimum {optimum:.3f} on {len(true)} test transitions of {test.num_workers} workers")
    for name, ratio in ratios.items():
        print(f"{name:28s} {ratio * optimum:8.3f}  x optimum {ratio:.4f}")


if __name__ == "__main__":
    main()
