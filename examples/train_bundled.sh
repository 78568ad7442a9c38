#!/usr/bin/env bash
# The model that comes with the package, from raw data to the shipped files, on two CPU cores.
#
#     examples/train_bundled.sh BALLROOM2_RAW BALLROOM_RAW [OUT]          the default of OUT is runs/bundled
#
# BALLROOM2_RAW has tango, cha-cha and rumba, BALLROOM_RAW the waltz. Run it again to continue where it was stopped: what is done is
# kept, trainings resume. EPOCHS=1 makes everything short, as a test does. The finished model is in OUT/model, logs are in OUT/*.log.
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
RAW="${1:?give the raw folder of ballroom2}"
WALTZ="${2:?give the raw folder of ballroom}"
OUT="${3:-runs/bundled}"
PYTHON="${PYTHON:-python}"
EPOCHS="${EPOCHS:-}"

# step NAME COMMAND...: runs the command unless an earlier run of this script has; its output goes to NAME.log
step() {
    local name="$1"; shift
    [ -e "$OUT/$name.done" ] && return
    local start=$SECONDS
    echo "$(date +%H:%M:%S)  $name"
    if ! "$@" >> "$OUT/$name.log" 2>&1; then
        tail -n 5 "$OUT/$name.log" >&2
        return 1
    fi
    echo "$((SECONDS - start)) s" | tee "$OUT/$name.done"
}

mkdir -p "$OUT"
step data "$PYTHON" -m megadance_hf.cli prepare ballroom2 "$RAW" "$OUT/data" --waltz "$WALTZ" --num-proc 2
step tokenizer "$PYTHON" "$HERE/train_tokenizer.py" --config "$HERE/configs/ballroom_tokenizer.yaml" --data "$OUT/data" \
    --output "$OUT/tokenizer" --resume ${EPOCHS:+--epochs "$EPOCHS"}
step generator "$PYTHON" "$HERE/train_generator.py" --config "$HERE/configs/ballroom_generator.yaml" --data "$OUT/data" \
    --tokenizer "$OUT/tokenizer" --output "$OUT/generator" --resume ${EPOCHS:+--epochs "$EPOCHS"}

# Stored with 16 bits for each weight, opened with 32, in which dances are computed; without the names of the Hub's code, since the package
# itself brings it.
"$PYTHON" - "$OUT/generator" "$OUT/model" <<'PYTHON'
import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

source, target = map(Path, sys.argv[1:])
for folder in ("", "tokenizer"):
    (target / folder).mkdir(parents=True, exist_ok=True)
    for file in (source / folder).glob("*config.json"):
        content = json.loads(file.read_text())
        kept = {name: value for name, value in content.items() if name not in ("auto_map", "custom_pipelines")}
        (target / folder / file.name).write_text(json.dumps(kept, indent=2) + "\n")
    weights = load_file(source / folder / "model.safetensors")
    half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(half, target / folder / "model.safetensors", metadata={"format": "pt"})
PYTHON
echo "$(date +%H:%M:%S)  the model is in $OUT/model"
