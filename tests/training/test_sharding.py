"""A model in pieces. That two processes with a piece each are one process, and go on bit for bit, is in `test_processes.py`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor

from seq2seq.data.batch import Batch
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import MachineProblem
from seq2seq.training.data import Updates
from seq2seq.training.options import Optimizer
from seq2seq.training.processes import Processes
from tests.training.small_run import EMA, Run
from tests.training.test_processes import OPTIONS, two

SHARDED = replace(OPTIONS, sharded=True)


def test_a_process_has_its_piece_and_no_more(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Of weights, gradients, moments and averages."""

    def train(processes: Processes) -> None:
        run = Run(tmp_path, tokenizer, SHARDED, EMA, optimizer=Optimizer("muon"), processes=processes)
        whole = sum(parameter.numel() for parameter in run.model.parameters())
        held: dict[str, int] = {}
        gradients = run.module._gradients

        def looked_at(update: Sequence[Batch], tokens: float) -> torch.Tensor:
            nll = gradients(update, tokens)
            weights = list(run.module.model.parameters())
            states = [run.module._adam.state[weight] for weight in weights]  # type: ignore[union-attr]
            pieces = {"weights": weights, "gradients": [weight.grad for weight in weights]}
            pieces |= {name: [state[name] for state in states if name in state] for name in ("exp_avg", "exp_avg_sq", "momentum")}
            held.update({name: sum(piece.to_local().numel() for piece in of_one) for name, of_one in pieces.items()})  # type: ignore[union-attr, operator]
            return nll

        run.module._gradients = looked_at  # type: ignore[method-assign]
        run.go()
        assert held["weights"] == held["gradients"] == held["exp_avg"] + held["momentum"]
        assert whole / 2 <= held["weights"] < 0.52 * whole
        assert not any(isinstance(parameter, DTensor) for parameter in run.model.parameters())

    assert two(train)[0] == [0, 0]


def test_a_process_without_pairs_keeps_step(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """And what it works on teaches nothing."""
    run = Run(tmp_path, tokenizer)
    plan = [[0], [1, 2], [3]]
    made = [
        Updates(lambda rows, _: run.data._train.batch(rows), plan, 3, 0, 1, Processes(rank, 2), as_many=True)._update(0)  # type: ignore[arg-type]
        for rank in (0, 1)
    ]
    assert [[batch.target_tokens > 0 for batch in update] for update in made] == [[True, True, True], [False, True, False]]
    run.module.prepare(SHARDED)
    loss, nll = run.module._losses(made[1][0])
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == nll.item() == 0.0
    assert all(not parameter.grad.any() for parameter in run.model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "memory does not suffice at step 4"),
        (RuntimeError("[gloo/pair.cc] Connection closed by peer"), "another one died or hangs"),
        (RuntimeError("a bug"), "a bug"),
    ],
)
def test_what_goes_wrong_in_the_middle_of_a_layer_is_told(
    tmp_path: Path, tokenizer: Tokenizer, capfd: pytest.CaptureFixture[str], error: RuntimeError, said: str
) -> None:
    """One of the two finds no memory, no other one, or a bug; pieces cannot halve a batch."""

    def train(processes: Processes) -> None:
        run = Run(tmp_path, tokenizer, SHARDED, processes=processes)
        in_pieces = run.module._gradients

        def broken(*given: object) -> None:
            raise error

        def gradients(update: Sequence[Batch], tokens: float) -> torch.Tensor:
            if run.module.step == 3 and processes.first:
                run.module.model.decoder.layers[0].feedforward.forward = broken
            return in_pieces(update, tokens)

        run.module._gradients = gradients  # type: ignore[method-assign]
        run.go()

    ends, _ = two(train)
    assert ends == [MachineProblem.exit_code if said != "a bug" else 1, MachineProblem.exit_code]
    told = capfd.readouterr().err
    assert said in told
    assert "_local_tensor" not in told
