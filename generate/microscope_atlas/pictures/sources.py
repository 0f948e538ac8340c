"""Pictures that come with the package: free to redistribute, varied, each with its author, license and source.

They are what lenses look at where nothing else is at hand. photos/photos.json says whom each is owed to; here they are
JPEG of at most 640 px. They come from where licenses are stated picture by picture: scikit-image, scikit-learn, SciPy
and Matplotlib carry some; GCompris most of the animals, buildings and things, whose sources it lists beside them, and
which it cropped and sharpened; Lomiri's wallpapers and Palapeli's puzzles the rest.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from microscope_atlas.errors import AtlasDamaged, unknown

DEFAULT = "default"  # the set that the package's own pictures make

LICENSES = {  # -> its text
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC BY 3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "Public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
}

PHOTOS = Path(__file__).parent / "photos"


@dataclass(frozen=True)
class Picture:
    """A picture, and whom it is owed to."""

    title: str
    author: str
    license: str  # of LICENSES
    url: str  # where it was taken from, or who states its license
    sha256: str  # of the file that comes with the package

    @property
    def credit(self) -> str:
        """Title, author and license, as whoever shows the picture has to name them."""
        return f"{self.title}, {self.author}, {self.license}"


SOURCES = {name: Picture(**known) for name, known in json.loads((PHOTOS / "photos.json").read_text("utf-8")).items()}

FIRST = (  # those of version 0.1, whose rows show them
    *("astronaut", "cat", "coffee", "rocket", "galaxies", "retina"),
    *("temple", "flower", "admiral", "raccoon", "bricks", "grass"),
)


def source(name: str) -> Image.Image:
    """A picture that comes with the package, RGB.

    UnknownName with the nearest names where there is none; AtlasDamaged where the file is not the one of the table.
    """
    if name not in SOURCES:
        raise unknown("picture", name, "the package", SOURCES)
    path = PHOTOS / f"{name}.jpg"
    file = path.read_bytes()
    if (sha256 := hashlib.sha256(file).hexdigest()) != SOURCES[name].sha256:
        raise AtlasDamaged(f"{path} has sha256 {sha256}, expected {SOURCES[name].sha256}; install the package again")
    with Image.open(io.BytesIO(file)) as image:
        return image.convert("RGB")
