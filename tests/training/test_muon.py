"""Muon's updates, beside PyTorch's Muon where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from echovideo_model.parallel.ranks import Ranks
from echovideo_model.training.muon import MuonWithAdamW, orthogonalise


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 81), (64, 27), (256, 16), (3, 32, 32)])
def test_what_is_orthogonalised_has_its_directions_and_singular_values_near_one(
    shape: tuple[int, ...],
) -> None:
    matrices = draw(*shape)
    found = orthogonalise(matrices)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.4
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = (found * (u @ v)).sum((-2, -1)) / (found.norm(dim=(-2, -1)) * (u @ v).norm(dim=(-2, -1)))
    assert cosine.min() > 0.95


@pytest.mark.parametrize("shape", [(48, 48), (64, 16), (16, 64)])
def test_a_matrix_moves_as_under_pytorch_s_muon(shape: tuple[int, int]) -> None:
    """PyTorch's computes in bfloat16."""
    reference = getattr(torch.optim, "Muon", None)
    if reference is None:
        pytest.skip("torch.optim.Muon came with PyTorch 2.9")
    ours, theirs = nn.Parameter(draw(*shape)), nn.Parameter(draw(*shape))
    optimizer = MuonWithAdamW([ours], [{"params": []}], 0.01, (0.9, 0.99), 0.1, Ranks())
    other = reference([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        ours.grad = draw(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        optimizer.step()
        other.step()
    moved, wanted = ours - draw(*shape), theirs - draw(*shape)
    assert (moved - wanted).norm() < 0.02 * wanted.norm()


def test_what_is_no_matrix_moves_as_under_adamw() -> None:
    bias, alone, matrix = nn.Parameter(draw(8)), nn.Parameter(draw(8)), nn.Parameter(draw(4, 4))
    groups = [{"params": [bias], "weight_decay": 0.0}]
    optimizer = MuonWithAdamW([matrix], groups, 0.01, (0.9, 0.99), 0.1, Ranks())
    reference = torch.optim.AdamW([alone], lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(3):
        matrix.grad = draw(4, 4, seed=step)
        bias.grad = draw(8, seed=step)
        alone.grad = bias.grad.clone()
        optimizer.step()
        reference.step()
    assert torch.equal(bias, alone)
    assert not torch.equal(matrix, draw(4, 4))
