#!/usr/bin/env bash
# The whole way on the packaged sample, without network, in about a minute: predict with the packaged weights, then train,
# resume, measure, predict, inspect, export.
# Usage: examples/quickstart.sh [FOLDER]     (default: a new temporary folder)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-$(mktemp -d)}
run=$folder/first

resnetcli predict "$here/images" --top-k 2
resnetcli inspect --depth 1
resnetcli train --recipe "$here/tiny.toml" --data cifar10-mini --output-dir "$folder" --name first --max-time 0.02
resnetcli train --resume "$run"
resnetcli evaluate "$run" --data cifar10-mini --tta flip --output "$folder/report" --save-plots
resnetcli predict "$here/images" --checkpoint "$run" --top-k 2
find "$here/images" -name '*.png' | resnetcli predict - --checkpoint "$run" --format csv | head -3
resnetcli inspect "$run" --depth 2
resnetcli checkpoints list "$run"
resnetcli checkpoints export "$run" "$folder/first.safetensors" --dtype fp16
resnetcli checkpoints verify "$folder/first.safetensors"
resnetcli compare "$run" "$folder/first.safetensors" --show 3
resnetcli compare "$run" pretrained --show 0
resnetcli data show --data cifar10-mini --count 10 --output "$folder/grid.png"
echo "everything is in $folder"
