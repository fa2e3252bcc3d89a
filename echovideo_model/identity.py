"""Who is in the video: a person's identity, made from one photo or several, kept in one small file."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from .errors import FaceIndexOutOfRange, InvalidRequest, NoFaceFound, WrongModelFile
from .face.align import FACE_SIZE, align_face
from .face.choice import LARGEST, FaceChoice, choose_face
from .face.detect import EMBEDDING_WIDTH, Face, cosine_similarity, explain_no_face
from .face.encoders import Detector, FaceEncoders
from .face.person import check_mask, cut_out_person, select_faces_inside
from .face.photo import limit_long_edge, load_photo
from .facts import ENCODERS_KEY, ModelFacts, check_encoders_fit
from .files import write_atomically
from .limits import MAX_STRENGTH

logger = logging.getLogger(__name__)

STRANGERS = 0.2  # ArcFace embeddings of two people are rarely more similar, of one person rarely less
_THUMBNAIL_SIZE = 256
_WHOLE_PERSON = "echovideo.whole_person"
_SHAPES = {
    "id_embedding": (512,),
    "face_tokens": (196, 768),
    "null_tokens": (196, 768),
    "face_picture": (512, 512, 3),
}

Photo = str | Path | Image.Image | np.ndarray
OnPhoto = Callable[[int, int], None]
"""Called with how many photos were searched and how many there are; the encoding at the end counts as one more."""


@dataclass(frozen=True, eq=False)
class Identity:
    """What the model knows a person by. Tensors are float32 on the CPU."""

    id_embedding: Tensor  # [512]: ArcFace, not normalised
    face_tokens: Tensor  # [196, 768]: SigLIP's view of the face picture
    null_tokens: Tensor  # [196, 768]: SigLIP's view of a black picture, for the negative branch
    face_picture: np.ndarray  # uint8 RGB [512, 512, 3]: the aligned face, or the whole person; the rest black
    encoders: str = ""  # the name of the face encoders that made it; "" is the released ones
    whole_person: bool = False

    def with_strength(self, strength: float, tokens: float | None = None) -> Identity:
        """This identity between nobody (0), itself (1) and an exaggeration (up to 1.5).

        Embedding and tokens move in a straight line from the null ones (zero, null_tokens); `tokens` gives the
        tokens a strength of their own. The face picture stays. Raises InvalidRequest outside 0..1.5.
        """
        tokens = strength if tokens is None else tokens
        for value in (strength, tokens):
            if not 0 <= value <= MAX_STRENGTH:
                raise InvalidRequest(f"identity strength must be from 0 to {MAX_STRENGTH}, not {value}")
        return replace(
            self,
            id_embedding=self.id_embedding * strength,
            face_tokens=torch.lerp(self.null_tokens, self.face_tokens, tokens),
        )

    def similarity(self, embedding: np.ndarray | Tensor) -> float:
        """Cosine, -1..1, with another face's embedding [512]."""
        return cosine_similarity(self.id_embedding.numpy(), np.asarray(embedding))

    def save(self, path: str | Path, title: str | None = None) -> None:
        """One .safetensors file with a thumbnail of the face in its metadata; written whole or not at all.

        `title` is the person's name in file browsers, by default the file's. Raises InvalidRequest if nothing can
        be written there.
        """
        tensors = {name: getattr(self, name) for name in _SHAPES}
        tensors["face_picture"] = torch.tensor(self.face_picture)
        metadata = {
            "format": "pt",
            "echovideo.identity.version": "1",
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.title": title or Path(path).stem,
            "modelspec.architecture": "echovideo/identity",
            "modelspec.thumbnail": _thumbnail(self.face_picture),
            ENCODERS_KEY: self.encoders,
            _WHOLE_PERSON: str(self.whole_person),
        }
        with write_atomically(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))  # save_file would keep other users from reading it

    @classmethod
    def load(cls, path: str | Path) -> Identity:
        """What `save` wrote; where the file names no face encoders, as older ones do not, the released ones made it.

        Raises InvalidRequest for a missing file, WrongModelFile for anything else.
        """
        if not Path(path).is_file():
            raise InvalidRequest(
                f"no identity file at {path}: make one from a photo with `echovideo identity`"
            )
        try:
            tensors = load_file(path)
            with safe_open(path, "pt") as opened:
                said = opened.metadata() or {}
        except (SafetensorError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise WrongModelFile(
                f"{path} is not an identity, or it is truncated ({reason}): make the identity again"
            ) from error
        for name, shape in _SHAPES.items():
            dtype = torch.uint8 if name == "face_picture" else torch.float32
            if name not in tensors:
                holds = f", it holds {min(tensors)}" if tensors else ""
                raise WrongModelFile(f"{path} is not an identity: {name} is missing{holds}")
            found = tensors[name]
            if tuple(found.shape) != shape or found.dtype != dtype:
                raise WrongModelFile(
                    f"{path} is not an identity: {name} is {found.dtype} {list(found.shape)}, not {dtype} {list(shape)}"
                )
            if not found.isfinite().all():
                raise WrongModelFile(
                    f"{path} is damaged: {name} holds NaN or infinity; make the identity again"
                )
        embedding, tokens, null, picture = (tensors[name].clone() for name in _SHAPES)
        encoders, whole_person = said.get(ENCODERS_KEY, ""), said.get(_WHOLE_PERSON) == str(True)
        return cls(embedding, tokens, null, picture.numpy(), encoders, whole_person)


class ChosenFace(NamedTuple):
    """A photo, uint8 RGB [H, W, 3], the chosen face, and the mask if the whole person is used."""

    photo: np.ndarray
    face: Face
    mask: np.ndarray | None = None  # uint8 [H, W]


def find_face(
    photo: Photo, detector: Detector, choice: FaceChoice = LARGEST, mask: np.ndarray | None = None
) -> ChosenFace:
    """The chosen face of `photo`, and the photo as it was searched: limited to 1024 pixels, then padded.

    `mask`, uint8 [H, W], is 255 where the person is; faces outside it do not count.
    Raises InvalidRequest, NoFaceFound or FaceIndexOutOfRange.
    """
    given = load_photo(photo)
    if mask is not None:
        check_mask(mask, given)
        mask = _as_searched(mask, choice)
    pixels = _as_searched(given, choice)
    try:
        faces = detector.detect(pixels)
    except NoFaceFound as error:
        raise explain_no_face(given.shape[1], given.shape[0]) from error
    return ChosenFace(
        pixels, choose_face(faces if mask is None else select_faces_inside(faces, mask), choice), mask
    )


def _as_searched(pixels: np.ndarray, choice: FaceChoice) -> np.ndarray:
    """[H, W, 3] or [H, W], limited to 1024 pixels, then padded with black."""
    pixels = limit_long_edge(pixels)
    rows, columns = (round(side * choice.padding) for side in pixels.shape[:2])
    return np.pad(pixels, ((rows, rows), (columns, columns), (0, 0))[: pixels.ndim])


def find_faces(
    photos: Sequence[Photo],
    detector: Detector,
    choice: FaceChoice = LARGEST,
    on_photo: OnPhoto | None = None,
    masks: Sequence[np.ndarray] | None = None,
) -> list[ChosenFace]:
    """`find_face` in each photo, with its mask; one without a face does what the choice's on_no_face says.

    A chosen face's own warning is logged.
    Raises what find_face raises, with the photo's number, from 1, if there are several; NoFaceFound if all were
    skipped; InvalidRequest without photos, or for another number of masks.
    """
    if not photos:
        raise InvalidRequest("an identity needs at least one photo, but none was given")
    if masks is not None and len(masks) != len(photos):
        raise InvalidRequest(f"there must be one mask for each photo: {len(photos)}, not {len(masks)}")
    chosen = []
    for number, photo in enumerate(photos, start=1):
        which = f"photo {number} of {len(photos)}: " if len(photos) > 1 else ""
        try:
            chosen.append(find_face(photo, detector, choice, masks[number - 1] if masks else None))
            if warning := chosen[-1].face.warning:
                logger.warning("%s%s", which, warning)
        except (NoFaceFound, FaceIndexOutOfRange, InvalidRequest) as error:
            if not isinstance(error, NoFaceFound) or choice.on_no_face == "error":
                raise type(error)(f"{which}{error}") from error
            logger.warning("%s%s", which, error)
        if on_photo:
            on_photo(number, len(photos) + 1)
    if not chosen and choice.on_no_face == "skip photo":
        where = (
            "the photo: use another photo"
            if len(photos) == 1
            else f"any of the {len(photos)} photos: use others"
        )
        raise NoFaceFound(f'no face in {where}, or set on_no_face to "no identity"')
    return chosen


def make_identity(chosen: Sequence[ChosenFace], encoders: FaceEncoders) -> Identity:
    """The identity of one person from the faces chosen in their photos; without any, the identity of nobody.

    Embeddings are averaged, and the mean is given their mean length, which averaging shortens and the model reads.
    Face picture and tokens come from the best photo: the greatest confidence x area of the face's box. Where it has a
    mask, the face picture shows the whole person (cut_out_person) instead of the aligned face.
    Nobody is what the negative branch always takes: a zero embedding, and SigLIP's tokens of a black picture.
    """
    if not chosen:
        black = np.zeros((FACE_SIZE, FACE_SIZE, 3), np.uint8)
        null = encoders.siglip.null_tokens(black)
        return Identity(torch.zeros(EMBEDDING_WIDTH), null, null, black, encoders.name)
    best = max(chosen, key=lambda one: one.face.confidence * one.face.area)
    _warn_of_strangers(chosen, best)
    if best.mask is None:
        picture = encoders.parser.face_picture(align_face(best.photo, best.face.landmarks))
    else:
        picture = cut_out_person(best.photo, best.mask)
    return Identity(
        id_embedding=torch.tensor(_mean_embedding([one.face.embedding for one in chosen])),
        face_tokens=encoders.siglip.tokens(picture),
        null_tokens=encoders.siglip.null_tokens(picture),
        face_picture=picture,
        encoders=encoders.name,
        whole_person=best.mask is not None,
    )


def identify(
    photos: Photo | Sequence[Photo],
    encoders: FaceEncoders,
    choice: FaceChoice = LARGEST,
    on_photo: OnPhoto | None = None,
    masks: Sequence[np.ndarray] | None = None,
) -> Identity:
    """The identity of the person in one photo, or in several photos of one person: find_faces, then make_identity.

    masks: uint8 [H, W] for each photo, 255 where the person is: the identity is then made of the whole person, and
    only the embedding of the face. Raises what find_faces raises.
    """
    several = [photos] if isinstance(photos, Photo) else list(photos)
    identity = make_identity(find_faces(several, encoders.detector, choice, on_photo, masks), encoders)
    if on_photo:
        on_photo(len(several) + 1, len(several) + 1)
    return identity


def check_identity_fits(identity: Identity, facts: ModelFacts) -> None:
    """Raises InvalidRequest if other face encoders made `identity` than the transformer was trained with."""
    check_encoders_fit(identity.encoders, facts)


def _mean_embedding(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """float32 [512]: the mean's direction with the embeddings' mean length; a single one stays as it is."""
    if len(embeddings) == 1:
        return embeddings[0]
    stacked = np.stack(embeddings).astype(np.float64)  # [photos, 512]
    mean = stacked.mean(0)
    length = np.linalg.norm(mean)
    wanted = np.linalg.norm(stacked, axis=1).mean()
    return (mean * (wanted / length if length else 0.0)).astype(np.float32)


def _warn_of_strangers(chosen: Sequence[ChosenFace], best: ChosenFace) -> None:
    for number, one in enumerate(chosen, start=1):
        likeness = cosine_similarity(one.face.embedding, best.face.embedding)
        if likeness < STRANGERS:
            logger.warning(
                "the face in photo %d looks like another person's (similarity %.2f)", number, likeness
            )


def _thumbnail(face_picture: np.ndarray) -> str:
    """A small JPEG as a data URI, which is what file browsers show."""
    picture = Image.fromarray(face_picture)
    picture.thumbnail((_THUMBNAIL_SIZE, _THUMBNAIL_SIZE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
