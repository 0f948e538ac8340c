#!/usr/bin/env bash
# torch 2.13.0, on an x86-64 CPU with one thread: VGG's first dense layer as a matrix and as a convolution.
#
# Guess: torchvision keeps it as a Linear of 25,088 numbers, timm and converted Caffe models as a convolution of 7x7 on a
# map of 7x7. These are the same 103 million weights, read once and multiplied as often, so both take the same time, give
# or take a tenth.
# Seen: the convolution takes 3 to 10 times as long, nearly as long for one picture as for 16, because oneDNN brings the
# weights into an order of its own and does so again at each call; ONEDNN_VERBOSE=1 shows that reorder. On a Xeon with
# AVX-512:
#
#    1 pictures: Linear 27 ms, Conv2d 259 ms, 9.7 times as long
#    2 pictures: Linear 33 ms, Conv2d 272 ms, 8.2 times as long
#    8 pictures: Linear 90 ms, Conv2d 269 ms, 3.0 times as long
#   16 pictures: Linear 69 ms, Conv2d 313 ms, 4.5 times as long
#
# How this project lives with it: while pictures are made dense layers are products of matrices, always of 16 rows, so
# that a picture is rounded as it would be in any batch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PY'
import time
from collections.abc import Callable

import torch
from torch import nn

torch.set_num_threads(1)
linear, convolution = nn.Linear(512 * 7 * 7, 4096), nn.Conv2d(512, 4096, 7)
convolution.load_state_dict({"weight": linear.weight.view(4096, 512, 7, 7), "bias": linear.bias})


def least(of: Callable[[], torch.Tensor]) -> float:
    """Milliseconds, the least of five calls after one."""
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        of()
        taken.append(1e3 * (time.perf_counter() - began))
    return min(taken[1:])


ratios = []
with torch.no_grad():
    for count in (1, 2, 8, 16):
        maps = torch.randn(count, 512, 7, 7)
        difference = linear(maps.flatten(1)) - convolution(maps).flatten(1)
        assert difference.abs().max() < 1e-4, "these are not the same layer"
        dense, conv = least(lambda: linear(maps.flatten(1))), least(lambda: convolution(maps))
        ratios.append(conv / dense)
        print(f"{count:2d} pictures: Linear {dense:.0f} ms, Conv2d {conv:.0f} ms, {conv / dense:.1f} times as long")
assert min(ratios) > 2, "the convolution takes about as long as the matrix now"
PY
