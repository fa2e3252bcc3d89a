"""How similar the person in a video is to an identity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from torch import Tensor

from ..echovideo_model.chart import plot_scores
from ..echovideo_model.face.encoders import require_same_set
from ..echovideo_model.identity import Identity as IdentityData
from ..echovideo_model.metrics.identity import score
from .host.conditioning import Conditioning
from .host.encoders import HostFaceEncoders
from .host.regions import find_in_frames
from .preview import to_image
from .schema import FaceEncoders, Identity, make_schema


class EchoVideoIdentityScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoIdentityScore",
            "EchoVideo Identity Score",
            description=(
                "Measures how similar the person in each frame is to the identity: ArcFace cosine "
                "similarity, frame by frame. Strangers score around 0, photos of one person about 0.5 "
                "to 0.8. Connect it after VAE Decode."
            ),
            search_aliases=["face similarity", "arcface score"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="The video, from VAE Decode."),
                Identity.Input("identity", tooltip="The person it should show."),
                FaceEncoders.Input("face_encoders", tooltip="From Load EchoVideo Face Encoders."),
                io.Int.Input(
                    "every",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="Check every n-th frame; 1 checks all, which is slow.",
                ),
                io.Conditioning.Input(
                    "region",
                    optional=True,
                    tooltip="With several people: this person's prompt after its area or mask. Faces outside "
                    "it are not measured.",
                ),
                io.String.Input("name", optional=True, default="", tooltip="The name to write on the curve."),
            ],
            outputs=[
                io.Float.Output(
                    display_name="mean", tooltip="Mean over the frames that show a face; 0 if none does."
                ),
                io.Float.Output(display_name="deviation", tooltip="Standard deviation over those frames."),
                io.Float.Output(display_name="minimum", tooltip="The frame that is least similar."),
                io.Image.Output(
                    display_name="curve", tooltip="Similarity over time; gaps where no face was found."
                ),
                io.Image.Output(display_name="same_frames", tooltip="The frames, unchanged."),
            ],
        )

    @classmethod
    def execute(
        cls,
        frames: Tensor,
        identity: IdentityData,
        face_encoders: HostFaceEncoders,
        every: int,
        region: Conditioning | None = None,
        name: str = "",
    ) -> io.NodeOutput:
        encoders = face_encoders.ready()
        require_same_set(encoders.name, identity.encoders)
        looked_at = frames[::every, ..., :3]
        if region is not None:
            top, left, height, width = find_in_frames(region, *frames.shape[1:3])
            looked_at = looked_at[:, top : top + height, left : left + width]
        bar = ProgressBar(len(looked_at))

        def watched() -> Iterator[Tensor]:
            for frame in looked_at:
                throw_exception_if_processing_interrupted()
                yield frame.clamp(0, 1)
                bar.update(1)

        scores = score(watched(), identity.id_embedding, encoders.detector)
        drawn = to_image(np.asarray(plot_scores(scores, name.strip() or "Identity score")))
        numbers = scores.mean or 0.0, scores.standard_deviation or 0.0, scores.minimum or 0.0
        shown = {
            **ui.PreviewImage(drawn, cls=cls).as_dict(),
            "echovideo_scores": [
                scores.as_dict() | {"every": every, "name": name.strip()}
            ],  # drawn by the page
        }
        return io.NodeOutput(*numbers, drawn, frames, ui=shown)
