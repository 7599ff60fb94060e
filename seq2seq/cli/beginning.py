"""The lines before training: what it will work on, and what is odd about that."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seq2seq.data.sampler import BatchConfig
from seq2seq.errors import DataProblem
from seq2seq.training.schedule import Schedule, highest

if TYPE_CHECKING:
    from rich.console import Console

    from seq2seq.model.transformer import Transformer
    from seq2seq.training.data import TranslationData

_FEW = 1000
"""Pairs from which nobody should expect much."""
_HIGH = 0.002
"""A learning rate at which a model with DeepNet's scales may not learn to look at the source (recipes/README.md)."""


@dataclass(frozen=True)
class Beginning:
    """Remarks are what strict=true does not accept."""

    console: "Console"
    strict: bool

    def line(self, name: str, text: str, *remarks: str) -> None:
        from rich.markup import escape

        self.console.print(f"[dim]{name:<10}[/] {escape(text)}")
        if remarks and self.strict:
            raise DataProblem("; ".join(remarks), "mend that, or train without strict=true")
        for remark in remarks:
            self.console.print(f"{'':<10} [yellow]{escape(remark)}[/]")

    def batches(self, data: "TranslationData", batch: BatchConfig, max_length: int) -> None:
        source_padding, target_padding = data.plan.padding_share()
        left_out = [(split, count) for split, count in data.left_out.items() if count]
        of_epoch = data.plan.pairs_per_epoch
        weighted = f", by their weights about {of_epoch:,} an epoch," if of_epoch != len(data) else ""
        self.line(
            "batches",
            f"{len(data):,} pairs{weighted} in {data.plan.batches_per_epoch:,} batches an epoch of at most {batch.max_tokens:,} tokens, "
            f"{batch.accumulate} an update; padding {source_padding:.1%} of source, {target_padding:.1%} of target",
            *([f"only {len(data):,} pairs to learn from"] if len(data) < _FEW else ()),
            *(f"{split}: {count:,} pairs longer than {max_length} tokens left out" for split, count in left_out),
        )

    def model(self, model: "Transformer", precision: str, alone: bool, plain: bool) -> None:
        """
        Args:
            alone: it was to be in pieces, and nobody is there to share it with.
            plain: torch does on a CPU what kernels in C would do faster.
        """
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.line(
            "model",
            f"{model.config.layers}+{model.config.decoder.layers} layers, {parameters:,} parameters, products in {precision}"
            + (", without kernels in C" if plain else ""),
            *(["trainer.sharded=true, but one process has no one to share with"] if alone else ()),
        )

    def rate(self, schedule: Schedule, d_model: int, steps: int, norm_order: str) -> None:
        """What the learning rate rises to in a run of so many steps."""
        height = highest(schedule, d_model, steps)
        too_high = "with model.norm_order=deep such a rate may teach a model nothing: schedule.learning_rate=0.001"
        rising = f"it still rises when the run ends: schedule.warmup_steps below {steps:,}, or more trainer.max_steps"
        still_rises = steps > 1 and schedule(steps, d_model, steps) > schedule(steps - 1, d_model, steps)
        self.line(
            "rate",
            f"at most {height:.2g}",
            *([too_high] if norm_order == "deep" and height > _HIGH else ()),
            *([rising] if still_rises else ()),
        )
