"""Fine-tuning a causal language model on resumes."""

from laborllm.train.base import SIZES, fingerprint, load_base, make_base
from laborllm.train.loop import Epoch, TrainingOptions, train
from laborllm.train.schedule import Schedule

__all__ = ["SIZES", "Epoch", "Schedule", "TrainingOptions", "fingerprint", "load_base", "make_base", "train"]
