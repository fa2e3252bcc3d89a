#!/usr/bin/env bash
# The whole job on a bare machine: sets itself up, then makes a video of a drawn person with the small model that ships.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
python -m pip install --quiet --editable ".[face]"
echovideo demo "$@"
