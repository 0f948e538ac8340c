"""Reading Caffe's trained weights without Caffe.

A caffemodel is a protobuf `NetParameter` (https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto). Of it
we need the layers' names and blobs: `layer` (field 100) or, in files from before 2015, `layers` (field 2).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from microscope_atlas.errors import WeightsError
from microscope_atlas.models.formats.protobuf import Malformed, fields, refuse_shape, varints

# (field of the net, field of the layer's name, field of its blobs)
LAYER_FORMS = {100: (1, 7), 2: (4, 6)}


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """Blobs of every layer that has any, by the layer's name, float32.

    Raises WeightsError where the file is not a caffemodel or ends early.
    """
    data = memoryview(path.read_bytes())
    blobs: dict[str, list[Tensor]] = {}
    try:
        for number, value in fields(data):
            if number not in LAYER_FORMS or not isinstance(value, memoryview):
                continue
            name_field, blob_field = LAYER_FORMS[number]
            layer = list(fields(value))
            name = next((bytes(v).decode() for n, v in layer if n == name_field and isinstance(v, memoryview)), "")
            found: list[Tensor] = []
            for n, v in layer:
                if n == blob_field and isinstance(v, memoryview):
                    found.append(_blob(v, f"blob {len(found)} of layer {name!r}"))
            if found:
                blobs[name] = found
    except (Malformed, UnicodeDecodeError) as error:
        found_so_far = f" after layer {list(blobs)[-1]!r}" if blobs else ""
        raise WeightsError(
            f"{path} is not a whole caffemodel: {error}{found_so_far}; expected a Caffe NetParameter, complete"
        ) from error
    if not blobs:
        raise WeightsError(f"{path} is not a caffemodel: it holds no layer with weights")
    return blobs


def _blob(data: memoryview, where: str) -> Tensor:
    shape: list[int] = []
    legacy = {}
    chunks: list[np.ndarray] = []
    for number, value in fields(data):
        match number, value:
            case 7, memoryview():  # BlobShape: dim = 1, packed or not
                for n, dim in fields(value):
                    if n == 1:
                        shape += [dim] if isinstance(dim, int) else list(varints(dim))
            case 5, memoryview():  # floats, packed or one at a time
                if len(value) % 4:
                    raise Malformed(f"{where} has {len(value)} bytes of floats, no multiple of 4")
                chunks.append(np.frombuffer(value, "<f4"))
            case ((1 | 2 | 3 | 4), int()):
                legacy[number] = value
    shape = shape or [legacy.get(n, 1) for n in (1, 2, 3, 4)]
    values = np.concatenate(chunks) if chunks else np.empty(0, np.float32)
    refuse_shape(where, shape, values.size)
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)
