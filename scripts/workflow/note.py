"""The notes at the left of every workflow: what it is for and what to do first; settings, the files it needs, and their
licences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from echovideo_model.nano import words
from echovideo_model.nano.palette import CLOTHES

from .layout import Node
from .models import MODELS

START = """{about}

1. **Download** 23 GB, once: **echovideo models install --comfyui PATH**
2. **Install insightface:** **python -m pip install "insightface>=1.0" onnxruntime**
3. **Load a photo** and **click the face** of the person.
4. **Write** what the person does. **Run.**"""

FILES = """**Settings**, as measured on the nano model. In 20 steps, dpmpp_2m with the scheduler beta comes nearest to \
100 steps; heun, dpm_fast and linear_quadratic do badly. Over 50 steps, EasyCache with reuse_threshold 0.1 saves a \
third of the time. LazyCache ruins short runs.

**Files.** PATH is ComfyUI's folder, and pip that of ComfyUI's own Python.

**By hand:** download each file, give it the name shown here, and put it into the folder shown here.

{files}

ComfyUI's own list of missing models has all of these but the two .onnx files, so what it offers to download is not \
enough. A browser saves its downloads elsewhere and under other names: rename and move them.

**Licences.** EchoVideo's weights: CC BY-NC 4.0. antelopev2 (.onnx): non-commercial research only. CogVideoX-5b's \
VAE: CogVideoX License, commercial use after registration. T5 and SigLIP: Apache-2.0. BiSeNet: MIT.

Use photos of people who agreed to it."""


NANO_START = """{about}

**Models.** There is nothing to download: the nano model comes with this pack. It has EchoVideo's architecture at \
about a five-hundredth of its size, and was trained on drawn people alone. For real people take the quick start.

Reading a face needs the Python packages insightface and onnxruntime, as with every model.
"""

NANO_WORDS = """**Words.** It knows one short sentence, of at most {tokens} words and marks:

- who: {people}; in a {colours} {garments}
- does what: {actions}
- where: {places}
- how the camera moves: {cameras}

**Licence.** Apache-2.0, as the code. Nobody here exists."""


def describe_nano() -> str:
    def join(phrases: Iterable[str]) -> str:
        return ", ".join(phrases)

    def first(table: dict[str, tuple[str, ...]]) -> str:
        return join(phrases[0].format(their="the", side="") for phrases in table.values())

    return NANO_WORDS.format(
        tokens=words.MAX_TOKENS - 1,
        people=first(words.NOUN_WORDS),
        colours=" / ".join(CLOTHES),
        garments=" / ".join(words.GARMENT_WORDS),
        actions=first(words.ACTION_WORDS),
        places=first(words.PLACE_WORDS),
        cameras=first(words.CAMERA_WORDS),
    )


def describe_released() -> str:
    return FILES.format(
        files="\n".join(
            f"- **models/{one['directory']}/{one['name']}** [download]({one['url']})" for one in MODELS
        )
    )


def notes(about: str, order: int, places: tuple[Node, Node], nano: bool = False) -> list[dict[str, Any]]:
    """The first steps, and, folded up below them, the rest. nano: whether the workflow chooses the nano model's files,
    and so needs none of the released ones."""
    first = (NANO_START if nano else START).format(about=about)
    rest = ("Words and licence", describe_nano()) if nano else ("Settings and files", describe_released())
    written = (("Start here", first), rest)  # longer titles would widen the notes
    return [
        draw(number, title, text, order + number - 1, place)
        for number, ((title, text), place) in enumerate(zip(written, places, strict=True), start=1)
    ]


def draw(id: int, title: str, text: str, order: int, place: Node) -> dict[str, Any]:
    return {
        "id": id,
        "type": "MarkdownNote",
        "pos": [place.left, place.top],
        "size": [place.width, place.height],
        "flags": {"collapsed": True} if place.collapsed else {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "title": title,
        "color": "",  # the theme's: on the note's own brown, Nodes 2.0 makes text hard to read
        "bgcolor": "",
        "widgets_values": [text],
    }
