"""Chooses devices, and keeps a network on its device only while it works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import InvalidRequest
from .weights.loading import Network


def find_device(name: torch.device | str | None = None) -> torch.device:
    """The device called `name`, proven to work; by default CUDA (or ROCm), else Apple's GPU, else the CPU.

    Raises InvalidRequest for one that is not here, naming those that are.
    """
    if name is None:
        return torch.device(_list_devices()[0])
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # what PyTorch raises, by kind of device
        raise InvalidRequest(
            f'device "{name}" is not available here: choose {" or ".join(_list_devices())}'
        ) from error
    return device


def computes_slowly(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether `device` emulates `dtype`: bfloat16 on an x86 CPU without AVX-512, where a training step of nano took
    more than ten times as long as in float32 (PyTorch 2.13)."""
    emulated = torch.backends.cpu.get_cpu_capability() == "AVX2"
    return emulated and dtype == torch.bfloat16 and device.type == "cpu"


def find_devices(name: str | None, ranks: int) -> list[torch.device]:
    """A device for each of the ranks of this machine: a GPU of its own, or a share of the CPU.

    Nothing is put on a GPU here, since that would stay in its memory. Raises InvalidRequest.
    """
    gpus = torch.cuda.device_count()
    name = name or ("cuda" if gpus else _list_devices()[0])
    if name == "cuda" and gpus:
        if ranks > gpus:
            raise InvalidRequest(
                f"{ranks} ranks need {ranks} GPUs, but this machine has {gpus}: choose --ranks {gpus}, "
                "or --device cpu"
            )
        return [torch.device("cuda", index) for index in range(ranks)]
    device = find_device(name)
    if device.type != "cpu":
        raise InvalidRequest(f'several ranks need --device cuda, with one GPU each, or cpu, not "{name}"')
    return [device] * ranks


def find_rank_device(name: str | None) -> torch.device:
    """The device of this process among those of torchrun on this machine; without torchrun, as find_device."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return find_device(name)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    return find_devices(name, here)[int(os.environ["LOCAL_RANK"])]


def _list_devices() -> list[str]:
    """The devices to choose from, best first."""
    count = torch.cuda.device_count()
    gpus = ["cuda"] if count == 1 else [f"cuda:{index}" for index in range(count)]
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def read_total_memory(device: torch.device) -> int:
    """Bytes of a GPU's own memory; 0 if the device has none or does not say."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


@contextmanager
def on_device(network: Network, device: torch.device) -> Iterator[Network]:
    """The network on `device` for the block's duration; afterwards its parameters are the mapped ones again, so
    nothing is copied back and nothing is left on the device."""
    if device.type == "cpu":
        yield network
        return
    at_home = [
        (module, name, parameter, parameter.data)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
    ]
    try:
        yield network.to(device)
    finally:
        # PyTorch moves a parameter's data or, between unlike kinds of device, puts another parameter in its place.
        for module, name, parameter, data in at_home:
            parameter.data = data
            setattr(module, name, parameter)
        if runtime := getattr(torch, device.type, None):
            runtime.empty_cache()
