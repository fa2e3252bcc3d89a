"""Starts the ComfyUI in the current folder, standing in for a torchvision whose compiled part does not load.

The newest torch and the newest torchvision do not always fit each other; without its compiled operators
torchvision cannot even be imported. No host needs them to run our models, so declaring them is enough.
"""

from __future__ import annotations

import os
import runpy
import sys

BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def stand_in_for_torchvision() -> None:
    """Declares torchvision's two operators if its own library cannot; call this before anything imports torchvision."""
    import torch

    try:
        import torchvision  # noqa: F401
    except ImportError:
        return  # then it is not needed
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", BOXES)


if __name__ == "__main__":
    stand_in_for_torchvision()
    sys.path[0] = os.getcwd()
    sys.argv = ["main.py", *sys.argv[1:]]
    runpy.run_path("main.py", run_name="__main__")
