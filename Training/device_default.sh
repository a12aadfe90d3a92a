#!/usr/bin/env bash
# Trains the default of many people in one run, judges it on those who taught nothing, leaves weights and numbers.
#
#   python Training/train.py people --only people --out RUN --set run.templates=FOLDER   (before, where SimpleITK is)
#   Training/device_default.sh RUN/people out                                                     (people, results)
#   SMALL=1 Training/device_default.sh RUN/people out                         (the same in small: minutes on a CPU)
#
# For a bare machine with torch, accelerate, pydantic, scipy, Pillow, scikit-learn and tqdm, and no network; wheels of
# what it lacks (diffusers and its importlib_metadata and zipp) lie in .whl. JUDGED names, separated by commas, who teaches
# nothing; empty: everybody teaches, and nobody is judged. Everything of a person is a file below people/, about 2 MB.
# In the results: encoder.safetensors.xz, denoiser.safetensors.xz (half precision), their configurations in weights.json
# (loadable folders: train.py people --only unpacked --out RUN --set unpacked.weights=out), judged.json, strangers.png,
# log.txt.
set -euo pipefail

people=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

if [ -d .whl ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" .whl/*.whl
fi
export PYTHONPATH="$work/site:$here/../X-ray2CTPACore" PYTHONUNBUFFERED=1

judged=${JUDGED-qinlung-LSC-0028,qinlung-01-0013,acrinnsclc-042,lungdx-A0001}
names=$(python3 -c 'import json, sys; print(json.dumps([n for n in sys.argv[1].split(",") if n]))' "$judged")
recipe=people
steps=(encoder denoiser weights)
[ "$names" = "[]" ] || steps+=(judged)
settings=(run.people="$people" run.without="$names" 'encoder.tissue=[]')
settings+=(denoiser.tensorboard=false denoiser.checkpoint_every=1000000)
if [ -n "${SMALL-}" ]; then
    recipe=people-smoke
elif python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    settings+=(encoder.patients=32768 encoder.batch_size=16)
    settings+=(denoiser.patients=8192 denoiser.batch_size=256)
fi

# What was made before a step failed is kept.
status=0
python3 "$here/train.py" "$recipe" --out "$work/run" --only "${steps[@]}" --set "${settings[@]}" 2>&1 |
    tee "$out/log.txt" || status=$?
for file in "$work/run/weights/"*.xz "$work/run/weights/weights.json" "$work/run/judged/"{judged.json,strangers.png}; do
    [ ! -f "$file" ] || cp "$file" "$out"
done
exit "$status"
