#!/usr/bin/env bash
# What ComfyUI's registry asks of the pack, by its own tool on a clean clone: `comfy node validate` and `comfy node pack`
# without a warning, and an archive of what a user needs.
set -euo pipefail
repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 DO_NOT_TRACK=1

if [[ -z "${COMFY:-}" ]]; then # a comfy-cli that is there already
    "${PYTHON:-python3}" -m venv "$made/environment"
    "$made/environment/bin/python" -m pip install "comfy-cli==1.23.0"
    COMFY="$made/environment/bin/comfy"
fi
git clone --quiet "$repo" "$made/clone"
cd "$made/clone"
for action in validate pack; do
    HOME="$made" "$COMFY" --skip-prompt --no-enable-telemetry node "$action" </dev/null 2>&1 | tee "$made/said"
    if grep -qi "warning\|error" "$made/said"; then
        echo "comfy node $action has something to say" >&2
        exit 1
    fi
done
"${PYTHON:-python3}" testbed/archive.py node.zip
