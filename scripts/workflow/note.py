"""The note at the left of every workflow: what it is for, which files it needs, under which licences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from echovideo_model.nano import words
from echovideo_model.nano.palette import CLOTHES

from .layout import Node
from .models import MODELS

NOTE = """{about}

1. **Download** 23 GB, once; PATH is ComfyUI's folder: **echovideo models install --comfyui PATH**
2. **Install insightface** into ComfyUI's Python: **python -m pip install "insightface>=1.0" onnxruntime**
3. **Load a photo.** Where it shows several people, **click the face** in EchoVideo Identity.
4. **Write what the person does**, in English, and press Run.

**By hand:** download each file, give it the name shown here, and put it into the folder shown here.

{files}

ComfyUI's own list of missing models has all of these but the two .onnx files, so what it offers to download is not \
enough. A browser saves its downloads elsewhere and under other names: rename and move them.

**Licences.** EchoVideo's weights: CC BY-NC 4.0. antelopev2 (.onnx): non-commercial research only. CogVideoX-5b's \
VAE: CogVideoX License, commercial use after registration. T5 and SigLIP: Apache-2.0. BiSeNet: MIT.

Use photos of people who agreed to it."""


NANO_NOTE = """{about}

**Models.** There is nothing to download: the nano model comes with this pack. It has EchoVideo's architecture at \
about a five-hundredth of its size, and was trained on drawn people alone. For real people take the quick start.

Reading a face needs the Python packages insightface and onnxruntime, as with every model.

**Words.** It knows one short sentence, of at most {tokens} words and marks:

- who: {people}; in a {colours} {garments}
- does what: {actions}
- where: {places}
- how the camera moves: {cameras}

**Licence.** Apache-2.0, as the code. Nobody here exists."""


def describe_nano(about: str) -> str:
    def join(phrases: Iterable[str]) -> str:
        return ", ".join(phrases)

    def first(table: dict[str, tuple[str, ...]]) -> str:
        return join(phrases[0].format(their="the", side="") for phrases in table.values())

    return NANO_NOTE.format(
        about=about,
        tokens=words.MAX_TOKENS - 1,
        people=first(words.NOUN_WORDS),
        colours=" / ".join(CLOTHES),
        garments=" / ".join(words.GARMENT_WORDS),
        actions=first(words.ACTION_WORDS),
        places=first(words.PLACE_WORDS),
        cameras=first(words.CAMERA_WORDS),
    )


def describe_released(about: str) -> str:
    files = "\n".join(
        f"- **models/{one['directory']}/{one['name']}** [download]({one['url']})" for one in MODELS
    )
    return NOTE.format(about=about, files=files)


def note(about: str, order: int, corner: Node, nano: bool = False) -> dict[str, Any]:
    """nano: whether the workflow chooses the nano model's files, and so needs none of the released ones."""
    return {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [corner.left, corner.top],
        "size": [corner.width, corner.height],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "title": "Start here",  # a longer one would widen it
        "color": "",  # the theme's: on the note's own brown, Nodes 2.0 makes text hard to read
        "bgcolor": "",
        "widgets_values": [describe_nano(about) if nano else describe_released(about)],
    }
