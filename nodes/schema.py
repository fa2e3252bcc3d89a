"""What all node schemas have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

CATEGORY = "EchoVideo"
KNOWN = {field.name for field in fields(io.Schema)}
FaceEncoders = io.Custom("ECHOVIDEO_FACE_ENCODERS")
Identity = io.Custom("ECHOVIDEO_IDENTITY")


def make_schema(node_id: str, display_name: str, **description: Any) -> io.Schema:
    """io.Schema without the fields that this host does not know yet (search_aliases and the like)."""
    description.setdefault("category", CATEGORY)
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        **{name: value for name, value in description.items() if name in KNOWN},
    )
