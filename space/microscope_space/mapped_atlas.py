"""Maps of layers' activations, and of networks' units, as pictures: drawn when first asked for, and kept a while."""

import io
from collections import OrderedDict
from threading import Lock

from microscope_atlas.atlas import maps
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import UnknownName
from microscope_atlas.keys import Key
from microscope_space import network_map

KEPT = 12  # of at most some 2 MB each
SMALLEST, LARGEST = 640, 2400  # px on a side
QUALITY = 85  # of the JPEG


class Maps:
    """The last that were asked for are kept."""

    def __init__(self, most: int = KEPT):
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[tuple[str, Key, str, str], bytes] = OrderedDict()

    def of(self, atlas: Atlas, key: Key, zoom: str = "", part: str = "") -> bytes:
        """The map of a layer at a zoom, a JPEG, or a part of a network's, a WebP.

        UnknownName where the atlas has none.
        """
        asked = atlas.version, key, zoom, part
        with self._lock:  # while one is drawn, others wait: it is the same that they want
            if asked not in self._kept:
                self._kept[asked] = _part(atlas, key, part) if part else _drawn(atlas, key, zoom)
            self._kept.move_to_end(asked)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return self._kept[asked]


def _drawn(atlas: Atlas, key: Key, zoom: str) -> bytes:
    cells = maps.read(atlas.storage, atlas.manifest, key)
    there = {str(each): grid for each, grid in maps.zooms(cells).items()}
    if zoom not in there:
        raise UnknownName(f"zoom {zoom[:9]!r} is not in this map; it has {', '.join(sorted(there))}")
    side = maps.size(cells) * there[zoom] // max(there.values())
    file = io.BytesIO()
    drawn = maps.drawn(cells, int(zoom), min(max(side, SMALLEST), LARGEST))
    drawn.save(file, "JPEG", quality=QUALITY, progressive=True)
    return file.getvalue()


def _part(atlas: Atlas, key: Key, part: str) -> bytes:
    if key.layer is not None:
        raise UnknownName(f"a part is of the map of a model; {key} is none")
    return network_map.drawn(atlas, key.model, network_map.part_of(part))
