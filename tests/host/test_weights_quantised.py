"""What the library reads of a quantised file is what the host's own layers make of it, and what it writes they read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from echovideo_model.tiny import networks
from echovideo_model.weights.loading import convert, is_bulk, load_transformer
from testbed.inside import run_inside

# Run in the host's folder, one of the parts below after it.
HOST = """
plain, quantised, read, form = arguments
import comfy.ops, comfy.utils, json, torch
from safetensors.torch import load_file, save_file
try:
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor
except ImportError:
    QUANT_ALGOS = {}
name, _, how = form.partition(" ")
known = "float8_e4m3fn" if name == "scaled_fp8" else name
if known not in QUANT_ALGOS or not hasattr(comfy.utils, "convert_old_quants"):
    sys.exit(LACKS)
layout, options = QUANT_ALGOS[known]["comfy_tensor_layout"], {"scale": "recalculate"}
if known == "mxfp8":
    options = {}
if name == "int8_tensorwise":
    options = {"per_channel": bool(how), "convrot": how == "rotated", "convrot_groupsize": 16}
wide = load_file(plain)
"""
# Quantises every matrix of the blocks with the host's layouts.
QUANTISING = """
state = dict(wide)
layers = [key[:-7] for key in state if key.startswith("transformer_blocks.") and state[key].ndim == 2]
for layer in layers:
    weight = QuantizedTensor.from_float(state[layer + ".weight"].bfloat16(), layout, **options)
    state.update(weight.state_dict(layer + ".weight"))
    conf = {"format": known}
    if how == "rotated":
        conf |= {"convrot": True, "convrot_groupsize": 16}
    if name == "scaled_fp8":
        state[layer + ".scale_weight"] = state.pop(layer + ".weight_scale")
    else:
        state[layer + ".comfy_quant"] = torch.tensor(list(json.dumps(conf).encode()), dtype=torch.uint8)
if name == "scaled_fp8":
    state["scaled_fp8"] = torch.zeros(0, dtype=torch.float8_e4m3fn)
save_file({key: tensor.contiguous() for key, tensor in state.items()}, quantised)
"""
# Reads a file with the host's layers, and writes what they hold.
READING = """
state, _ = comfy.utils.convert_old_quants(load_file(quantised), model_prefix="", metadata={})
layers = [key[:-12] for key in state if key.endswith(".comfy_quant")]
operations, found = comfy.ops.mixed_precision_ops({}, torch.bfloat16), {}
for layer in layers:
    own = {key[len(layer) + 1 :]: tensor for key, tensor in state.items() if key.startswith(layer + ".")}
    module = operations.Linear(*reversed(wide[layer + ".weight"].shape), bias="bias" in own, device="cpu")
    module.load_state_dict(own)
    found[layer + ".weight"] = module.weight.dequantize().contiguous()
save_file(found, read)
"""
# Compares a file with what the host makes of the same float32 weights, byte by byte.
COMPARING = """
state = load_file(quantised)
for layer in [key[:-12] for key in state if key.endswith(".comfy_quant")]:
    weight = QuantizedTensor.from_float(wide[layer + ".weight"].float(), layout, **options)
    for part, tensor in weight.state_dict(layer + ".weight").items():
        ours = state[part]
        assert ours.shape == tensor.shape, (part, ours.shape, tensor.shape)
        assert torch.equal(ours.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)), part
"""
FORMS = (
    "scaled_fp8",
    "float8_e4m3fn",
    "float8_e5m2",
    "int8_tensorwise",
    "int8_tensorwise rows",
    "int8_tensorwise rotated",
    "mxfp8",
    "nvfp4",
)
WRITTEN = {"fp8_scaled": "float8_e4m3fn", "int8": "int8_tensorwise", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The tiny transformer, also in plain.safetensors."""
    state = {}
    for name, content in networks.make_transformer_files():
        (tmp_path / name).write_bytes(content)
        if name.endswith(".safetensors"):
            state |= load_file(tmp_path / name)
    save_file(state, tmp_path / "plain.safetensors")
    return state


@pytest.mark.parametrize("form", FORMS)
def test_the_library_reads_a_quantised_file_as_the_host_does(
    folder: Path, tmp_path: Path, plain: dict[str, torch.Tensor], form: str
) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("plain", "quantised", "read")]
    run_inside(folder, HOST + QUANTISING + READING, *files, form, what=form)
    theirs, ours = load_file(files[2]), load_transformer(files[1]).state_dict()
    assert len(theirs) > 10
    for name, tensor in theirs.items():
        # The host multiplies in bfloat16, the library in float32 before it rounds: one step of bfloat16 apart.
        torch.testing.assert_close(
            ours[name].float(), tensor.float(), rtol=2**-7, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
        assert (ours[name].float() - plain[name]).norm() < 0.1 * plain[name].norm()


@pytest.mark.parametrize("form", WRITTEN)
def test_the_host_reads_what_the_library_writes(
    folder: Path, tmp_path: Path, plain: dict[str, torch.Tensor], form: str
) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("plain", "quantised", "read")]
    convert(files[0], files[1], "file", form=form)
    script = HOST + READING + (COMPARING if form in ("mxfp8", "nvfp4") else "")
    run_inside(folder, script, *files, WRITTEN[form], what=WRITTEN[form])
    theirs = load_file(files[2])
    assert len(theirs) == sum(map(is_bulk, plain)) > 10
    for name, tensor in theirs.items():
        allowed = 0.1 if form == "nvfp4" else 0.03
        assert (tensor.float() - plain[name]).norm() <= allowed * plain[name].norm(), name
