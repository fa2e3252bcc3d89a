#!/usr/bin/env bash
# Runs tests/host, and tests/browser where there is a Chromium, against real ComfyUI hosts, each in a virtual
# environment of its own.
#
#   scripts/test_host.sh [HOST_FOLDER ...] [-- PYTEST_ARGUMENTS]
#
# Without a folder: $COMFYUI_PATH, or the host this pack is installed in (two folders up), or ~/comfy/ComfyUI*.
# ECHOVIDEO_HOST_ENV   where the environments live (default: .venv/host in the repository)
# ECHOVIDEO_TORCH      what to ask pip for when torch is missing (default: torch)
# ECHOVIDEO_SETUP_ONLY set: make the environments and stop
set -euo pipefail

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
env_root="${ECHOVIDEO_HOST_ENV:-$repo/.venv/host}"
is_host() { [[ -f "$1/main.py" && -f "$1/comfyui_version.py" ]]; }

hosts=()
while [[ $# -gt 0 && "$1" != "--" ]]; do
    is_host "$1" || { echo "not a ComfyUI folder (no main.py and comfyui_version.py): $1" >&2; exit 2; }
    hosts+=("$(cd "$1" && pwd)"); shift
done
[[ $# -gt 0 ]] && shift
if [[ ${#hosts[@]} -eq 0 ]]; then
    if [[ -n "${COMFYUI_PATH:-}" ]]; then
        hosts=("$COMFYUI_PATH")
    elif is_host "$repo/../.."; then
        hosts=("$(cd "$repo/../.." && pwd)")
    else
        for folder in "$HOME"/comfy/ComfyUI*; do
            if is_host "$folder"; then hosts+=("$folder"); fi
        done
    fi
fi
if [[ ${#hosts[@]} -eq 0 ]]; then
    echo "skipped: no ComfyUI found in \$COMFYUI_PATH, two folders up, or ~/comfy/ComfyUI*. Name its folder: $0 FOLDER"
    exit 0
fi

prepare() { # host folder, environment folder
    local host="$1" venv="$2" stamp
    stamp="$(cat "$host/requirements.txt" "$repo/requirements.txt" "$repo/pyproject.toml" "$0" | cksum)"
    [[ -f "$venv/ready" && "$(cat "$venv/ready")" == "$stamp" ]] && return
    [[ -x "$venv/bin/python" ]] || python3 -m venv "$venv"
    local pip=("$venv/bin/python" -m pip install -qq --disable-pip-version-check)
    "$venv/bin/python" -c "import torch" 2>/dev/null || "${pip[@]}" "${ECHOVIDEO_TORCH:-torch}"
    # Nothing below may replace torch; the newest torchvision and torchaudio may ask for another one.
    "$venv/bin/python" -c "import torch; print('torch==' + torch.__version__)" >"$venv/constraints.txt"
    pip+=(--constraint "$venv/constraints.txt")
    "${pip[@]}" --no-deps torchvision torchaudio
    # Their compiled parts may need CUDA. A CPU host uses none of torchaudio's, and launch.py stands in for torchvision's.
    "$venv/bin/python" -c "import torchaudio" 2>/dev/null || rm -f "$venv"/lib/python*/site-packages/torchaudio/lib/*.so
    "${pip[@]}" -r <(grep -vxE 'torch|torchvision|torchaudio' "$host/requirements.txt")
    "${pip[@]}" -r "$repo/requirements.txt" "insightface>=1.0" onnxruntime onnx "gguf>=0.10" pytest playwright
    echo "$stamp" >"$venv/ready"
}

# comfy-cli, one client that people have, apart from the hosts: it brings much that none of them needs.
cli="$env_root/comfy-cli"
if [[ ! -x "$cli/bin/comfy" ]]; then
    python3 -m venv "$cli"
    "$cli/bin/python" -m pip install -qq --disable-pip-version-check comfy-cli ||
        echo "comfy-cli could not be installed: the tests with it are skipped" >&2
fi
export PATH="$PATH:$cli/bin"

failed=0
for host in "${hosts[@]}"; do
    venv="$env_root/$(basename "$host")"
    echo "== $(sed -n 's/^__version__ *= *//p' "$host/comfyui_version.py") in $host"
    prepare "$host" "$venv"
    [[ -n "${ECHOVIDEO_SETUP_ONLY:-}" ]] && continue
    (cd "$repo" && COMFYUI_PATH="$host" "$venv/bin/python" -m pytest tests/host tests/browser "$@") || failed=1
done
exit $failed
