#!/usr/bin/env bash
# Tables 1 to 4 of the paper at a small scale, from scratch, on two CPU cores in under 90 minutes: prepares `synthetic` and, where
# its raw folder exists, `ballroom2` with the waltz of `ballroom`, or else `ballroom` alone; trains tokenizer, generator and classifier
# of each, and every ablation; evaluates. (The cha-cha and rumba of `ballroom` hold test units of `ballroom2`, so never both.)
#
#     examples/reproduce.sh [OUT] [BALLROOM_RAW] [BALLROOM2_RAW]          the default of OUT is runs/reproduce
#
# JOBS=2 trainings run in parallel, one thread each. EPOCHS=1 CLIPS=25 CLIP_SECONDS=13 make everything very short, as a test does.
# SYNTHETIC=no leaves `synthetic` out where there is another set.
# Run it again to continue where it was stopped. Logs are in OUT/SET/*.log, the tables in OUT/SET/report/tables.md.
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
OUT="${1:-runs/reproduce}"
BALLROOM="${2:-${MEGADANCE_SHARED:-$HERE/../../shared}/data/ballroom}"
BALLROOM2="${3:-${MEGADANCE_SHARED:-$HERE/../../shared}/data/ballroom2}"
JOBS="${JOBS:-2}"
EPOCHS="${EPOCHS:-}"
PYTHON="${PYTHON:-python}"
CLIPS="${CLIPS:-80}"
CLIP_SECONDS="${CLIP_SECONDS:-24}"
EVALUATE="${EVALUATE:-}"
export OMP_NUM_THREADS=1

SETS=(synthetic)
if [ -d "$BALLROOM2" ]; then SETS+=(ballroom2)
elif [ -d "$BALLROOM" ]; then SETS+=(ballroom)
else echo "no ballroom data in $BALLROOM2 or $BALLROOM: only the synthetic tables"; fi
if [ "${SYNTHETIC:-yes}" = no ] && [ "${#SETS[@]}" -gt 1 ]; then SETS=("${SETS[1]}"); fi

# done_once NAME COMMAND...: runs the command unless an earlier run of this script has; its output goes to NAME.log
done_once() {
    local name="$1"; shift
    [ -e "$name.done" ] && return
    mkdir -p "$(dirname "$name")"
    local start=$SECONDS
    if "$@" > "$name.log" 2>&1; then
        touch "$name.done"
        echo "$(date +%H:%M:%S)  $name  $((SECONDS - start)) s"
    else
        echo "$name failed:" >&2
        tail -n 5 "$name.log" >&2
        return 1
    fi
}

# in_parallel: runs each line of the input as a command, JOBS at a time; fails when any of them does
in_parallel() {
    export -f done_once
    xargs -P "$JOBS" -d '\n' -I{} bash -c 'set -euo pipefail; {}'
}

# settings SET KIND: what ballroom2 trains otherwise than the small recipe. It has three times the minutes of ballroom, mostly the same
# units in a new order, so its windows are three times as far apart; and enough of each genre.
settings() {
    [ "$1" = ballroom2 ] || return 0
    case "$2" in
        tokenizer) echo "--set windows.stride=48" ;;
        classifier) echo "--set windows.stride=144" ;;
        generator)
            echo "--set windows.stride=48 --set windows.repeats.chacha=1" \
                "--set rhythm.repeats.chacha=1 --set rhythm.repeats.rumba=1 --set rhythm.repeats.waltz=1" ;;
    esac
}

train() { # SET KIND NAME OPTIONS...
    local set="$1" kind="$2" name="$3"; shift 3
    echo "done_once $OUT/$set/$name $PYTHON $HERE/train_$kind.py --config $HERE/configs/small_$kind.yaml" \
        "--data $OUT/$set/data --output $OUT/$set/$name --resume ${EPOCHS:+--epochs $EPOCHS} $(settings "$set" "$kind") $*"
}

generator() { # SET NAME OPTIONS...
    local set="$1" name="$2"; shift 2
    train "$set" generator "$name" --tokenizer "$OUT/$set/tokenizer" "$@"
}

echo "$(date +%H:%M:%S)  preparing"
mkdir -p "$OUT"
[ "${SETS[0]}" != synthetic ] || done_once "$OUT/synthetic/data" "$PYTHON" -m megadance_hf.cli prepare synthetic "$OUT/synthetic/data" \
    --clips "$CLIPS" --seconds "$CLIP_SECONDS" --num-proc "$JOBS"
case "${SETS[-1]}" in
    ballroom2)
        waltz=(); if [ -d "$BALLROOM" ]; then waltz=(--waltz "$BALLROOM"); fi
        done_once "$OUT/ballroom2/data" "$PYTHON" -m megadance_hf.cli prepare ballroom2 "$BALLROOM2" "$OUT/ballroom2/data" \
            "${waltz[@]}" --num-proc "$JOBS" ;;
    ballroom)
        done_once "$OUT/ballroom/data" "$PYTHON" -m megadance_hf.cli prepare ballroom "$BALLROOM" "$OUT/ballroom/data" \
            --num-proc "$JOBS" ;;
esac

echo "$(date +%H:%M:%S)  the two stages"
for set in "${SETS[@]}"; do
    echo "$(train "$set" tokenizer tokenizer) && $(generator "$set" generator)"
done | in_parallel

echo "$(date +%H:%M:%S)  classifiers and ablations"
for set in "${SETS[@]}"; do
    generator "$set" no_genre_experts --rhythm "$OUT/$set/generator" --set model.use_genre_experts=false
    generator "$set" no_universal_experts --rhythm "$OUT/$set/generator" --set model.use_universal_experts=false
    generator "$set" no_mamba --rhythm "$OUT/$set/generator" --set model.use_mamba=false
    train "$set" tokenizer no_kinematic_loss --set model.joint_loss_weight=0.0
    train "$set" tokenizer no_dynamic_loss --set model.velocity_weight=0.0 --set model.acceleration_weight=0.0
    train "$set" tokenizer vq --set model.quantizer=vq
    train "$set" classifier classifier
done | in_parallel

echo "$(date +%H:%M:%S)  evaluating"
for set in "${SETS[@]}"; do
    here="$OUT/$set"
    excerpts="${EVALUATE:---clip-frames 320 --clip-stride 160 --seeds 3}"
    splits=""
    if [ "$set" = ballroom2 ]; then # its songs and units that training has not, and its songs that training has not
        excerpts="${EVALUATE:---clip-frames 320 --clip-stride 320 --seeds 3}"
        splits="--splits validation new_song"
    fi
    ablations=""
    for name in no_genre_experts no_universal_experts no_mamba no_kinematic_loss no_dynamic_loss vq; do
        ablations+=" --ablation $name=$here/$name"
    done
    evaluate="$PYTHON -m megadance_hf.cli evaluate --model $here/generator --data $here/data --classifier $here/classifier $splits"
    echo "done_once $here/report $evaluate --protocol finedance --tables 1,3,4a,4b $ablations $excerpts --out $here/report"
    echo "done_once $here/report_aistpp $evaluate --protocol aistpp --tables 2 --seeds 3 --out $here/report_aistpp"
done | in_parallel

for set in "${SETS[@]}"; do
    printf '\n######## %s ########\n\n' "$set"
    cat "$OUT/$set/report/tables.md"
    sed -n '/^## Table 2/,/^## Beyond/{/^## Beyond/!p}' "$OUT/$set/report_aistpp/tables.md"
done
echo "$((SECONDS / 60)) minutes; plots are in OUT/SET/report"
