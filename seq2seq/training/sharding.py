"""A model in as many pieces as there are processes, so that together they train what one of them has no room for (fully sharded data
parallel; Zhao et al., 2023).

Each process keeps its piece of every weight, gradient, moment and average. A layer is whole while it is worked on, and its gradient is
summed and cut as soon as it is there. torch does that; here is what the rest of training has to know of it.
"""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from seq2seq.model.transformer import Transformer
from seq2seq.training.processes import Processes


def shard(model: Transformer, processes: Processes, dtype: torch.dtype, on_cpu: bool) -> None:
    """Leave this process its piece of the model, on its device. All have the same model; of it only `features` may be asked for from now on, by
    all of them as often, and `output.weight` after it. On a GPU layers that multiply in `dtype` come together in it."""
    mesh = DeviceMesh.from_group(processes.training, "cpu" if on_cpu else "cuda")
    # Else autocast would make narrow copies of all weights and keep them, whole, for backward.
    narrow = MixedPrecisionPolicy(None if on_cpu else dtype, torch.float32, cast_forward_inputs=False)
    for module in (*model.encoder.layers, *model.decoder.layers, model):
        fully_shard(module, mesh=mesh, mp_policy=MixedPrecisionPolicy() if module is model else narrow)
        assert isinstance(module, FSDPModule)
        module.set_force_sum_reduction_for_comms(True)  # gradients are of a sum over all tokens already
        module.set_gradient_divide_factor(1.0)
    register_fsdp_forward_method(model, "features")


def full(tensor: Tensor) -> Tensor:
    """A tensor put together of the pieces that all processes bring, or one that is whole as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor  # type: ignore[no-untyped-call, no-any-return]


def reset(model: Transformer) -> None:
    """To be called where a step breaks off in the middle: else torch stumbles over it when it clears up, and hides why."""
    assert isinstance(model, FSDPModule)
    with suppress(AttributeError):  # nothing has begun
        model.reset_iter_state()


def put_together(tree: Any, keep: bool = True) -> Any:
    """A tree of dicts and lists with each tensor that is in pieces put together and in the processor's memory, one after the other; None in its
    place in a process that does not keep it."""
    if isinstance(tree, DTensor):
        together = full(tree.detach())
        return together.cpu() if keep else None
    if isinstance(tree, dict):
        return {key: put_together(value, keep) for key, value in tree.items()}
    return [put_together(value, keep) for value in tree] if isinstance(tree, list) else tree


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A tensor on the device of another one of its shape and, if that is in pieces, this process's piece of it."""
    if isinstance(other, DTensor) and not isinstance(tensor, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)
    return tensor.to(other.device)
