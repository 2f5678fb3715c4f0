"""Career worlds of known law, with their exact optimum: what any model can be held against."""

from __future__ import annotations

from laborllm.synth.bayes import Optimum
from laborllm.synth.world import World

__all__ = ["Optimum", "World"]
