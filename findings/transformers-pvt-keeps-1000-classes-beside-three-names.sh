#!/usr/bin/env bash
# transformers 5.24.0, Python 3.11, no PyTorch needed: only configurations are made.
#
# Guess: a classifier's configuration counts its classes by their names. That is how checkpoints with classes of one's
# own are made, by every guide: `id2label={0: "a", 1: "b", 2: "c"}` alone makes three logits. `num_labels` is a property
# of the base class for it, computed from `id2label`.
#
# Instead: PVT declares `num_labels: int = 1000` as a field of its own, which hides that property. Three names leave it at
# 1000, which is as many logits as PvtForImageClassification makes; nothing is said. The other way round, `num_labels=7`
# leaves `id2label` at None, where every other of these configurations makes seven names. Both are saved and come back so.
#
# Seen:
#   vit 3 ('a', 'b', 'c') | 7 7
#   pvt 1000 ('a', 'b', 'c') | 7 None
#   of 30 kinds of image classifiers these count otherwise: pvt
#
# This project takes class names only of a layer that has as many units as there are names, and none where there are none,
# so logits of such a checkpoint go without names, never with another's.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet 'transformers==5.24.0'

"$tmp/venv/bin/python" - <<'PYTHON'
import sys
import tempfile

from transformers import AutoConfig

NAMES = {0: "a", 1: "b", 2: "c"}
KINDS = (
    "beit bit convnext convnextv2 deit dinov2 efficientnet focalnet hgnet_v2 hiera ijepa levit mobilenet_v1 mobilenet_v2 "
    "mobilevit mobilevitv2 poolformer pvt pvt_v2 regnet resnet segformer siglip_vision_model swiftformer swin swinv2 "
    "textnet vit vit_msn data2vec-vision"
).split()


def again(config):
    """The configuration as it comes back from a file."""
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return AutoConfig.from_pretrained(folder)


found = {}
for kind in KINDS:
    named = again(AutoConfig.for_model(kind, id2label=NAMES))
    counted = again(AutoConfig.for_model(kind, num_labels=7))
    names = None if counted.id2label is None else len(counted.id2label)
    found[kind] = named.num_labels, tuple(named.id2label.values()), counted.num_labels, names
for kind in ("vit", "pvt"):
    print(kind, *found[kind][:2], "|", *found[kind][2:])
others = [kind for kind, (number, _, _, names) in found.items() if (number, names) != (3, 7)]
print(f"of {len(KINDS)} kinds of image classifiers these count otherwise: {', '.join(others)}")
if others != ["pvt"] or found["pvt"] != (1000, ("a", "b", "c"), 7, None):
    sys.exit("this is no longer so")
PYTHON
