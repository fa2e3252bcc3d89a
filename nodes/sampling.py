"""Sampling the way the reference does, as parts for Sampler Custom (Advanced). Any other sampler also works."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..echovideo_model.limits import GUIDANCES, MAX_SEED, TRAIN_STEPS, Guidance, Sampler
from .host.sampling import ReferenceNoise, make_sampler, make_sigmas, with_guidance, with_riflex
from .schema import make_schema

SAMPLERS: dict[str, Sampler] = {"reference DPM": "dpm", "DDIM": "ddim"}


class EchoVideoSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoSampler",
            "EchoVideo Sampler",
            description=(
                "EchoVideo's own samplers for Sampler Custom. reference DPM is what the published "
                "results use; DDIM is the base model's and equals the host's euler. Use it with "
                "EchoVideo Scheduler."
            ),
            search_aliases=["dpm", "ddim", "cogvideox"],
            inputs=[
                io.Combo.Input(
                    "sampler",
                    options=list(SAMPLERS),
                    default="reference DPM",
                    tooltip="reference DPM adds fresh noise in every step; DDIM adds none.",
                )
            ],
            outputs=[
                io.Sampler.Output(
                    display_name="sampler_object", tooltip="For Sampler Custom or its Advanced form."
                )
            ],
        )

    @classmethod
    def execute(cls, sampler: str) -> io.NodeOutput:
        return io.NodeOutput(make_sampler(SAMPLERS[sampler]))


class EchoVideoScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoScheduler",
            "EchoVideo Scheduler",
            description=(
                "The noise levels that EchoVideo was trained for: trailing, exact for any number of "
                "steps. Connect it to Sampler Custom. In KSampler, the scheduler simple gives the same "
                "levels for 10, 20, 25, 40 and 50 steps."
            ),
            search_aliases=["sigmas", "trailing"],
            inputs=[
                io.Model.Input("model", tooltip="From Load EchoVideo Model."),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=TRAIN_STEPS,
                    tooltip="50 in the reference; 25 is often enough.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1, the given latent is only partly repainted.",
                ),
            ],
            outputs=[
                io.Sigmas.Output(display_name="sigmas", tooltip="For Sampler Custom or its Advanced form.")
            ],
        )

    @classmethod
    def execute(cls, model: Any, steps: int, denoise: float) -> io.NodeOutput:
        return io.NodeOutput(make_sigmas(model, steps, denoise))


class EchoVideoNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoNoise",
            "EchoVideo Noise",
            description=(
                "Starting noise in the reference's order, so that a seed gives the same video as "
                "ByteDance's code and this project's command line. Connect it to Sampler Custom "
                "Advanced instead of Random Noise."
            ),
            search_aliases=["random noise", "seed"],
            inputs=[
                io.Int.Input(
                    "noise_seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video on every device.",
                )
            ],
            outputs=[io.Noise.Output(display_name="noise", tooltip="For Sampler Custom Advanced.")],
        )

    @classmethod
    def execute(cls, noise_seed: int) -> io.NodeOutput:
        return io.NodeOutput(ReferenceNoise(noise_seed))


class EchoVideoDynamicGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoDynamicGuidance",
            "EchoVideo Dynamic Guidance",
            description=(
                "Changes the guidance (cfg) from step to step. The strength g is the sampler's cfg, 6 "
                "in the reference. Put it between the model and the sampler."
            ),
            search_aliases=["cfg", "dynamic cfg"],
            inputs=[
                io.Model.Input("model", tooltip="The EchoVideo model; the original is not changed."),
                io.Combo.Input(
                    "form",
                    options=list(GUIDANCES),
                    default="reference",
                    tooltip="reference: the published code's form, which jumps between 1 and 1 + g. smooth: "
                    "from 1 + g down to 1. constant: g throughout, as without this node.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=TRAIN_STEPS,
                    tooltip="Steps of the whole run; 0 takes them from the sampler, which is right unless a "
                    "run is split in two.",
                ),
            ],
            outputs=[io.Model.Output(display_name="guided_model", tooltip="For the sampler or the guider.")],
        )

    @classmethod
    def execute(cls, model: Any, form: Guidance, steps: int) -> io.NodeOutput:
        return io.NodeOutput(with_guidance(model, form, steps))


class EchoVideoRIFLEx(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoRIFLEx",
            "EchoVideo RIFLEx",
            description=(
                "For long videos made in one run: slows down one temporal frequency (k = 2) so that the video does not "
                "repeat itself. Up to 65 frames nothing changes, bit for bit. Put it between the model and the "
                "sampler; it has no effect with Context Windows."
            ),
            search_aliases=["long video", "length extrapolation", "rope"],
            inputs=[io.Model.Input("model", tooltip="The EchoVideo model; the original is not changed.")],
            outputs=[io.Model.Output(display_name="riflex_model", tooltip="For the sampler or the guider.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        return io.NodeOutput(with_riflex(model))
