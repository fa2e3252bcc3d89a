#!/usr/bin/env bash
# Makes the nano model from nothing, every part with fixed seeds, on one core:
#
#   bash scripts/train_nano.sh STATE
#
# STATE gets what training needs to go on (parts/, vae/, stills/, clips/, and a run_.../ for each recipe) and the finished
# files in the released layout (models/), which are packed at the end to where the package looks for them.
# Stopped anywhere, the same command goes on where it was; what is finished is not done again.
set -euo pipefail
state=${1:?usage: bash scripts/train_nano.sh STATE}
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
models=$state/models
faces=$models/face_encoder
mkdir -p "$models"

# part FILE SCRIPT: runs the script unless its file is there
part() {
    [ -f "$1" ] || python -W ignore "scripts/nano/$2" --state "$state/parts" --models "${3:-$models}"
}

[ -f "$models/tokenizer/spiece.model" ] || python scripts/nano/make_tokenizer.py "$models"
part "$faces/models/antelopev2/scrfd_10g_bnkps.onnx" train_detector.py
part "$faces/models/antelopev2/glintr100.onnx" train_recogniser.py
part "$faces/parsing_bisenet.pth" train_parser.py
part "$models/clip_visual_encoder/model.safetensors" train_siglip.py
part "$models/text_encoder/model.safetensors" train_text_encoder.py
part "$state/judges.pt" judges.py "$state" # only judge; not shipped
python scripts/nano/measure.py "$models" | tee "$state/measured.txt"

# The encoder is finished first; what the transformer learns from does not change while the decoder goes on.
python -W ignore scripts/nano/train_vae.py --state "$state/vae" --steps 1700 --freeze-at 1100
mkdir -p "$models/vae"
cp "$state/vae/vae.safetensors" "$models/vae/diffusion_pytorch_model.safetensors"

python -W ignore scripts/nano/photograph.py "$state/people" --models "$models" --people 2000
python -W ignore scripts/nano/photograph.py "$state/people_held_out" --models "$models" --people 16 --held-out

# examples FOLDER PEOPLE ARGUMENTS: of the drawn world, through the autoencoder in models/vae
examples() {
    python -W ignore scripts/nano/prepare_examples.py "$state/$1" --people "$state/$2" --models "$models" "${@:3}"
}
examples stills people
examples stills_held_out people_held_out --held-out
cp recipes/nano_*.toml "$state"
python -m echovideo_model train "$state/nano_stills.toml" --device cpu
examples clips people --count 1000 --takes 2 --frames 17
examples clips_held_out people_held_out --count 16 --frames 17 --held-out
python -m echovideo_model train "$state/nano_clips.toml" --device cpu
[ -f "$state/latent_recogniser.safetensors" ] || python -W ignore scripts/nano/train_latent_recogniser.py "$state/clips" \
    --held-out "$state/clips_held_out" --output "$state/latent_recogniser.safetensors"
for run in motion likeness; do
    python -m echovideo_model train "$state/nano_$run.toml" --device cpu
done
rm -rf "$models/transformer"
cp -r "$state/run_likeness/model/transformer" "$models"
python scripts/nano/pack.py "$models"
