"""From a photo to what the model needs of a person: detect, align, parse, encode."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from ..errors import DependencyMissing

DOWNLOAD = "get it with `echovideo models download`"


def import_optional(package: str) -> Any:
    """The module `package`, imported now. Raises DependencyMissing with the one command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DependencyMissing(
            f'"{sys.executable}" -m pip install "insightface>=1.0" onnxruntime: reading faces needs '
            f"{package.partition('.')[0]}, which cannot be imported ({error})"
        ) from error
