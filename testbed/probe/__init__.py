"""Another pack, as EchoVideo may meet it: patches that change nothing, and count how often they are called."""

from __future__ import annotations

from collections import Counter

import comfy.patcher_extension
import torch

COUNTS: Counter[str] = Counter()


class ProbePatches:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        COUNTS.clear()
        clone = model.clone()
        network = clone.get_model_object("diffusion_model")
        fuse = network.fuse

        def counted_fuse(*args):
            COUNTS["iitf"] += 1
            return fuse(*args)

        def block(args, extra):
            COUNTS["block"] += 1
            return extra["original_block"](args)

        def attention(original, *args, **kwargs):
            COUNTS["attention"] += 1
            return original(*args, **kwargs)

        def call(executor, *args, **kwargs):
            COUNTS["call"] += 1
            return executor(*args, **kwargs)

        clone.add_object_patch("diffusion_model.fuse", counted_fuse)
        clone.set_model_patch_replace(block, "dit", "double_block", 0)
        clone.model_options["transformer_options"]["optimized_attention_override"] = attention
        clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "probe", call)
        return (clone,)


class ProbeCounts:
    RETURN_TYPES = ()
    FUNCTION = "count"
    OUTPUT_NODE = True
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("LATENT",)}}

    def count(self, after):
        return {"ui": {"counts": [dict(COUNTS)]}}


class ProbeLosses:
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"loss": ("LOSS_MAP",)}}

    def show(self, loss):
        return {"ui": {"losses": [loss["loss"]]}}


class ProbeConditioning:
    """A prompt of any width, for models whose text encoder would be too large for a test."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "make"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"max": 10000})}}

    def make(self, width):
        return ([[torch.randn(1, 8, width, generator=torch.Generator().manual_seed(0)), {}]],)


NODE_CLASS_MAPPINGS = {
    "ProbePatches": ProbePatches,
    "ProbeCounts": ProbeCounts,
    "ProbeConditioning": ProbeConditioning,
    "ProbeLosses": ProbeLosses,
}
