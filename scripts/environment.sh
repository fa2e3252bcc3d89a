# Sourced by the other scripts, in the repository's root: an active virtual environment with PyTorch in it.
# An active one is used as it is, an installed PyTorch is kept. PYTHON and TORCH choose others than these.

python=${PYTHON:-python3}
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "Python 3.10 or newer is needed; name one with PYTHON=/path/to/python3.11" >&2
        exit 2
    fi
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi
# First and by itself: any package that needs it would otherwise choose a build of its own.
python -c 'import torch' 2>/dev/null || {
    echo "Installing PyTorch and what else is needed; this takes minutes" >&2
    python -m pip install --quiet "${TORCH:-torch==2.13.0}"
}
