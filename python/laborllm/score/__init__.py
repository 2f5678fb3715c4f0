"""The law over titles, read from a language model's token probabilities."""

from laborllm.score.methods import MethodName
from laborllm.score.passes import batches
from laborllm.score.scorer import LAWS, Law, TitleScorer

__all__ = ["LAWS", "Law", "MethodName", "TitleScorer", "batches"]
