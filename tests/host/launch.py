"""Starts the ComfyUI in the current folder, standing in for a torchvision whose compiled part does not load.

The newest torch and the newest torchvision do not always fit each other; without its compiled operators
torchvision cannot even be imported. No host needs them to run our models, so declaring them is enough.
"""

from __future__ import annotations

import os
import runpy
import sys

import torch

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def torchvision_imports() -> bool:
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return False
    return True


if __name__ == "__main__":
    declared = None
    if not torchvision_imports():
        declared = torch.library.Library("torchvision", "DEF")
        declared.define("nms" + BOXES)
        declared.define("qnms" + BOXES)
    sys.path[0] = os.getcwd()
    sys.argv = ["main.py", *sys.argv[1:]]
    runpy.run_path("main.py", run_name="__main__")
