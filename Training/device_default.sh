#!/usr/bin/env bash
# Trains the default of many people in one run, judges it on those who taught nothing, leaves weights and numbers.
#
#   python Training/pack_templates.py --out people --set templates=FOLDER     (before, where SimpleITK is)
#   Training/device_default.sh people out 6                        (people, results, minutes of the denoiser's training)
#   SMALL=1 Training/device_default.sh people out 0.1                         (the same in small: minutes on a CPU)
#
# For a bare machine with torch, accelerate, scipy, Pillow, scikit-learn and tqdm, and no network; wheels of what it
# lacks (diffusers and its importlib_metadata and zipp) lie in .whl. JUDGED names, separated by commas, who teaches
# nothing; empty: everybody teaches, and nobody is judged. Everything of a person is a file below people/, about 2 MB.
# In the results: encoder.safetensors.xz, denoiser.safetensors.xz (half precision), their configurations in weights.json,
# judged.json, strangers.png, log.txt.
set -euo pipefail

people=$1
out=$2
minutes=${3:-8}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

if [ -d .whl ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" .whl/*.whl
fi
export PYTHONPATH="$work/site:$here/../X-ray2CTPACore:$here" PYTHONUNBUFFERED=1

judged=${JUDGED-qinlung-LSC-0028,qinlung-01-0013,acrinnsclc-042,lungdx-A0001}
names=$(python3 -c 'import json, sys; print(json.dumps([n for n in sys.argv[1].split(",") if n]))' "$judged")
settings=(people="$people" "without=$names")
encoder=(tissue=[]) denoiser=(tensorboard=false checkpoint_every=1000000 minutes="$minutes") judging=()
if [ -n "${SMALL-}" ]; then
    settings+=('grid=[16,16,16]' pixels=32 people_mm=8)
    encoder+=(bank_mm=16 bank_planes=0 parts=3 'coarse=[8,8,8]' patients=4 'drawn_grid=[16,16,16]' batch_size=2)
    denoiser+=('finer=[1,1,1]' open_patients=2 'channels=[16,16]' condition_dim=16 batch_size=2)
    judging+=('finer=[1,1,1]' samples=2 inference_steps=2 mean_of=2)
elif python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    encoder+=(patients=32768 batch_size=16)
    denoiser+=(batch_size=16 precision=bf16 'channels=[48,64]' condition_dim=128)
fi

{
    python3 "$here/train_bank_encoder.py" --out "$work/encoder" --set "${settings[@]}" "${encoder[@]}"
    python3 "$here/train_bank_denoiser.py" --out "$work/denoiser" \
        --set "${settings[@]}" encoder="$work/encoder/encoder" "${denoiser[@]}"
    if [ "$names" != "[]" ]; then
        python3 "$here/judge_people.py" --out "$work/judged" \
            --set "${settings[@]}" "judged=$names" encoder="$work/encoder/encoder" denoiser="$work/denoiser" \
            ${judging[@]+"${judging[@]}"}
        cp "$work/judged/judged.json" "$work/judged/strangers.png" "$out"
    fi
    python3 "$here/carry_weights.py" "$work/encoder/encoder" "$work/denoiser" "$out"
} 2>&1 | tee "$out/log.txt"
