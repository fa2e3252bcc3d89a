"""People who need no photo: identities made of seeded noise, as files in a host's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from echovideo_model.identity import Identity


def put_person(base: Path, name: str, right: int = 0, seed: int = 0) -> str:
    """The file's name; the face picture is grey noise, its right quarter changed by `right`."""
    drawn = np.random.default_rng(seed).integers(60, 190, (16, 16, 3), dtype=np.uint8)
    picture = drawn.repeat(32, 0).repeat(32, 1)
    picture[:, 384:] += np.uint8(right)
    tokens = torch.randn(196, 768, generator=torch.Generator().manual_seed(seed))
    identity = Identity(torch.ones(512) * (1 + seed), tokens, torch.zeros(196, 768), picture)
    identity.save(base / "models" / "echovideo_identities" / f"{name}.safetensors")
    return f"{name}.safetensors"
