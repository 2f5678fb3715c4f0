"""The fine-tuning loop: shuffled batches of whole careers, AdamW, the best epoch on the validation workers kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from laborllm.errors import ModelError
from laborllm.tokens import Tokens
from laborllm.train.loss import weighted_loss
from laborllm.train.schedule import Schedule
from laborllm.windows import Windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Loss = Literal["all", "titles"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        epochs: Passes over the training careers; the schedule is planned for all of them.
        learning_rate: Peak rate of AdamW.
        batch_size: Careers in an optimiser step (32, as recalled for the published models; unverified).
        loss_on: `all` tokens of the resume, as in the paper, or `titles` alone (title and newline).
        weight_decay, warmup, clip: AdamW's decay, the schedule's rise, the largest gradient norm.
        seed: Of the order of careers and of dropout.
    """

    epochs: int = 3
    learning_rate: float = 3e-4
    batch_size: int = 32
    loss_on: Loss = "all"
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers once."""
        for name, least in (("epochs", 0), ("learning_rate", 0), ("batch_size", 1), ("seed", 0)):
            if not getattr(self, name) >= least:
                raise ModelError(f"{name}={getattr(self, name)} is out of range; give {least} or more")


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean loss per labelled token, and the validation measure (lower is better)."""

    epoch: int
    train_loss: float
    val_nll: float


def train(
    model: PreTrainedModel,
    tokens: Tokens,
    weights: np.ndarray,
    options: TrainingOptions,
    *,
    validate: Callable[[], float],
    progress: Callable[[int], None] | None = None,
) -> list[Epoch]:
    """Train the parameters that require gradients, and leave the model at its best epoch.

    Args:
        model: Trained in place.
        tokens: The training texts.
        weights: float32, one per token of `tokens.ids`: see `label_weights`.
        options: How to train.
        validate: Measures the model on validation workers (mean -log P(title)); also called before the first step, so
            that an epoch that makes things worse is not kept.
        progress: Called with the number of texts done since the last call.

    Returns:
        One entry per epoch, beginning with epoch 0, the model as it came.

    Raises:
        ModelError: No token carries a label, or the loss is no longer finite.
    """
    if not weights.any():
        raise ModelError("no token carries a label, so there is nothing to learn; check the panel's split and weights")
    torch.manual_seed(options.seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(tokens) // options.batch_size)
    schedule = Schedule(total=steps, warmup=options.warmup)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.factor)
    history = [Epoch(0, float("nan"), validate())]
    best = _copy(parameters)
    for epoch in range(1, options.epochs + 1):
        model.train()
        total, labels = 0.0, 0.0
        for batch in _batches(tokens, options, epoch=epoch):
            ids, label_weights = _pad(tokens, weights, batch)
            ids, label_weights = ids.to(model.device), label_weights.to(model.device)
            loss = weighted_loss(model(input_ids=ids, use_cache=False).logits, ids, label_weights)
            count = label_weights[:, 1:].sum()
            (loss / count.clamp_min(1e-9)).backward()
            torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            total, labels = total + float(loss.detach()), labels + float(count)
            if progress:
                progress(len(batch))
        if not np.isfinite(total):
            raise ModelError(f"the loss of epoch {epoch} is {total}; lower the learning rate or train in float32")
        model.eval()
        history.append(Epoch(epoch, total / labels, validate()))
        if history[-1].val_nll <= min(entry.val_nll for entry in history):
            best = _copy(parameters)
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)
    model.eval()
    return history


def label_weights(
    tokens: Tokens, windows: Windows, targets: np.ndarray, row_weights: np.ndarray | None, *, loss_on: Loss
) -> np.ndarray:
    """Weight of each token as a label, float32, one per entry of `tokens.ids`.

    A token belongs to the row that it leads to: the header to the first row, the end marker to the last. Rows that
    are no targets, or that another window of the same career answers for, weigh nothing; the first token of a text
    has nothing before it and weighs nothing.
    """
    weights = np.zeros(len(tokens.ids), np.float32)
    for text in range(len(tokens)):
        begin = int(tokens.offsets[text])
        previous_stop = 1
        for row in range(int(windows.first[text]), int(windows.stop[text])):
            at = int(tokens.rows[text] + row - windows.first[text])
            stop = int(tokens.stops[at])
            if row >= windows.fresh[text] and targets[row]:
                first = int(tokens.starts[at]) if loss_on == "titles" else previous_stop
                weights[begin + first : begin + stop] = 1.0 if row_weights is None else row_weights[row]
            previous_stop = stop
        if loss_on == "all":
            weights[begin + previous_stop : int(tokens.offsets[text + 1])] = weights[begin + previous_stop - 1]
    return weights


def _batches(tokens: Tokens, options: TrainingOptions, *, epoch: int) -> Iterator[np.ndarray]:
    """Texts in an order that depends on seed and epoch; texts of similar length share a batch."""
    generator = np.random.default_rng([options.seed, epoch])
    order = generator.permutation(len(tokens))
    pool = 32 * options.batch_size
    batches: list[np.ndarray] = []
    for begin in range(0, len(order), pool):
        chunk = order[begin : begin + pool]
        chunk = chunk[np.argsort(tokens.lengths[chunk], kind="stable")]
        batches += [chunk[i : i + options.batch_size] for i in range(0, len(chunk), options.batch_size)]
    for position in generator.permutation(len(batches)):
        yield batches[position]


def _pad(tokens: Tokens, weights: np.ndarray, batch: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and label weights of the texts, (B, T) each, padded on the right with weight zero."""
    width = int(tokens.lengths[batch].max())
    ids, label_weights = np.zeros((len(batch), width), np.int64), np.zeros((len(batch), width), np.float32)
    for b, text in enumerate(batch):
        begin, end = tokens.offsets[text], tokens.offsets[text + 1]
        ids[b, : end - begin], label_weights[b, : end - begin] = tokens.ids[begin:end], weights[begin:end]
    return torch.from_numpy(ids), torch.from_numpy(label_weights)


def _copy(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]
