"""A causal language model of the next occupation: a base, fine-tuned on resumes by LoRA or in all its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from laborllm.errors import MissingDependencyError, ModelError
from laborllm.files import output_directory
from laborllm.occupations import Occupations
from laborllm.panel import Panel
from laborllm.predictions import Predictions
from laborllm.resume import Template
from laborllm.tokens import load_tokenizer, tokenizer_hash
from laborllm.windows import training_windows

try:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from peft.tuners.lora import LoraLayer
    from safetensors import SafetensorError
    from transformers import AutoTokenizer
except ImportError as error:
    raise MissingDependencyError('language models need the train extra: pip install "laborllm[train]"') from error

from laborllm.score import Law, TitleScorer
from laborllm.train import Epoch, TrainingOptions, fingerprint, load_base, train
from laborllm.train.base import DTYPES
from laborllm.train.loop import label_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LanguageModel:
    """LABOR-LLM: next-token fine-tuning on resumes, P(title) from token probabilities.

    Args:
        base: A directory as hubs keep them, or a hub name, of any causal LM that transformers loads.
        options: How to train; `epochs=0` leaves the base as it is (off the shelf).
        lora_rank: Rank of the LoRA adapters on all linear layers; None trains all weights, as the paper did.
        template: Name, path or `Template` of the resume's text.
        dtype: `float32`, `bfloat16` or `float64` of the base's weights (adapters are float32 at least).
        name: What its predictions are called; by default the base's name.

    Source: arXiv 2406.17972. LoRA and its rank are ours; the published models were trained in all weights.
    """

    kind = "language"

    def __init__(
        self,
        base: str | Path,
        *,
        options: TrainingOptions | None = None,
        lora_rank: int | None = 16,
        template: str | Path | Template = "labor-llm",
        dtype: Literal["float32", "bfloat16", "float64"] = "float32",
        name: str | None = None,
    ) -> None:
        if lora_rank is not None and lora_rank < 1:
            raise ModelError(f"lora_rank={lora_rank} is no rank; give 1 or more, or None for all weights")
        if dtype not in DTYPES:
            raise ModelError(f"unknown dtype {dtype!r}; choose from {', '.join(DTYPES)}")
        self.base = str(Path(base).resolve() if Path(base).is_dir() else base)
        self.options = options or TrainingOptions()
        self.lora_rank = lora_rank
        self.template = template
        self.dtype = dtype
        self.name = name or Path(self.base).name
        self.history: list[Epoch] = []
        self._scorer: TitleScorer | None = None
        self._fingerprint = ""
        self._weights_hash = ""
        self._datasets: list[str] = []
        self._tokenizer_source = self.base
        self._scores_only = False

    @property
    def scorer(self) -> TitleScorer:
        """The scorer of the fitted model.

        Raises:
            ModelError: The model is not fitted.
        """
        if self._scorer is None:
            raise ModelError("the language model is not fitted; call fit or load first")
        return self._scorer

    @property
    def occupations(self) -> Occupations:
        """The J states."""
        return self.scorer.occupations

    @property
    def datasets(self) -> list[str]:
        """Tags of the surveys it was trained on."""
        return self._datasets

    @property
    def hash(self) -> str:
        """SHA-256 of what was trained: the adapters, or all weights."""
        return self._weights_hash

    @property
    def fingerprint(self) -> str:
        """What the base was: its commit on a hub, or a digest of its files."""
        return self._fingerprint

    @property
    def seed(self) -> int:
        """Seed of the adapters, the order of careers and dropout."""
        return self.options.seed

    def get_params(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("base", "options", "lora_rank", "template", "dtype", "name")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Replace some of the constructor's arguments."""
        unknown = params.keys() - self.get_params().keys()
        if unknown:
            raise ModelError(f"unknown parameters {sorted(unknown)}; known are {sorted(self.get_params())}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(
        self, train_panel: Panel, val: Panel, *, weighted: bool = False, progress: Callable[[int], None] | None = None
    ) -> Self:
        """Fine-tune on the target rows of `train_panel`, and keep the epoch that predicts those of `val` best.

        Args:
            train_panel: Rows to learn from; earlier rows of the same workers are shown but carry no label.
            val: Rows that choose the epoch: the lowest mean -log P(title) under the raw law.
            weighted: Weigh each row's tokens with the panel's `weight`.
            progress: Called with the number of careers done since the last call.
        """
        self._scores_only = False
        template = self.template if isinstance(self.template, Template) else Template.load(self.template)
        template = template if template.bound else template.bind(train_panel.table.column_names)
        train_panel.refuse_held_out_rows()
        torch.manual_seed(self.seed)
        model: Any = load_base(self.base, dtype=self.dtype)
        self._fingerprint = fingerprint(self.base)
        if self.lora_rank is not None:
            alpha = 2 * self.lora_rank
            adapters = LoraConfig(
                r=self.lora_rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            model = get_peft_model(model, adapters)
        self._adopt(model, train_panel.occupations, template)
        self._datasets = train_panel.datasets
        scorer = self.scorer
        row_weights = None
        if weighted:
            row_weights = np.zeros(train_panel.num_rows)
            row_weights[train_panel.targets] = train_panel.row_weights(np.flatnonzero(train_panel.targets))
        windows, tokens = training_windows(
            train_panel,
            scorer.encode(train_panel),
            lambda a, b: scorer.encode(train_panel, (a, b)),
            limit=scorer.window,
        )
        weights = label_weights(tokens, windows, train_panel.targets, row_weights, loss_on=self.options.loss_on)
        texts = scorer.texts(val)

        val_weights = val.row_weights(np.flatnonzero(val.targets)) if weighted else None

        def validate() -> float:
            return float(-np.average(scorer.log_p_observed(val, texts)[0][val.targets], weights=val_weights))

        self.history = train(model, tokens, weights, self.options, validate=validate, progress=progress)
        self._weights_hash = _weights_hash(model)
        return self

    def predict(
        self,
        panel: Panel,
        *,
        titles: Literal["observed", "all"] = "observed",
        law: Law = "raw",
        keep_law: bool = False,
        also: Sequence[str | int] = (),
        top: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Predictions:
        """Score the panel's target rows; see `TitleScorer.score`.

        Raises:
            ModelError: The model is not fitted, or the panel's occupations are not those it was fitted on.
        """
        scorer = self.scorer
        if panel.occupations.hash != scorer.occupations.hash:
            raise ModelError("the panel's occupations are not those of the model; read it with the model's list")
        return scorer.score(
            panel,
            titles=titles,
            law=law,
            model=self.name,
            keep_law=keep_law,
            also=also,
            top=top,
            progress=progress,
            model_hash=self._weights_hash,
            seed=self.seed,
        )

    def for_scoring(
        self, *, dtype: str | None = None, max_rows: int | None = None, sample: Panel | None = None
    ) -> float | None:
        """Make the model ready for scoring and nothing else, in place; a saved model is as it was.

        Adapters are merged layer by layer in float32 (float64 where the base has it), and cast once.

        Args:
            dtype: `float32`, `bfloat16` or `float64` of the weights; by default that of the base.
            max_rows: Rows of one forward pass.
            sample: Rows whose log-probabilities are compared before and after, where there are adapters.

        Returns:
            The largest difference in log P of what happened in `sample`, None where nothing was merged.
        """
        if dtype is not None and dtype not in DTYPES:
            raise ModelError(f"unknown dtype {dtype!r}; choose from {', '.join(DTYPES)}")
        old = self.scorer
        model: Any = old.model
        target = model.dtype if dtype is None else DTYPES[dtype]
        before = None
        if isinstance(model, PeftModel):
            if sample is not None:
                before = old.log_p_observed(sample, old.texts(sample))[0]
            model = merged(model, target)
        for weights in model.parameters():  # buffers stay: rotary frequencies are float32 in every model
            weights.data = weights.data.to(target)
        self._scorer = TitleScorer(
            model, old.tokenizer, occupations=old.occupations, template=old.template, max_rows=max_rows
        )
        self._scores_only = True
        if before is None or sample is None:
            return None
        after = self._scorer.log_p_observed(sample, self._scorer.texts(sample))[0]
        return float(np.abs(after - before)[sample.targets].max(initial=0.0))

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `laborllm.json`, the tokenizer, and either a plain peft `adapter` or all `weights` (safetensors)."""
        scorer = self._trained_scorer()
        facts = {
            "kind": self.kind,
            "version": version("laborllm"),
            "name": self.name,
            "base": self.base,
            "base_fingerprint": self._fingerprint,
            "lora_rank": self.lora_rank,
            "dtype": self.dtype,
            "options": asdict(self.options),
            "template": json.loads(scorer.template.to_json()),
            "template_hash": scorer.template.hash,
            "tokenizer_hash": tokenizer_hash(scorer.tokenizer),
            "occupations": json.loads(scorer.occupations.to_json()),
            "occupations_hash": scorer.occupations.hash,
            "weights_hash": self._weights_hash,
            "datasets": self._datasets,
            "history": [asdict(epoch) for epoch in self.history],
            "redistributable": False,
        }
        with output_directory(directory, overwrite=overwrite) as temporary:
            scorer.model.save_pretrained(temporary / ("weights" if self.lora_rank is None else "adapter"))
            self._save_tokenizer(temporary / "tokenizer")
            text = json.dumps(facts, indent=1, ensure_ascii=False).replace("NaN", "null")
            (temporary / "laborllm.json").write_text(text, encoding="utf-8")

    def export(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """Write the weights, adapters merged in, and the tokenizer as a base that others can start from."""
        model = self._trained_scorer().model
        with output_directory(directory, overwrite=overwrite) as temporary:
            (model if self.lora_rank is None else deepcopy(model).merge_and_unload()).save_pretrained(temporary)
            self._save_tokenizer(temporary)

    def _save_tokenizer(self, directory: Path) -> None:
        source = Path(self._tokenizer_source)
        AutoTokenizer.from_pretrained(str(source), local_files_only=source.is_dir()).save_pretrained(directory)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ModelError: The base is no longer the one that was fine-tuned, or the weights are not those that were saved.
        """
        home = Path(directory)
        try:
            return cls._load(home, json.loads((home / "laborllm.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ModelError(f"{home} is no whole language model directory ({reason}); train it anew") from error

    @classmethod
    def _load(cls, home: Path, facts: dict[str, Any]) -> Self:
        self = cls(
            facts["base"],
            options=TrainingOptions(**facts["options"]),
            lora_rank=facts["lora_rank"],
            dtype=facts["dtype"],
            name=facts["name"],
        )
        self.history = [
            Epoch(**{**epoch, "train_loss": epoch["train_loss"] or float("nan")}) for epoch in facts["history"]
        ]
        self._fingerprint, self._datasets = facts["base_fingerprint"], facts["datasets"]
        self._tokenizer_source = str(home / "tokenizer")
        model: Any
        if self.lora_rank is None:
            model = load_base(home / "weights", dtype=self.dtype)
        else:
            if "@" not in self._fingerprint and not Path(self.base).is_dir():
                raise ModelError(f"the base of {home}, {self.base}, is no longer there; move it back or train again")
            if not (home / "adapter" / "adapter_model.safetensors").is_file():
                raise ModelError(f"{home} holds no adapter (adapter/adapter_model.safetensors); restore or train again")
            if fingerprint(self.base) != self._fingerprint:
                raise ModelError(f"the base {self.base} has changed since {home} was trained on it; restore or retrain")
            model = PeftModel.from_pretrained(
                load_base(self.base, dtype=self.dtype), str(home / "adapter"), is_trainable=True
            )
        self._adopt(
            model,
            Occupations.from_json(json.dumps(facts["occupations"])),
            Template.from_json(json.dumps(facts["template"])),
        )
        self._weights_hash = _weights_hash(model)
        if self._weights_hash != facts["weights_hash"]:
            raise ModelError(
                f"the weights in {home} are not those that were saved; train again or restore the directory"
            )
        return self

    def _trained_scorer(self) -> TitleScorer:
        if self._scores_only:
            raise ModelError("the model was merged and cast for scoring; load its directory again to save or export it")
        return self.scorer

    def _adopt(self, model: Any, occupations: Occupations, template: Template) -> None:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = load_tokenizer(self._tokenizer_source)
        self.template = template
        self._scorer = TitleScorer(model, tokenizer, occupations=occupations, template=template)


def merged(model: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """The base with its adapters added, in `dtype`; each layer is widened, added to and cast once, in place."""
    for layer in [module for module in model.modules() if isinstance(module, LoraLayer)]:
        own: Any = layer
        base = own.get_base_layer()
        base.to(torch.promote_types(base.weight.dtype, torch.float32))
        own.merge()
        base.to(dtype)
    bare: Any = model
    whole: PreTrainedModel = bare.unload()
    return whole


def _weights_hash(model: PreTrainedModel) -> str:
    digest = sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
