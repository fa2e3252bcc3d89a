"""Measures a video in a workflow with the metrics that need no download."""

from __future__ import annotations

import numpy as np
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io
from torch import Tensor

from ..echovideo_model.face.encoders import require_same_set
from ..echovideo_model.identity import Identity as IdentityData
from ..echovideo_model.limits import FPS
from ..echovideo_model.metrics.definitions import choose_metrics
from ..echovideo_model.metrics.evaluation import measure_one
from ..echovideo_model.metrics.measure import Clip, Judges
from ..echovideo_model.metrics.report import format_number
from ..echovideo_model.video import to_uint8
from .host.encoders import HostFaceEncoders
from .schema import FaceEncoders, Identity, make_schema

MEASURED = ["facesim_antelopev2", "identity_average", "identity_variation", "temporal_flicker"]


class EchoVideoEvaluate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoEvaluate",
            "EchoVideo Evaluate",
            description=(
                "Measures a video with the papers' metrics that need no download: FaceSim, identity "
                "average and variation, temporal flicker. The command echovideo evaluate measures the "
                "rest."
            ),
            search_aliases=["facesim", "vbench", "metrics"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="The video, from VAE Decode."),
                Identity.Input(
                    "identity",
                    optional=True,
                    tooltip="The person it should show; without it, faces are not measured.",
                ),
                FaceEncoders.Input(
                    "face_encoders",
                    optional=True,
                    tooltip="From Load EchoVideo Face Encoders; needed with identity.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All numbers, and why any is missing."),
                io.Float.Output(
                    display_name="facesim",
                    tooltip="FaceSim-Arc by antelopev2, which EchoVideo is conditioned on; 0 if not measured.",
                ),
                io.Float.Output(
                    display_name="identity_average",
                    tooltip="Similarity over every frame with a face; 0 if not measured.",
                ),
                io.Float.Output(
                    display_name="identity_variation",
                    tooltip="Standard deviation over those frames; 0 if not measured.",
                ),
                io.Float.Output(
                    display_name="temporal_flicker", tooltip="1 means none; 0 if there is only one frame."
                ),
                io.Image.Output(display_name="same_frames", tooltip="The frames, unchanged."),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor,
        identity: IdentityData | None = None,
        face_encoders: HostFaceEncoders | None = None,
    ) -> io.NodeOutput:
        pixels = [
            to_uint8(frame[..., :3].clamp(0, 1), f"frame {index}") for index, frame in enumerate(frames)
        ]
        clip = Clip(pixels, FPS, Judges(), on_progress=_Progress())
        if identity is None or face_encoders is None:
            clip.no_person = "connect identity and face_encoders to measure faces"
        else:
            encoders = face_encoders.ready()
            require_same_set(encoders.name, identity.encoders)
            clip.judges = Judges(detector=encoders.detector)
            clip.embedding = identity.id_embedding.float().cpu().numpy().astype(np.float32)
            clip.encoders = identity.encoders
        found = {metric.title: measure_one(metric, clip) for metric in choose_metrics(MEASURED)}
        lines = [
            f"{title}: {format_number(one.value)}" + (f" ({one.note})" if one.note else "")
            for title, one in found.items()
        ]
        values = [0.0 if one.value is None else one.value for one in found.values()]
        return io.NodeOutput("\n".join(lines), *values, frames, ui={"text": ["\n".join(lines)]})


class _Progress:
    """Shows each stage on the host's bar; a cancelled run ends here."""

    def __init__(self) -> None:
        self.bar = ProgressBar(1)

    def __call__(self, stage: str, done: int, total: int, unit: str) -> None:
        throw_exception_if_processing_interrupted()
        self.bar.update_absolute(done, total)
