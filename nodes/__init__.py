"""The nodes: each has a schema, makes one call into the library or nodes/host, and returns."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from ..echovideo_model import __version__
from .conditioning import EchoVideoConditioning, EchoVideoVideoSize
from .evaluate import EchoVideoEvaluate
from .host import folders, provenance, registry, routes
from .identity import (
    EchoVideoIdentity,
    LoadEchoVideoFaceEncoders,
    LoadEchoVideoIdentity,
    SaveEchoVideoIdentity,
)
from .loaders import LoadEchoVideoModel, LoadEchoVideoTextEncoder, LoadEchoVideoVAE
from .sampling import (
    EchoVideoDynamicGuidance,
    EchoVideoNoise,
    EchoVideoRIFLEx,
    EchoVideoSampler,
    EchoVideoScheduler,
)
from .score import EchoVideoIdentityScore

log = logging.getLogger(__name__)
NODES: list[type[io.ComfyNode]] = [
    LoadEchoVideoModel,
    LoadEchoVideoTextEncoder,
    LoadEchoVideoVAE,
    LoadEchoVideoFaceEncoders,
    EchoVideoIdentity,
    SaveEchoVideoIdentity,
    LoadEchoVideoIdentity,
    EchoVideoConditioning,
    EchoVideoVideoSize,
    EchoVideoSampler,
    EchoVideoScheduler,
    EchoVideoNoise,
    EchoVideoDynamicGuidance,
    EchoVideoRIFLEx,
    EchoVideoIdentityScore,
    EchoVideoEvaluate,
]


class EchoVideoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> EchoVideoExtension:
    folders.register()
    registry.register()
    routes.register()
    provenance.register()
    log.info("ComfyUI-EchoVideo %s: %d nodes", __version__, len(NODES))
    return EchoVideoExtension()
