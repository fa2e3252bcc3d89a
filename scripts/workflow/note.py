"""The note at the left of every workflow: what it is for, which files it needs, under which licences."""

from __future__ import annotations

from typing import Any

from .layout import TOP
from .models import MODELS

NOTE = """{about}

**Models.** One command puts every file into its place; PATH is ComfyUI's folder:

**echovideo models install --comfyui PATH**

By hand: download each file, give it the name shown here, and put it into the folder shown here.

{files}

ComfyUI's own list of missing models has all of these but the two .onnx files, so what it offers to download is not \
enough. A browser saves its downloads elsewhere and under other names: rename and move them.

**Licences.** EchoVideo's weights: CC BY-NC 4.0. antelopev2 (.onnx): non-commercial research only. CogVideoX-5b's \
VAE: CogVideoX License, commercial use after registration. T5 and SigLIP: Apache-2.0. BiSeNet: MIT.

Use photos of people who agreed to it."""


def note(title: str, about: str, order: int) -> dict[str, Any]:
    files = "\n".join(
        f"- **models/{one['directory']}/{one['name']}** [download]({one['url']})" for one in MODELS
    )
    return {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [-40, TOP],
        "size": [420, 500],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "title": title,
        "color": "",  # the theme's: on the note's own brown, Nodes 2.0 makes text hard to read
        "bgcolor": "",
        "widgets_values": [NOTE.format(about=about, files=files)],
    }
