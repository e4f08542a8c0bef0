#!/usr/bin/env bash
# What to run on a machine with an NVIDIA GPU: first whether results are right, then how fast they
# come, beside PyTorch on the same GPU.
#
#     tests/scripts/on_a_gpu.sh SPLAMC          a built binary; everything else is made there
#
# SUITE    the test binary `suite`, to run every operator and gradient on the GPU too
# SIZE     sd15 (random weights of its size) or tiny
# ADAPTER  `interpreter` takes the GPU's place; with SIZE=tiny and DEVICE=cpu the script runs anywhere
# PYTHON   with numpy, safetensors, torch and diffusers
set -euo pipefail
cd "$(dirname "$0")/../.."

SPLAMC=$1
SIZE=${SIZE:-sd15}
ADAPTER=${ADAPTER:-}
DEVICE=${DEVICE:-cuda}
PYTHON=${PYTHON:-python3}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
adapter=()
[ -z "$ADAPTER" ] || adapter=(--adapter "$ADAPTER")

say() { printf '\n== %s\n' "$*"; }

say devices
"$SPLAMC" devices

if [ -n "${SUITE:-}" ]; then
    say "operators and gradients"
    "$SUITE"
fi

say "pictures of the tiny pipeline beside those of the processor"
for dtype in f32 f16 bf16; do
    common=(sample examples/tiny-model -p "a cat" --steps 1 --cfg-scale 1 -W 32 -H 32 -o "$WORK/out.png")
    "$SPLAMC" "${common[@]}" --exact --latents-out "$WORK/wanted.safetensors"
    "$SPLAMC" "${common[@]}" --target cuda "${adapter[@]}" --dtype $dtype \
        --latents-out "$WORK/found.safetensors"
    "$PYTHON" - "$WORK" $dtype <<'PYTHON'
import sys

import numpy
from safetensors.numpy import load_file

folder, dtype = sys.argv[1:]
found, wanted = (load_file(f"{folder}/{name}.safetensors") for name in ("found", "wanted"))
worst = max(
    float(numpy.abs(found[name] - wanted[name]).max() / numpy.abs(wanted[name]).max())
    for name in wanted
)
print(f"{dtype}: off by {worst:.1e} of the largest")
sys.exit(worst > (1e-4 if dtype == "f32" else 2e-2))
PYTHON
done

say speed
case $SIZE in
    tiny)
        model=examples/tiny-model
        sizes=(--width 16 --height 16 --batch 1 --rounds 1 --runs 1 --engines splamc eager)
        ;;
    *)
        model=$WORK/sd15 sizes=()
        "$PYTHON" tests/scripts/make_sd15_random.py "$model" --dtype f16
        ;;
esac
"$PYTHON" tests/scripts/compare_gpu.py "$model" --splamc "$SPLAMC" --device "$DEVICE" \
    --adapter "$ADAPTER" "${sizes[@]}"
