"""Small seeded networks in the places of the judges, as far as the packages for them are here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from echovideo_model.metrics import identity, motion, realism, text
from echovideo_model.tiny.recogniser import make_recogniser_file
from tests.test_metrics_realism import write_dino, write_fid_inception
from tests.test_metrics_text import write_clip


def write_judges(models: Path) -> Path:
    """The group "evaluation" in a models folder."""
    folder = models / "evaluation"
    (folder / "buffalo_l").mkdir(parents=True, exist_ok=True)
    (folder / "buffalo_l" / identity.RECOGNISER).write_bytes(make_recogniser_file())
    write_clip(folder / text.CLIP)
    write_clip(folder / realism.CLIP_LARGE)
    torch.save(nn.Linear(16, 1).state_dict(), folder / realism.AESTHETIC)
    write_dino(folder / realism.DINO)
    write_fid_inception(folder)
    if importlib.util.find_spec("torchvision"):
        from torchvision import models as released

        raft = released.optical_flow.raft_large(weights=None)
        torch.save(raft.state_dict(), folder / motion.RAFT)
        inception = released.inception_v3(weights=None, init_weights=False)
        torch.save(inception.state_dict(), folder / realism.INCEPTION)
    if importlib.util.find_spec("pyiqa"):
        from pyiqa.archs.musiq_arch import MUSIQ

        torch.save(MUSIQ(pretrained=False).state_dict(), folder / realism.MUSIQ)
    return models
