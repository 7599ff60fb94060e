"""Section 5 of the paper as a LightningModule: the loss, the optimizer, the schedule, and what validation measures."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
import torch
from torch import Tensor

from seq2seq.data.batch import Batch
from seq2seq.errors import MachineProblem, is_out_of_memory
from seq2seq.evaluation import evaluate
from seq2seq.inference.workers import keep_memory
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import PAD
from seq2seq.training.loss import projected_cross_entropy
from seq2seq.training.muon import Muon
from seq2seq.training.norms import quicken_norms
from seq2seq.training.options import Optimizer, TrainerOptions
from seq2seq.training.processes import ALONE, Processes
from seq2seq.training.products import dtype_of, quicken
from seq2seq.training.schedule import Schedule
from seq2seq.training.sharding import full, like, reset, shard
from seq2seq.translator import Translator


@dataclass(frozen=True)
class ValidationText:
    """What validation translates of one direction, by what, and what it compares with."""

    sources: Sequence[str]
    references: Sequence[str]
    tokenize: str
    translator: Translator


@dataclass(frozen=True)
class Validation:
    """The result of one validation; losses in nats per target token. Scores are means over directions."""

    step: int
    loss: float
    perplexity: float
    bleu: float
    chrf: float
    translations: Sequence[str]
    scores: tuple[str, ...]
    """Each with its direction, if there are several, and its signature."""
    bleu_of_each: Mapping[str, float]
    """Direction -> BLEU."""


class Diverging(Exception):
    """Too many steps in a row gave no number: the run must go back to `last_good` or before."""

    def __init__(self, last_good: int, what: str) -> None:
        super().__init__(what)
        self.last_good = last_good


SKIPS_ALLOWED, SKIPS_WINDOW = 5, 100
"""So many skipped steps among so many are a divergence."""


class TranslationModule(lightning.LightningModule):
    """Trains a `Transformer`, one update of its weights a step.

    The optimization is "manual" in Lightning's words: an update may be several batches, a batch may have to be halved where memory
    is short, and a step whose gradient is no number must not be taken. Dropout at a step depends on the seed and the step
    alone, wherever training started.

    Attributes:
        step: updates done.
        validated: the step of the last validation.
        rate_scale: the schedule's rates are multiplied by it; halved each time the run had to go back.
        skipped: steps whose gradient was no number; their weights stayed as they were.
    """

    validation: Validation | None = None

    def __init__(
        self,
        model: Transformer,
        optimizer: Optimizer,
        schedule: Schedule,
        max_steps: int,
        texts: Sequence[ValidationText],
        seed: int,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self._optimizer, self._schedule, self._max_steps, self._seed = optimizer, schedule, max_steps, seed
        self._texts, self._processes = texts, processes
        self._nll, self._tokens = 0.0, 0
        self._products, self._joined = torch.float32, False
        self._compiling = False
        self._apart: list[Transformer] = []  # where torch does not take it for a part of this module
        self._adam: torch.optim.Optimizer | None = None
        self._moments: list[dict[str, Tensor]] = []
        self.step = self.validated = 0
        self.rate_scale = 1.0
        self.skipped: list[int] = []

    def prepare(self, options: TrainerOptions) -> None:
        """To be called once, before training: what speeds it up is put into the model, or the model is compiled; and cut into pieces, if it is to
        be."""
        self._products, self._joined, self._compiling = dtype_of(options.precision), options.by_kernels, options.compiles
        if options.on_cpu:
            keep_memory()
        if options.sharded and self._processes.count > 1:
            self._apart = [self.model.eval()]
            self.model = deepcopy(self.model).train()
        if options.by_kernels:
            quicken(self.model, self._products)
            quicken_norms(self.model, self._products)
        if options.compiles:
            for layer in (*self.model.encoder.layers, *self.model.decoder.layers):
                layer.compile(dynamic=True)
        if self._apart:
            shard(self.model, self._processes, self._products, options.on_cpu)

    @property
    def validated_model(self) -> Transformer:
        """What is validated and kept: the model that is trained, or where processes have pieces of it one put together of them for each
        validation."""
        return self._apart[0] if self._apart else self.model

    def training_step(self, update: Sequence[Batch], batch_idx: int) -> dict[str, Any]:
        with self._in_step():
            return self._updated(update)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Of a model in pieces: all processes work on each layer together, so that one may find anywhere that another is gone."""
        if not self._apart:
            yield
            return
        try:
            with self._processes.others_there(alone=True):
                yield
        except BaseException:
            reset(self.model)
            raise

    def _updated(self, update: Sequence[Batch]) -> dict[str, Any]:
        optimizer: Any = self.optimizers()
        tokens = [sum(batch.source_tokens for batch in update), sum(batch.target_tokens for batch in update)]
        source_tokens, target_tokens = self._processes.sum(*tokens)
        part = self._gradients(update, target_tokens)
        if self._compiling:
            self._processes.wait()  # who has nothing in a cache takes longer than a process in training may
            self._compiling = False
        if not self._apart:
            self._processes.sum_gradients(list(self.model.parameters()))
        length = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._optimizer.clip_norm or math.inf)
        found = torch.stack((full(length).double(), part))
        norm, nll = found.tolist()  # the one place where a step of one process waits for a GPU
        (nll,) = self._processes.sum(nll)
        taken = math.isfinite(norm) and math.isfinite(nll)
        rate = self.rate_scale * self._schedule(self.step + 1, self.model.config.d_model, self._max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if taken:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if not taken:
            self._skip()
            nll = source_tokens = target_tokens = 0
        return {"nll": nll, "source_tokens": source_tokens, "target_tokens": target_tokens}

    def _gradients(self, batches: Sequence[Batch], tokens: float) -> Tensor:
        """Of the loss over all target tokens of these batches divided by `tokens`, those of the whole update, so that each of them weighs the
        same; returns the summed negative log-likelihood. Where memory is short the batches are halved: other operations, the same gradient.

        Raises:
            MachineProblem: memory does not suffice for one pair, or where the model is in pieces, for the batches as they are.
        """
        loss = part = None
        while True:
            torch.manual_seed(((self._processes.rank << 48) + self._seed * 1_000_003 + self.step) % 2**63)
            try:
                nll = torch.zeros((), dtype=torch.float64, device=self.device)
                for batch in batches:
                    loss, part = self._losses(batch)
                    self.manual_backward(loss / tokens)
                    nll += part
                return nll
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._apart:
                    raise MachineProblem(
                        f"memory does not suffice at step {self.step + 1}, and of a model in pieces all must halve a batch or none",
                        "a smaller batch.max_tokens with more batch.accumulate, or more processes",
                    ) from None
                if all(len(batch) == 1 for batch in batches):
                    raise MachineProblem(
                        f"memory does not suffice for one pair of sentences at step {self.step + 1}",
                        "a smaller model or model.max_length, or a machine with more memory",
                    ) from None
            # Here, outside of the handler, the tensors that its traceback held are gone.
            loss = part = None
            self.model.zero_grad(set_to_none=True)
            batches = [half for batch in batches for half in batch.halves()]

    def _skip(self) -> None:
        self.skipped.append(self.step)
        recent = [step for step in self.skipped if step > self.step - SKIPS_WINDOW]
        if len(recent) >= SKIPS_ALLOWED:
            raise Diverging(
                recent[0] - 1, f"{len(recent)} of the last {SKIPS_WINDOW} steps gave a loss or gradient that is no number"
            )

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss and the plain negative log-likelihood, summed over the target tokens; padding is never projected."""
        r_drop = self._optimizer.r_drop if self.training else 0.0
        ids, outputs = (batch.source, batch.target_input), batch.target_output.flatten()
        real = (outputs != PAD).nonzero_static(size=batch.target_tokens).squeeze(1)  # which asks the device nothing
        targets = outputs[real]
        if r_drop:
            real, ids = torch.cat((real, real + len(outputs))), (batch.source.repeat(2, 1), batch.target_input.repeat(2, 1))
        model = self.model if self.training else self.validated_model
        features = model.joined_features(*ids) if self._joined else model.features(*ids).flatten(0, 1).index_select(0, real)
        smoothing = self._optimizer.label_smoothing
        return projected_cross_entropy(features, model.output.weight, targets, smoothing, r_drop, self._products)

    def configure_optimizers(self) -> Any:
        options = self._optimizer
        matrices, vectors = ([p for p in self.model.parameters() if (p.dim() > 1) == of_two] for of_two in (True, False))
        stacks = (self.model.encoder, self.model.decoder) if options.kind == "muon" else ()
        inner = {id(p) for stack in stacks for p in stack.parameters()}
        groups = [
            {"params": [p for p in matrices if id(p) in inner], "weight_decay": options.weight_decay, "orthogonal": True},
            {"params": [p for p in matrices if id(p) not in inner], "weight_decay": options.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        kind = kinds.get(options.kind) or partial(Muon, dtype=self._products)
        self._adam = kind(groups, lr=0.0, betas=options.betas, eps=options.epsilon, fused=True)
        if self._moments:
            weights = [weight for group in groups for weight in group["params"]]  # type: ignore[attr-defined]
            moments = [
                {name: like(moment, weight) if moment.shape == weight.shape else moment for name, moment in of_one.items()}
                for of_one, weight in zip(self._moments, weights, strict=True)
            ]
            self._adam.load_state_dict({**self._adam.state_dict(), "state": dict(enumerate(moments))})
            self._moments = []
        return self._adam

    def state(self) -> dict[str, Any]:
        """Weights, moments of the optimizer and counts: what `restore` goes on from."""
        moments = self._adam.state_dict()["state"] if self._adam else dict(enumerate(self._moments))
        return {
            "weights": {name: weight.detach() for name, weight in self.model.named_parameters()},
            "moments": [moments[i] for i in sorted(moments)],
            "step": self.step,
            "validated": self.validated,
            "rate_scale": self.rate_scale,
            "skipped": self.skipped,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """To be called before training; the optimizer that is then made begins where the old one stood."""
        self.take(state["weights"])
        self._adam, self._moments = None, list(state["moments"])
        self.step, self.validated = int(state["step"]), int(state["validated"])
        self.rate_scale, self.skipped = float(state["rate_scale"]), [int(step) for step in state["skipped"]]

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """In the place of the model's own."""
        for name, weight in self.model.named_parameters():
            weight.data.copy_(like(weights[name], weight.data))

    def on_validation_epoch_start(self) -> None:
        for model in self._apart:
            with self._processes.others_there():
                model.to(self.device)
                for weight, in_pieces in zip(model.parameters(), self.model.parameters(), strict=True):
                    weight.data.copy_(full(in_pieces.detach()))
        self._nll, self._tokens = 0.0, 0

    def validation_step(self, batches: Sequence[Batch], batch_idx: int) -> None:
        for batch in batches:
            _, nll = self._losses(batch)
            self._nll += float(nll)
            self._tokens += batch.target_tokens

    def on_validation_epoch_end(self) -> None:
        """Perplexity of the references, and BLEU and chrF of what beam search makes of the sources."""
        nll, tokens = self._processes.sum(self._nll, self._tokens)
        loss = nll / max(tokens, 1)
        if not math.isfinite(loss):
            raise Diverging(self.step - 1, f"the validation loss is {loss} at step {self.step}")
        translations, scores = [], []
        for text in self._texts:
            of_text = self._processes.gathered(text.translator.translate(self._processes.share(text.sources)))
            translations += of_text
            scores.append(evaluate(of_text, text.references, ("bleu", "chrf"), text.tokenize))
        bleu, chrf = (math.fsum(score.value for score in of_metric) / len(scores) for of_metric in zip(*scores, strict=True))
        self.validated = self.step
        for model in self._apart:
            model.cpu()  # a device has room for it, but not while it trains
        names = [f"{config.source} to {config.target}" for config in (text.translator.bundle.config for text in self._texts)]
        self.validation = Validation(
            self.step,
            loss,
            float(torch.tensor(loss).exp()),
            bleu,
            chrf,
            translations,
            tuple(
                f"{name}: {score}" if len(names) > 1 else str(score)
                for name, of_text in zip(names, scores, strict=True)
                for score in of_text
            ),
            {name: of_text[0].value for name, of_text in zip(names, scores, strict=True)},
        )


def parameter_tensors(module: TranslationModule) -> Iterable[Tensor]:
    """The tensors that averages are taken over, each once."""
    return (p.data for p in module.model.parameters())
