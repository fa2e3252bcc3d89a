"""EchoVideo as a native ComfyUI model. What the host reads is `comfy_entrypoint`; everything else is in nodes/."""

import sys
from importlib.util import find_spec

if "folder_paths" in sys.modules:  # inside ComfyUI, not in a test run that only collects this folder
    if find_spec("comfy_api") is None or find_spec("comfy_api.latest") is None:
        raise ImportError("ComfyUI-EchoVideo needs ComfyUI 0.3.64 or newer (its V3 node API): update ComfyUI")

    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"  # the face picker, the other nodes' drawings and the help pages
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
