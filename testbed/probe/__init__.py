"""Stands for another pack: patches that change nothing and count how often they are called, and a rule to measure."""

from __future__ import annotations

from collections import Counter

import comfy.ldm.flux.math
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import torch

from .teacache import TeaCacheRule

COUNTS: Counter[str] = Counter()
SEEN: list[tuple[torch.Tensor, torch.Tensor]] = []


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


class ProbeAttention:
    """The patches that the host's Flux and Qwen Image call, each counted: `kind` says what they change."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "probe"
    KINDS = ("nothing", "turn", "mask", "more text", "fewer tokens")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "kind": (cls.KINDS,)}}

    def patch(self, model, kind):
        COUNTS.clear()
        clone = model.clone()

        def before(q, k, v, pe=None, attn_mask=None, extra_options=None):
            COUNTS["attn1_patch"] += 1
            COUNTS["block {block_index} of {total_blocks}, {img_slice}".format(**extra_options)] += 1
            if kind == "turn":  # with the host's own function, as its Flux does after the patches
                q, k = comfy.ldm.flux.math.apply_rope(q, k, pe)
                return {"q": q, "k": k, "v": v, "pe": None}
            if kind == "mask":  # the text is not looked at
                start, stop = extra_options["img_slice"]
                return {"attn_mask": (torch.arange(stop) >= start).to(q.device)[None].repeat(stop, 1)}
            return {}

        def after(out, extra_options):
            COUNTS["attn1_output_patch"] += 1
            return out

        def first(given):
            COUNTS["post_input"] += 1
            assert given["img_ids"].shape == (*given["img"].shape[:2], 3)
            if kind == "more text":
                given["txt"] = torch.cat([given["txt"], given["txt"]], dim=1)
            if kind == "fewer tokens":
                given["img"] = given["img"][:, 1:]
            return given

        def block(given):
            COUNTS["double_block"] += 1
            assert given["x"].shape[:2] == (len(given["img"]), 16)
            return given

        clone.set_model_attn1_patch(before)
        clone.set_model_attn1_output_patch(after)
        clone.set_model_patch(first, "post_input")
        clone.set_model_patch(block, "double_block")
        return (clone,)


class ProbeSplit:
    """The host's own MultiGPU CFG Split on a machine without GPUs: its one CPU under two names."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "split"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def split(self, model):
        import comfy.multigpu

        def call(executor, *args, **kwargs):
            COUNTS[f"on {args[-1].get('multigpu_thread_device')}, {len(args[0])} of 2 branches"] += 1
            return executor(*args, **kwargs)

        COUNTS.clear()
        memory = comfy.model_management
        devices, memory.get_all_torch_devices = memory.get_all_torch_devices, two_cpus
        try:
            model = comfy.multigpu.create_multigpu_deepclones(model, 2, reuse_loaded=True)
        finally:
            memory.get_all_torch_devices = devices
        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "probe", call)
        return (model,)


def two_cpus(exclude_current=False):
    return [torch.device("cpu"), torch.device("cpu", 0)]


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


class ProbeFaceLatents:
    """Keeps the face latents that the network is called with and the first frames that it sees."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        def call(executor, x, timesteps, context, face_latent, *rest):
            SEEN.append((face_latent.float().cpu(), x[:, :, :1].float().cpu()))
            return executor(x, timesteps, context, face_latent, *rest)

        clone = model.clone()
        clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "probe", call)
        return (clone,)


class ProbeSeenFaces:
    """The face latents kept, all of one size, as a batch; and the first frames."""

    RETURN_TYPES = ("LATENT", "LATENT")
    FUNCTION = "show"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("LATENT",)}}

    def show(self, after):
        seen = tuple({"samples": torch.cat(kind)} for kind in zip(*SEEN, strict=True))
        SEEN.clear()  # the host may keep the patched model for the next run
        return seen


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


class ProbeOtherModel:
    """A MODEL that is not EchoVideo."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "make"
    CATEGORY = "probe"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        cpu = torch.device("cpu")
        return (comfy.model_patcher.ModelPatcher(torch.nn.Linear(1, 1), cpu, cpu),)


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
    "ProbeAttention": ProbeAttention,
    "ProbeOtherModel": ProbeOtherModel,
    "ProbeSplit": ProbeSplit,
    "ProbeCounts": ProbeCounts,
    "ProbeConditioning": ProbeConditioning,
    "ProbeFaceLatents": ProbeFaceLatents,
    "ProbeSeenFaces": ProbeSeenFaces,
    "ProbeLosses": ProbeLosses,
    "TeaCacheRule": TeaCacheRule,
}
