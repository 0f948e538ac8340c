"""The colours that a network reads: natural pictures are RGB, a network may want them grey or with an opacity."""

import torch
from torch import Tensor

CHANNELS = {1: "grey", 3: "RGB", 4: "RGB and opacity"}  # how many a network may read -> what they are

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode L and torchvision's Grayscale


def in_channels(pictures: Tensor, channels: int) -> Tensor:
    """RGB (batch, 3, height, width) -> (batch, channels, height, width): as it is, its luma, or opaque RGBA.

    Pictures that have so many channels already stay as they are.
    """
    if pictures.shape[1] == channels:
        return pictures
    if channels == 1:
        red, green, blue = pictures[:, :1], pictures[:, 1:2], pictures[:, 2:3]
        return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return torch.cat([pictures, torch.ones_like(pictures[:, :1])], 1)
