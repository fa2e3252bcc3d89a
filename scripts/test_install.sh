#!/usr/bin/env bash
# Installs as README.md says, into ComfyUI's custom_nodes and for the command line, each in an environment that holds
# nothing but PyTorch; then makes the demonstration's video.
set -euo pipefail
repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1

torch_version() { python -c "import torch; print(torch.__version__)" 2>/dev/null; }

installed() { # heading of README.md, folder to be in
    local environment="$made/environment"
    "${PYTHON:-python3}" -m venv --clear "$environment"
    # shellcheck disable=SC1091
    . "$environment/bin/activate"
    python -m pip install "${TORCH:-torch==2.13.0}"
    local before after
    before="$(torch_version)"
    (cd "$2" && python "$repo/testbed/readme.py" "$1" | sed "s|<this repository>|$repo|" | bash -euxo pipefail)
    after="$(torch_version)"
    [[ "$before" == "$after" ]] || { echo "PyTorch $before became $after" >&2; exit 1; }
    (cd "$made" && echovideo --version && echovideo demo --output "$made/demo")
}

nothing_stale() { # the pack's folder: installing left nothing there, and a module that is deleted does not come back
    local left
    left="$(git -C "$1" status --porcelain --ignored | grep -v __pycache__ || true)"
    [[ -z "$left" ]] || { echo "installing left in custom_nodes: $left" >&2; exit 1; }
    touch "$1/echovideo_model/deleted.py"
    python -m pip install --no-deps "$1"
    (cd "$made" && python -c "import echovideo_model.deleted")
    rm "$1/echovideo_model/deleted.py"
    python -m pip install --no-deps "$1"
    if (cd "$made" && python -c "import echovideo_model.deleted" 2>/dev/null); then
        echo "a deleted module came back" >&2
        exit 1
    fi
}

mkdir -p "$made/ComfyUI/custom_nodes"
installed "In ComfyUI" "$made"
nothing_stale "$made/ComfyUI/custom_nodes/ComfyUI-EchoVideo"
git clone --quiet "$repo" "$made/clone"
installed "On the command line" "$made/clone"
