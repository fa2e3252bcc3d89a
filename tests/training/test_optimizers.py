"""What takes the steps of a run: torch's own AdamW and Muon, each with its share of the parameters."""

from __future__ import annotations

import torch
from torch import nn

from echovideo_model.training.optimizers import Optimizers
from echovideo_model.training.recipe import Optimizer

NAMES = {
    "transformer.transformer_blocks.0.ff.net.2.weight": (6, 4),
    "transformer.transformer_blocks.0.ff.net.2.bias": (6,),
    "transformer.face_prj_wofc.layers.0.0.to_q.weight": (4, 4),
    "transformer.patch_embed.proj.weight": (4, 3, 2, 2),
    "transformer.proj_out.weight": (4, 6),
    "text_encoder.shared.weight": (9, 4),
    "text_encoder.encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4),
}
HIDDEN = [name for name in NAMES if any(part in name for part in ("ff.net.2.weight", "to_q", ".q.weight"))]


def make_parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    parameters = {
        name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in NAMES.items()
    }
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def test_muon_moves_the_hidden_matrices_and_adamw_the_rest() -> None:
    before, after = make_parameters(), make_parameters()
    optimizers = Optimizers(after, Optimizer(rate=0.1, kind="muon", decay=0.0))
    optimizers.step()
    for name in NAMES:
        step = (before[name] - after[name]).detach()
        if name in HIDDEN:
            # Nearly orthogonal, and 0.2 of the rate long in the mean (Liu et al. 2025, arXiv 2502.16982, section 2.2).
            spread = torch.linalg.svdvals(step)
            assert spread.max() < 2 * spread.min(), name
            assert 0.01 < step.square().mean().sqrt() < 0.03, name
        else:
            torch.testing.assert_close(step.abs(), torch.full_like(step, 0.1), rtol=1e-3, atol=1e-3)


def test_adamw_alone_moves_all() -> None:
    before, after = make_parameters(), make_parameters()
    optimizers = Optimizers(after, Optimizer(rate=0.1, decay=0.0))
    optimizers.set_rate(0.2)
    optimizers.step()
    for name in NAMES:
        step = (before[name] - after[name]).detach()
        torch.testing.assert_close(step.abs(), torch.full_like(step, 0.2), rtol=1e-3, atol=1e-3)
