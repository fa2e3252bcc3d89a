"""The person to show: face encoders, an identity from photos, and saved identities."""

from __future__ import annotations

import os
from typing import Any

import folder_paths
import numpy as np
from comfy.utils import ProgressBar
from comfy_api.latest import io, ui
from torch import Tensor

from ..echovideo_model.face.align import align_face
from ..echovideo_model.face.choice import FaceChoice, rank_faces
from ..echovideo_model.face.detect import Face
from ..echovideo_model.face.encoders import require_same_set
from ..echovideo_model.face.person import select_faces_inside
from ..echovideo_model.identity import ChosenFace, find_faces, make_identity
from ..echovideo_model.identity import Identity as IdentityData
from ..echovideo_model.limits import FACE_ORDERS, MAX_PADDING, ON_NO_FACE
from .host import folders
from .host.encoders import HostFaceEncoders, load_face_encoders
from .host.faces import RecordingDetector, describe
from .preview import draw_faces, make_sheet, to_image, to_masks, to_photos
from .schema import FaceEncoders as FaceEncodersSocket
from .schema import Identity, make_schema


class LoadEchoVideoFaceEncoders(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoLoadFaceEncoders",
            "Load EchoVideo Face Encoders",
            description=(
                "Loads the networks that read faces: antelopev2 (found automatically below "
                "models/insightface), the BiSeNet parser and SigLIP base. Needs the packages "
                "insightface and onnxruntime. antelopev2 is for non-commercial research only. Connect "
                "it to EchoVideo Identity and EchoVideo Identity Score."
            ),
            search_aliases=["insightface", "antelopev2", "siglip", "bisenet"],
            inputs=[
                io.Combo.Input(
                    "parser_name",
                    options=folders.list_files(folders.FACE_PARSERS),
                    tooltip="parsing_bisenet.pth in models/facemodels.",
                ),
                io.Combo.Input(
                    "siglip_name",
                    options=folders.list_files(folders.CLIP_VISION),
                    tooltip="SigLIP base, 224 x 224 (model.safetensors of google/siglip-base-patch16-224), in "
                    "models/clip_vision.",
                ),
            ],
            outputs=[
                FaceEncodersSocket.Output(
                    display_name="face_encoders",
                    tooltip="For EchoVideo Identity and EchoVideo Identity Score.",
                )
            ],
        )

    @classmethod
    def execute(cls, parser_name: str, siglip_name: str) -> io.NodeOutput:
        parser = folders.resolve(folders.FACE_PARSERS, parser_name)
        return io.NodeOutput(load_face_encoders(parser, folders.resolve(folders.CLIP_VISION, siglip_name)))

    @classmethod
    def validate_inputs(cls, parser_name: str | None = None, siglip_name: str | None = None) -> bool | str:
        return folders.check({folders.FACE_PARSERS: parser_name, folders.CLIP_VISION: siglip_name})


class EchoVideoIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoIdentity",
            "EchoVideo Identity",
            description=(
                "Makes a person's identity from one photo, or from a batch of photos of the same "
                "person. Shows the faces found (numbered, the chosen one in green) and the face "
                "picture that the model will see. Connect Load Image to photos, and the identity to "
                "EchoVideo Conditioning."
            ),
            search_aliases=["face", "reference photo", "arcface"],
            is_output_node=True,  # so that the preview stays when nothing has changed
            inputs=[
                FaceEncodersSocket.Input("face_encoders", tooltip="From Load EchoVideo Face Encoders."),
                io.Image.Input(
                    "photos", tooltip="One photo, or a batch of the same person. Upright, sharp, uncovered."
                ),
                io.Combo.Input(
                    "face_order",
                    options=list(FACE_ORDERS),
                    default="largest",
                    tooltip="How the faces in a photo are numbered. closest: by likeness to the identity below.",
                ),
                io.Int.Input(
                    "face_index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which face in that order, counted from 0: face 1 on the photo is 0.",
                ),
                io.Float.Input(
                    "padding",
                    default=0.0,
                    min=0.0,
                    max=MAX_PADDING,
                    step=0.05,
                    tooltip="Black padding on every side of the photo; helps if a face fills it.",
                ),
                io.Combo.Input(
                    "on_no_face",
                    options=list(ON_NO_FACE),
                    default="error",
                    tooltip="What to do with a photo that shows no face: stop, skip it, or continue with the "
                    "prompt alone.",
                ),
                Identity.Input(
                    "closest_to",
                    optional=True,
                    tooltip="For the order closest: the person to look for.",
                ),
                io.Mask.Input(
                    "masks",
                    optional=True,
                    tooltip="One per photo, of the same size, white where the person is: the whole person then "
                    "makes the identity instead of the face. Experimental on the released weights.",
                ),
            ],
            outputs=[
                Identity.Output(
                    display_name="identity",
                    tooltip="For EchoVideo Conditioning; Save EchoVideo Identity saves it.",
                ),
                io.Image.Output(
                    display_name="face_picture",
                    tooltip="What the model sees: aligned, on a black background.",
                ),
                io.Mask.Output(
                    display_name="face_mask", tooltip="White where the face picture shows the face."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        face_encoders: HostFaceEncoders,
        photos: Tensor,
        face_order: str,
        face_index: int,
        padding: float,
        on_no_face: str,
        closest_to: IdentityData | None = None,
        masks: Tensor | None = None,
    ) -> io.NodeOutput:
        encoders = face_encoders.ready()
        like = None
        if closest_to is not None:
            require_same_set(encoders.name, closest_to.encoders)
            like = closest_to.id_embedding.numpy()
        choice = FaceChoice(face_order, face_index, like, padding, on_no_face)
        detector = RecordingDetector(encoders.detector)
        pictures = to_photos(photos)
        bar = ProgressBar(len(pictures) + 1)
        cut = None if masks is None else to_masks(masks)
        chosen = find_faces(pictures, detector, choice, bar.update_absolute, cut)
        identity = make_identity(chosen, encoders)
        bar.update(1)
        picture = to_image(identity.face_picture)
        preview = make_preview(detector.seen, chosen, choice, identity.face_picture, cls)
        return io.NodeOutput(identity, picture, (picture > 0).any(-1).float(), ui=preview)


def make_preview(
    seen: list[tuple[np.ndarray, list[Face]]],
    chosen: list[ChosenFace],
    choice: FaceChoice,
    face_picture: np.ndarray,
    cls: type[io.ComfyNode],
) -> dict[str, Any]:
    """For the page: a sheet of everything, and each photo's faces for the face picker."""
    sheets, photos = [], []
    for photo, faces in seen:
        mask = next((one.mask for one in chosen if one.photo is photo), None)
        faces = faces if mask is None else select_faces_inside(faces, mask)  # as they are counted
        places = rank_faces(faces, choice)
        mine = next((place for place in places if any(faces[place] is one.face for one in chosen)), None)
        sheets.append(
            draw_faces(photo, [faces[place] for place in places], None if mine is None else faces[mine])
        )
        photos.append(describe(photo, faces, choice.like) | {"chosen": mine, "photo": save(photo, cls)})
        if mine is not None:
            photos[-1]["aligned"] = save(align_face(photo, faces[mine].landmarks), cls)
    return {
        "images": [save(make_sheet([*sheets, face_picture]), cls)],
        "echovideo_faces": photos,
        "echovideo_face_picture": [save(face_picture, cls)],
    }


def save(picture: np.ndarray, cls: type[io.ComfyNode]) -> dict[str, str]:
    """Name, subfolder and type of a picture that the page may show, kept until the host stops."""
    return ui.PreviewImage(to_image(picture), cls=cls).as_dict()["images"][0]


class SaveEchoVideoIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoSaveIdentity",
            "Save EchoVideo Identity",
            description=(
                "Saves an identity to a small .safetensors file below output/echovideo_identities, "
                "where Load EchoVideo Identity finds it. The file holds a person's biometric data: "
                "share it accordingly."
            ),
            is_output_node=True,
            inputs=[
                Identity.Input("identity", tooltip="From EchoVideo Identity."),
                io.String.Input(
                    "filename_prefix", default="identity", tooltip="The file's name; a number is added."
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="saved_name", tooltip="The name to choose in Load EchoVideo Identity."
                )
            ],
        )

    @classmethod
    def execute(cls, identity: IdentityData, filename_prefix: str) -> io.NodeOutput:
        root = os.path.join(folder_paths.get_output_directory(), folders.IDENTITIES)
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, root)
        file = f"{name}_{number:05}_.safetensors"  # the form in which the host numbers files
        identity.save(os.path.join(folder, file), title=name)
        return io.NodeOutput(os.path.join(subfolder, file), ui={"text": [os.path.join(subfolder, file)]})


class LoadEchoVideoIdentity(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoLoadIdentity",
            "Load EchoVideo Identity",
            description=(
                "Loads an identity written by Save EchoVideo Identity or the command line, from "
                "models/echovideo_identities or output/echovideo_identities. Needs no face encoders."
            ),
            inputs=[
                io.Combo.Input(
                    "identity_name",
                    options=folders.list_files(folders.IDENTITIES),
                    tooltip="An identity file.",
                )
            ],
            outputs=[
                Identity.Output(display_name="identity", tooltip="For EchoVideo Conditioning."),
                io.Image.Output(display_name="face_picture", tooltip="The face picture kept in the file."),
            ],
        )

    @classmethod
    def execute(cls, identity_name: str) -> io.NodeOutput:
        identity = IdentityData.load(folders.resolve(folders.IDENTITIES, identity_name))
        return io.NodeOutput(identity, to_image(identity.face_picture))

    @classmethod
    def validate_inputs(cls, identity_name: str | None = None) -> bool | str:
        return folders.check({folders.IDENTITIES: identity_name})

    @classmethod
    def fingerprint_inputs(cls, identity_name: str) -> Any:
        path = folder_paths.get_full_path(folders.IDENTITIES, identity_name)
        return os.path.getmtime(path) if path else identity_name
