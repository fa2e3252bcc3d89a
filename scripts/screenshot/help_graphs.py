"""What each help page's picture shows: the node and what it is wired to, from the top left to the bottom right.

The panel is narrow, so a neighbour is folded to its title if only its name matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from echovideo_model.nano.models import FILES

PHOTO, VIDEO, SAVED = "us.png", "walk.mp4", "anna"


@dataclass(frozen=True)
class Node:
    """`at`: left and top of its body, below the title; a folded node is only a title, 30 high."""

    type: str
    at: tuple[int, int]
    folded: bool = False
    title: str = ""  # where the host cuts a folded node's own title, after 20 characters
    size: tuple[int, int] | None = None
    widgets: dict[str, Any] = field(default_factory=dict)
    result: bool = False  # shows a frame of the nano model's video, as after a run


@dataclass(frozen=True)
class Graph:
    """`links`: "node.output > node.input"; `run`: there is nothing to see before a run."""

    nodes: dict[str, Node]
    links: tuple[str, ...]
    run: bool = False


GRAPHS = {
    "EchoVideoLoadModel": Graph(
        {
            "loader": Node("EchoVideoLoadModel", (0, 0), size=(395, 82)),
            "guidance": Node("EchoVideoDynamicGuidance", (275, 155), size=(280, 82)),
            "sampler": Node("KSampler", (490, 345), folded=True),
        },
        ("loader.model > guidance.model", "guidance.guided_model > sampler.model"),
    ),
    "EchoVideoLoadTextEncoder": Graph(
        {
            "loader": Node("EchoVideoLoadTextEncoder", (0, 0), size=(350, 82)),
            "prompt": Node(
                "CLIPTextEncode",
                (240, 150),
                title="Prompt",
                size=(280, 120),
                widgets={"text": "A woman walks along a beach at sunset and smiles."},
            ),
            "negative": Node(
                "CLIPTextEncode",
                (240, 330),
                title="Negative prompt",
                size=(280, 90),
                widgets={"text": "blurry, distorted"},
            ),
        },
        ("loader.clip > prompt.clip", "loader.clip > negative.clip"),
    ),
    "EchoVideoLoadVAE": Graph(
        {
            "sampler": Node("KSampler", (50, 155), folded=True),
            "loader": Node("EchoVideoLoadVAE", (0, 0), size=(320, 58), widgets={"vae_name": FILES["vae"]}),
            "decode": Node("VAEDecode", (270, 140), size=(190, 46)),
            "conditioning": Node("EchoVideoConditioning", (270, 255), folded=True, title="Conditioning"),
            "preview": Node("PreviewImage", (500, 115), size=(200, 226), result=True),
        },
        (
            "sampler.LATENT > decode.samples",
            "loader.vae > decode.vae",
            "loader.vae > conditioning.vae",
            "decode.IMAGE > preview.images",
        ),
    ),
    "EchoVideoLoadFaceEncoders": Graph(
        {
            "loader": Node("EchoVideoLoadFaceEncoders", (0, 0), size=(390, 82)),
            "identity": Node("EchoVideoIdentity", (350, 165), folded=True),
            "score": Node("EchoVideoIdentityScore", (350, 225), folded=True, title="Identity Score"),
        },
        ("loader.face_encoders > identity.face_encoders", "loader.face_encoders > score.face_encoders"),
    ),
    "EchoVideoLoadIdentity": Graph(
        {
            "loader": Node("EchoVideoLoadIdentity", (0, 0), size=(300, 78)),
            "preview": Node("PreviewImage", (235, 150), size=(200, 226)),
            "conditioning": Node("EchoVideoConditioning", (345, 35), folded=True, title="Conditioning"),
        },
        ("loader.identity > conditioning.identity", "loader.face_picture > preview.images"),
        run=True,
    ),
    "EchoVideoSaveIdentity": Graph(
        {
            "image": Node("LoadImage", (0, 0), folded=True, widgets={"image": PHOTO}),
            "encoders": Node("EchoVideoLoadFaceEncoders", (0, 50), folded=True, title="Face Encoders"),
            "identity": Node("EchoVideoIdentity", (165, 25), folded=True),
            "saver": Node(
                "EchoVideoSaveIdentity", (90, 135), size=(300, 58), widgets={"filename_prefix": SAVED}
            ),
            "name": Node("PreviewAny", (330, 275), size=(220, 90)),
        },
        (
            "image.IMAGE > identity.photos",
            "encoders.face_encoders > identity.face_encoders",
            "identity.identity > saver.identity",
            "saver.saved_name > name.source",
        ),
        run=True,
    ),
    "EchoVideoIdentity": Graph(
        {
            "image": Node("LoadImage", (-190, 90), size=(165, 200), widgets={"image": PHOTO}),
            "encoders": Node("EchoVideoLoadFaceEncoders", (-175, 15), folded=True, title="Face Encoders"),
            "identity": Node("EchoVideoIdentity", (0, 0), size=(350, 420), widgets={"face_index": 1}),
            "conditioning": Node("EchoVideoConditioning", (315, -75), folded=True, title="Conditioning"),
        },
        (
            "encoders.face_encoders > identity.face_encoders",
            "image.IMAGE > identity.photos",
            "identity.identity > conditioning.identity",
        ),
    ),
    "EchoVideoIdentityScore": Graph(
        {
            "video": Node("LoadVideo", (-165, -75), folded=True, widgets={"file": VIDEO}),
            "frames": Node("GetVideoComponents", (-160, -10), folded=True, title="Video frames"),
            "known": Node("EchoVideoLoadIdentity", (-160, 45), folded=True, title="Load Identity"),
            "encoders": Node("EchoVideoLoadFaceEncoders", (-160, 100), folded=True, title="Face Encoders"),
            "score": Node("EchoVideoIdentityScore", (0, 0), size=(380, 370), widgets={"every": 1}),
        },
        (
            "video.VIDEO > frames.video",
            "frames.images > score.frames",
            "known.identity > score.identity",
            "encoders.face_encoders > score.face_encoders",
        ),
        run=True,
    ),
    "EchoVideoEvaluate": Graph(
        {
            "video": Node("LoadVideo", (-165, -75), folded=True, widgets={"file": VIDEO}),
            "frames": Node("GetVideoComponents", (-160, -10), folded=True, title="Video frames"),
            "known": Node("EchoVideoLoadIdentity", (-160, 45), folded=True, title="Load Identity"),
            "encoders": Node("EchoVideoLoadFaceEncoders", (-160, 100), folded=True, title="Face Encoders"),
            "evaluate": Node("EchoVideoEvaluate", (0, 0), size=(300, 130)),
            "report": Node("PreviewAny", (335, 150), size=(330, 150), title="Report"),
        },
        (
            "video.VIDEO > frames.video",
            "frames.images > evaluate.frames",
            "known.identity > evaluate.identity",
            "encoders.face_encoders > evaluate.face_encoders",
            "evaluate.report > report.source",
        ),
        run=True,
    ),
    "EchoVideoVideoSize": Graph(
        {
            "size": Node("EchoVideoVideoSize", (0, 0), size=(320, 346)),
            "conditioning": Node("EchoVideoConditioning", (370, 45), folded=True, title="Conditioning"),
            "video": Node("CreateVideo", (370, 110), folded=True),
        },
        (
            "size.width > conditioning.width",
            "size.height > conditioning.height",
            "size.length > conditioning.length",
            "size.fps > video.fps",
        ),
    ),
    "EchoVideoConditioning": Graph(
        {
            "prompt": Node("CLIPTextEncode", (-212, 0), folded=True, title="Prompt"),
            "negative": Node("CLIPTextEncode", (-212, 50), folded=True, title="Negative prompt"),
            "identity": Node("EchoVideoIdentity", (-212, 100), folded=True),
            "vae": Node("EchoVideoLoadVAE", (-212, 150), folded=True),
            "size": Node("EchoVideoVideoSize", (-212, 200), folded=True),
            "conditioning": Node("EchoVideoConditioning", (0, 0), size=(280, 310)),
            "sampler": Node("KSampler", (322, 5), folded=True),
            "decode": Node("VAEDecode", (322, 55), folded=True),
            "preview": Node("PreviewImage", (310, 110), size=(180, 200), result=True),
        },
        (
            "prompt.CONDITIONING > conditioning.positive",
            "negative.CONDITIONING > conditioning.negative",
            "identity.identity > conditioning.identity",
            "vae.vae > conditioning.vae",
            "size.width > conditioning.width",
            "size.height > conditioning.height",
            "size.length > conditioning.length",
            "conditioning.positive > sampler.positive",
            "conditioning.negative > sampler.negative",
            "conditioning.latent > sampler.latent_image",
            "sampler.LATENT > decode.samples",
            "decode.IMAGE > preview.images",
        ),
    ),
    "EchoVideoDynamicGuidance": Graph(
        {
            "loader": Node("EchoVideoLoadModel", (-115, -75), folded=True),
            "guidance": Node("EchoVideoDynamicGuidance", (0, 0), size=(300, 82)),
            "sampler": Node("KSampler", (255, 180), folded=True),
        },
        ("loader.model > guidance.model", "guidance.guided_model > sampler.model"),
    ),
    "EchoVideoRIFLEx": Graph(
        {
            "loader": Node("EchoVideoLoadModel", (-115, -75), folded=True),
            "riflex": Node("EchoVideoRIFLEx", (0, 0), size=(260, 34)),
            "sampler": Node("KSampler", (215, 130), folded=True),
        },
        ("loader.model > riflex.model", "riflex.riflex_model > sampler.model"),
    ),
    "EchoVideoSampler": Graph(
        {
            "sampler": Node("EchoVideoSampler", (0, 0), size=(290, 58)),
            "schedule": Node("EchoVideoScheduler", (20, 255), folded=True),
            "custom": Node("SamplerCustom", (255, 135), size=(285, 230), widgets={"cfg": 6.0}),
        },
        ("sampler.sampler_object > custom.sampler", "schedule.sigmas > custom.sigmas"),
    ),
    "EchoVideoScheduler": Graph(
        {
            "loader": Node("EchoVideoLoadModel", (-75, -75), folded=True),
            "schedule": Node("EchoVideoScheduler", (0, 0), size=(250, 82)),
            "sampler": Node("EchoVideoSampler", (-30, 245), folded=True),
            "custom": Node("SamplerCustom", (180, 145), size=(285, 230), widgets={"cfg": 6.0}),
        },
        (
            "loader.model > schedule.model",
            "sampler.sampler_object > custom.sampler",
            "schedule.sigmas > custom.sigmas",
        ),
    ),
    "EchoVideoNoise": Graph(
        {
            "noise": Node("EchoVideoNoise", (0, 0), size=(290, 82)),
            "guider": Node("CFGGuider", (60, 160), folded=True),
            "sampler": Node("EchoVideoSampler", (10, 210), folded=True),
            "schedule": Node("EchoVideoScheduler", (10, 260), folded=True),
            "custom": Node("SamplerCustomAdvanced", (250, 150), size=(250, 106)),
        },
        (
            "noise.noise > custom.noise",
            "guider.GUIDER > custom.guider",
            "sampler.sampler_object > custom.sampler",
            "schedule.sigmas > custom.sigmas",
        ),
    ),
}
