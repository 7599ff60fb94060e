"""What settings leave to the machine: found out when a run begins, kept when it goes on."""

from dataclasses import dataclass, replace

from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokens import TokenPairs
from seq2seq.model.transformer import Transformer
from seq2seq.training.folder import RunFolder
from seq2seq.training.memory import measured
from seq2seq.training.options import Precision, TrainerOptions
from seq2seq.training.processes import Processes
from seq2seq.training.products import choose_library, choose_precision, dtype_of

_ACCUMULATE, _LIBRARY, _PRECISION = "batches an update", "products by", "products in"


@dataclass(frozen=True)
class Settled:
    batch: BatchConfig
    precision: Precision
    identity: dict[str, str]
    """What the run folder keeps of it."""


def settle(
    batch: BatchConfig,
    passes: int,
    options: TrainerOptions,
    model: Transformer,
    pairs: TokenPairs,
    folder: RunFolder,
    anew: bool,
    processes: Processes,
) -> Settled:
    """The same for all processes; what multiplies is put in place in each.

    Args:
        passes: of each pair through the model in one step.
        anew: what the folder keeps is of a run that is begun anew.
    """

    def update() -> BatchConfig:
        if batch.max_tokens != "auto":
            return batch
        if (before := folder.chosen(_ACCUMULATE, anew)) is not None:
            return replace(batch, max_tokens=-(-batch.per_update // int(before)), accumulate=int(before))
        return measured(batch, model, pairs, options.on_cpu, passes, processes, options.sharded)

    precision = options.precision
    if precision == "auto":
        precision = processes.agreed(lambda: choose_precision(options.on_cpu, folder.chosen(_PRECISION, anew)))
    size = processes.agreed(update)
    dtype = dtype_of(precision)
    library = processes.agreed(lambda: choose_library(dtype, folder.chosen(_LIBRARY, anew)))
    choose_library(dtype, library)
    kept = {_LIBRARY: library, _PRECISION: precision}
    return Settled(size, precision, {**kept, _ACCUMULATE: str(size.accumulate)} if batch.max_tokens == "auto" else kept)
