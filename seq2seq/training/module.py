"""Section 5 of the paper as a LightningModule: the loss, the optimizer, the schedule, and what validation measures."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from torch import Tensor

from seq2seq.data.batch import Batch
from seq2seq.errors import DivergedProblem
from seq2seq.evaluation import evaluate
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import PAD
from seq2seq.training.loss import projected_cross_entropy
from seq2seq.training.options import Optimizer
from seq2seq.training.schedule import Schedule
from seq2seq.translator import Translator


@dataclass(frozen=True)
class ValidationText:
    """What validation translates, and what it compares with."""

    sources: Sequence[str]
    references: Sequence[str]
    tokenize: str


@dataclass(frozen=True)
class Validation:
    """The result of one validation; losses in nats per target token."""

    step: int
    loss: float
    perplexity: float
    bleu: float
    chrf: float
    translations: Sequence[str]
    scores: tuple[str, ...]


class TranslationModule(lightning.LightningModule):
    """Trains a `Transformer`. It draws the same dropout at the same step of the same seed, wherever training started."""

    validation: Validation | None = None

    def __init__(
        self,
        model: Transformer,
        optimizer: Optimizer,
        schedule: Schedule,
        translator: Translator,
        text: ValidationText,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self._optimizer, self._schedule, self._seed = optimizer, schedule, seed
        self._translator, self._text = translator, text
        self._nll, self._tokens = 0.0, 0

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(self._seed * 1_000_003 + batch.number)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        loss, nll = self._losses(batch)
        return {"loss": loss / batch.normalizer, "nll": nll}

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Smoothed loss and plain negative log-likelihood, summed over the target tokens; padding is never projected."""
        features = self.model.features(batch.source, batch.target_input)
        real = batch.target_output != PAD
        return projected_cross_entropy(
            features[real], self.model.output.weight, batch.target_output[real], self._optimizer.label_smoothing
        )

    def configure_optimizers(self) -> Any:
        options = self._optimizer
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        kind = torch.optim.AdamW if options.kind == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=1.0, betas=options.betas, eps=options.epsilon, fused=True)
        d_model, max_steps = self.model.config.d_model, self.trainer.max_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: self._schedule(done + 1, d_model, max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self._optimizer.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._optimizer.clip_norm)

    def on_validation_epoch_start(self) -> None:
        self._nll, self._tokens = 0.0, 0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        _, nll = self._losses(batch)
        self._nll += float(nll)
        self._tokens += batch.target_tokens

    def on_validation_epoch_end(self) -> None:
        """Perplexity of the references, and BLEU and chrF of what beam search makes of the sources."""
        loss = self._nll / max(self._tokens, 1)
        check_finite(loss, self.global_step)
        translations = self._translator.translate(self._text.sources)
        bleu, chrf = evaluate(translations, self._text.references, ("bleu", "chrf"), self._text.tokenize)
        self.validation = Validation(
            self.global_step, loss, float(torch.tensor(loss).exp()), bleu.value, chrf.value, translations, (str(bleu), str(chrf))
        )
        self.log_dict({"validation_loss": loss, "bleu": bleu.value, "chrf": chrf.value})


def check_finite(loss: float, step: int) -> None:
    """Raises DivergedProblem if a loss is no number any more."""
    if not math.isfinite(loss):
        raise DivergedProblem(
            f"the loss is {loss} at step {step}: training has diverged",
            "lower schedule.learning_rate, warm up longer or set optimizer.clip_norm, and begin anew with resume=restart",
        )


def parameter_tensors(module: TranslationModule) -> Iterable[Tensor]:
    """The tensors that averages are taken over, each once."""
    return (p.data for p in module.model.parameters())
