"""The face encoders with their networks managed by the host: on the GPU only while they are used."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import comfy.model_management as memory
import comfy.model_patcher
import folder_paths
from torch import nn

from ...echovideo_model.errors import InvalidRequest, ModelFileMissing
from ...echovideo_model.face.detect import DETECTOR, RECOGNISER, FaceDetector
from ...echovideo_model.face.parse import FaceParser
from ...echovideo_model.face.siglip import SiglipEncoder
from ...echovideo_model.identity import FaceEncoders
from ...echovideo_model.nano.models import FILES, FOLDER
from .folders import INSIGHTFACE, install, is_nano


class HostFaceEncoders:
    """ECHOVIDEO_FACE_ENCODERS: parser and SigLIP in one patcher; the detector belongs to onnxruntime."""

    def __init__(self, encoders: FaceEncoders) -> None:
        self.encoders = encoders
        networks = nn.ModuleDict({"parser": encoders.parser.network, "siglip": encoders.siglip.network})
        device, offload = memory.get_torch_device(), memory.unet_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(networks, load_device=device, offload_device=offload)

    def ready(self) -> FaceEncoders:
        """The encoders, with their networks on the computing device; call it before each use."""
        memory.load_models_gpu([self.patcher], force_full_load=True)
        return self.encoders


def load_face_encoders(parser: Path, siglip: Path) -> HostFaceEncoders:
    """The parser and SigLIP in these files, and the detector that goes with them.

    Raises DependencyMissing, ModelFileMissing, WrongModelFile, or InvalidRequest if one of them is nano's and the other
    is not.
    """
    if is_nano(parser) != is_nano(siglip):
        own, other = (parser, siglip) if is_nano(parser) else (siglip, parser)
        raise InvalidRequest(
            f"choose {FILES['face_encoder']} and {FILES['clip_visual_encoder']} together, or neither: {own.name} "
            f"belongs to the nano model and {other.name} does not"
        )
    detector = find_detector(nano=is_nano(parser))
    return HostFaceEncoders(FaceEncoders(detector, FaceParser.load(parser), SiglipEncoder.load(siglip)))


def find_detector(nano: bool = False) -> FaceDetector:
    """antelopev2 from the first of the host's insightface folders that holds it, however deep; or nano's."""
    own = [FOLDER / "face_encoder"]
    places = own if nano else [Path(place) for place in folder_paths.get_folder_paths(INSIGHTFACE)]
    for place in places:
        files = [path for name in (DETECTOR, RECOGNISER) for path in sorted(place.rglob(name))]
        if {path.name for path in files} == {DETECTOR, RECOGNISER}:
            return _load(place, tuple((path, path.stat().st_mtime_ns) for path in files))
    searched = ", ".join(map(str, places))
    raise ModelFileMissing(
        f"antelopev2 is missing: run {install()}, or put {DETECTOR} and {RECOGNISER} into "
        f"models/insightface/models/antelopev2; searched {searched}"
    )


@lru_cache(maxsize=2)
def _load(place: Path, files: tuple[tuple[Path, int], ...]) -> FaceDetector:
    """Loads them again only when `files` have changed."""
    return FaceDetector(place)
