#!/usr/bin/env bash
# Measures the speed of everything on a machine with a GPU, CPU and GPU side by side, within 4 minutes.
#
#   Training/device_bench.sh bench.json              (one file: numbers, the report, the log, the machine)
#   SMALL=1 Training/device_bench.sh bench.json      (the same in small, to try it: minutes on a CPU)
#
# For a bare machine with torch, scipy, Pillow, scikit-learn and tqdm, and no network; wheels of what it lacks
# (diffusers, importlib_metadata, monai; for the command from start to end also nibabel, pydicom, pylibjpeg and
# SimpleITK) lie in .whl. Without SimpleITK the command is not measured, and the report says so. PRICES, such as
# "cpu=0.4 cuda=3", are what an hour of the machine costs; BUNDLE another bundle than the default.
set -euo pipefail

out=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$(dirname "$out")"

if [ -d .whl ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" .whl/*.whl
fi
export PYTHONPATH="$work/site:$here/../X-ray2CTPACore" PYTHONUNBUFFERED=1

words=(--quick)
parts=papers,command,loaded
python3 -c 'import SimpleITK' 2>/dev/null || parts=papers,loaded
[ -z "${BUNDLE-}" ] || words+=(--bundle "$BUNDLE")
for price in ${PRICES-}; do words+=(--price "$price"); done
if [ -n "${SMALL-}" ]; then
    words+=(--trial --passes 2 --bundle-steps 2 --samples 2)
    parts=papers,loaded
fi

# What was measured before the time is up is kept: each part is a run of its own.
status=0
for part in ${parts//,/ }; do
    timeout "${SECONDS_A_PART:-75}" python3 -m xray2ctpa_core bench "${words[@]}" --parts "$part" \
        --out "$work/$part" >>"$work/log.txt" 2>&1 || { echo "$part: exit code $?" >>"$work/log.txt"; status=1; }
done
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv,noheader \
    >"$work/machine.txt" 2>/dev/null || echo "no GPU" >"$work/machine.txt"

python3 - "$work" "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

from xray2ctpa_core.benchmark.report import markdown

work, results = Path(sys.argv[1]), {}
for part in sorted(work.glob("*/bench.json")):
    results |= json.loads(part.read_text())
machine, log = ((work / name).read_text().strip() for name in ("machine.txt", "log.txt"))
report = markdown(results)
Path(sys.argv[2]).write_text(json.dumps(results | {"machine": machine, "report": report, "log": log}, indent=2))
print(machine, report, sep="\n\n")
PYTHON
exit "$status"
