"""TeaCache's rule, to be measured (benchmarks/steps.py): neither the host nor this pack has a node of it.

The rule (arXiv 2411.19108): the relative change of the time embedding from step to step, through a polynomial that was
fitted to a model, is added up. Below the threshold, a step takes over what all blocks together added to the tokens in
the last step that was computed; from it on, the step is computed and the sum begins anew. The first step and the last
are always computed. Above a change of 0.33 the published polynomial is negative: a run of few steps, whose first change
is larger, then skips nearly all of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import comfy.patcher_extension
import numpy as np
import torch

# published for CogVideoX-5b (ali-vilab/TeaCache), the highest power first
COEFFICIENTS = (-1.53880483e03, 8.43202495e02, -1.34363087e02, 7.97131516e00, -5.23162339e-02)


@dataclass
class Cache:
    """Of one call's branches, from the first step of a run to its last."""

    embedding: torch.Tensor | None = None
    change: float = 0.0
    added: dict[str, torch.Tensor] = field(default_factory=dict)  # by all blocks to img and txt
    begun: dict[str, torch.Tensor] = field(default_factory=dict)  # img and txt before the first block
    skips: bool = False
    skipped: int = 0


class TeaCacheRule:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "threshold": ("FLOAT", {"step": 0.01})}}

    def patch(self, model, threshold):
        clone, caches = model.clone(), {}
        last = len(clone.get_model_object("diffusion_model").transformer_blocks) - 1

        def call(executor, x, timesteps, context, face_latent, options):
            schedule = options["sample_sigmas"]
            step = int((schedule - options["sigmas"].max()).abs().argmin())
            branches, steps = tuple(options["cond_or_uncond"]), len(schedule) - 1
            cache = caches[branches] = Cache() if step == 0 else caches[branches]
            decide(
                cache,
                executor.class_obj.time_embedding(timesteps, x.dtype),
                step in (0, steps - 1),
                threshold,
            )
            if step == steps - 1:
                logging.info("TeaCache rule - skipped %d/%d steps", cache.skipped, steps)
            return executor(x, timesteps, context, face_latent, {**options, "teacache": cache})

        def block(given: dict[str, Any], extra: dict[str, Any]) -> dict[str, torch.Tensor]:
            options = given["transformer_options"]
            cache, index = options["teacache"], options["block_index"]
            tokens = {name: given[name] for name in ("img", "txt")}
            if cache.skips:
                return {name: tokens[name] + cache.added[name] for name in tokens} if index == 0 else tokens
            if index == 0:
                cache.begun = tokens
            result = extra["original_block"](given)
            if index == last:
                cache.added = {name: result[name] - cache.begun.pop(name) for name in tokens}
            return result

        for index in range(last + 1):
            clone.set_model_patch_replace(block, "dit", "double_block", index)
        clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "teacache", call)
        return (clone,)


def decide(cache: Cache, embedding: torch.Tensor, must_compute: bool, threshold: float) -> None:
    if not must_compute:
        moved = (embedding - cache.embedding).abs().mean() / cache.embedding.abs().mean()
        cache.change += float(np.polyval(COEFFICIENTS, float(moved)))
    cache.skips = not must_compute and cache.change < threshold
    if not cache.skips:
        cache.change = 0.0
    cache.skipped += cache.skips
    cache.embedding = embedding
