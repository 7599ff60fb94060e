"""Muon against torch's own, which moves one matrix at a time."""

import copy

import torch
from torch import Tensor, nn

from seq2seq.training.muon import Muon, orthogonalised


def steps(parameters: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], target: list[Tensor]) -> None:
    for _ in range(5):
        for parameter, wanted in zip(parameters, target, strict=True):
            parameter.grad = 2 * (parameter.detach() - wanted)
        for optimizer in optimizers:
            optimizer.step()


def test_matrices_move_as_torch_moves_them_and_the_rest_as_adam_does() -> None:
    torch.manual_seed(1)
    shapes = [(8, 8), (8, 8), (16, 8), (8, 16), (20, 8), (8,)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs, target = copy.deepcopy(ours), [torch.randn(shape) for shape in shapes]
    adam = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-9, "fused": True}
    groups = [{"params": ours[:4], "orthogonal": True, "weight_decay": 0.1}, {"params": ours[4:]}]
    steps(ours, [Muon(groups, torch.bfloat16, **adam)], target)
    reference = torch.optim.Muon(theirs[:4], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    steps(theirs, [reference, torch.optim.Adam(theirs[4:], **adam)], target)
    for mine, other in zip(ours[:4], theirs[:4], strict=True):
        # Sixteen bits of a product leave two digits of a move of 0.01.
        torch.testing.assert_close(mine, other, rtol=0, atol=6e-4)
    for mine, other in zip(ours[4:], theirs[4:], strict=True):
        assert torch.equal(mine, other)


def test_what_it_moves_by_has_the_singular_vectors_and_no_size() -> None:
    torch.manual_seed(2)
    matrices = torch.randn(3, 12, 30) * torch.tensor([1e-6, 1.0, 1e6])[:, None, None]
    found = orthogonalised(matrices, torch.bfloat16)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    sizes = torch.einsum("nri,nrc,nic->ni", left, found, right)
    assert ((sizes > 0.6) & (sizes < 1.3)).all()
    torch.testing.assert_close(torch.einsum("nri,ni,nic->nrc", left, sizes, right), found, rtol=0, atol=0.03)
    assert torch.equal(orthogonalised(matrices.mT, torch.bfloat16), found.mT)
