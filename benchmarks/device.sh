#!/usr/bin/env bash
# What the path on an accelerator takes, in at most eight minutes on one GPU: results as JSON, and a contact sheet.
#
#     benchmarks/device.sh
#     benchmarks/device.sh --device cpu --steps 2 --quality draft --place efficientnet_lite0/blocks_0 \
#         --models efficientnet_lite0
#
#     --device NAME     cuda
#     --steps N         of the renders that are timed, 128
#     --place LAYERS    that are timed, "inceptionv1/mixed4c inceptionv1/mixed5b efficientnet_lite0/blocks_6"
#     --models NAMES    whose whole atlas is estimated; the nine of the docs
#     --quality NAME    of all that is timed, standard
#     --set CHANGES     of feature visualization's recipe, PATH=VALUE,...
#     --into FOLDER     of the results, benchmarks/results/device
#     --seconds N       for all of it, 480
#     --wheels FOLDER   of libraries that the machine lacks, from `pip wheel --wheel-dir FOLDER pytest hypothesis lucent`
#
# It needs PyTorch 2.11 or later, NumPy, Pillow, PyArrow and timm. Where pytest or Lucent is not there, that part is left
# out. summary.json says of each part how it ended; the status is 1 where one failed or ran out of time.
set -u
cd "$(dirname "$0")/.."

device=cuda steps=128 into=benchmarks/results/device seconds=480 wheels= models= quality=standard set=
place="inceptionv1/mixed4c inceptionv1/mixed5b efficientnet_lite0/blocks_6"
while [ $# -gt 1 ]; do
    case $1 in
        --device | --steps | --place | --models | --quality | --set | --into | --seconds | --wheels) declare "${1#--}=$2" ;;
        *) break ;;
    esac
    shift 2
done
if [ $# -gt 0 ]; then
    echo "device.sh: $1 is no option, or has no value; see the head of $0" >&2
    exit 2
fi

python=${PYTHON:-python3}
export PYTHONPATH=$PWD/generate:$PWD${PYTHONPATH:+:$PYTHONPATH}
for wheel in ${wheels:+"$wheels"/*.whl}; do
    PYTHONPATH=$PYTHONPATH:$(realpath "$wheel") # wheels without compiled parts are imported as they are
done
mkdir -p "$into" || exit 2
rm -f "$into"/*.json "$into"/*.log "$into"/*.png
parts=() failed=0

has() { "$python" -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$1'))"; }

# part NAME SHARE COMMAND...: within this share of the time, in percent, and of what is left of it
part() {
    local name=$1 limit=$((seconds * $2 / 100)) began=$SECONDS ended
    shift 2
    [ $limit -gt $((seconds - SECONDS)) ] && limit=$((seconds - SECONDS))
    if [ $limit -lt 1 ]; then
        ended="left out: no time"
        failed=1
    else
        timeout --kill-after=5 $limit "$@" >"$into/$name.log" 2>&1
        case $? in
            0) ended=ok ;;
            124 | 137) ended="out of time" failed=1 ;;
            *) ended=failed failed=1 ;;
        esac
    fi
    parts+=("\"$name\": {\"ended\": \"$ended\", \"seconds\": $((SECONDS - began))}")
    echo "$name: $ended, $((SECONDS - began)) s"
}

without() {
    parts+=("\"$1\": {\"ended\": \"left out: no $2\", \"seconds\": 0}")
    echo "$1: left out, $2 is not installed"
}

timed=(--device "$device" --steps "$steps" --set "$set")
matrix=() # as large as the device's kind wants them
[ "$device" = cpu ] && matrix=(--matrix 512) # in bfloat16, which many processors multiply slowly

if has pytest && has hypothesis; then
    part tests 15 "$python" -m pytest -q -p no:cacheprovider -m gpu tests/rendering
else
    without tests "pytest and hypothesis"
fi
part sheet 15 "$python" -m benchmarks.sheet "${place##* }" "${timed[@]}" --out "$into/sheet.png"
# shellcheck disable=SC2086 # each a word
part throughput 20 "$python" -m benchmarks.throughput $place --quality "$quality" "${timed[@]}" "${matrix[@]}" --turns 1 --out "$into/throughput.json"
part batch 15 "$python" -m benchmarks.batch "${place%% *}" --quality "$quality" "${timed[@]}" --turns 1 --out "$into/batch.json"
if has lucent; then
    part vs_lucent 20 "$python" -m benchmarks.vs_lucent "${timed[@]}" --turns 1 --out "$into/vs_lucent.json"
else
    without vs_lucent Lucent
fi
left=$((seconds - SECONDS))
# shellcheck disable=SC2086
part atlas_cost 100 "$python" -m benchmarks.atlas_cost --quality "$quality" "${timed[@]}" \
    --minutes "$(awk "BEGIN { print $left * 0.4 / 60 }")" ${models:+--models $models} --out "$into/atlas_cost.json"

"$python" - "$device" "{$(IFS=,; echo "${parts[*]}")}" >"$into/summary.json" <<'END'
import json
import sys

from benchmarks import report

print(json.dumps({"about": report.about(sys.argv[1]), "parts": json.loads(sys.argv[2])}, indent=2))
END
exit $failed
