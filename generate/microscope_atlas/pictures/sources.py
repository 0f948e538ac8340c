"""Pictures that come with the package: free to redistribute, varied, each with its author, license and source.

They are what lenses look at where nothing else is at hand. scikit-image, scikit-learn, SciPy and Matplotlib carry them,
and state their licenses; here they are JPEG of at most 640 px.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from microscope_atlas.errors import AtlasDamaged, unknown

DEFAULT = "default"  # the set that the package's own pictures make

LICENSES = {  # -> its text
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
    "Public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
}


@dataclass(frozen=True)
class Picture:
    """A picture, and whom it is owed to."""

    title: str
    author: str
    license: str  # of LICENSES
    url: str  # where it was taken from, or who states its license
    sha256: str  # of the file that comes with the package


_SKIMAGE = "https://scikit-image.org/docs/stable/api/skimage.data.html#skimage.data."

SOURCES = {
    "astronaut": Picture(
        "Eileen Collins, astronaut",
        "NASA",
        "Public domain",
        "https://flic.kr/p/r9qvLn",
        "9de5c39dfaeb3423b4b3af1fee0f22f0b71c4609a9b265c3aa043becee53a156",
    ),
    "cat": Picture(
        "Chelsea the cat",
        "Stefan van der Walt",
        "CC0 1.0",
        _SKIMAGE + "chelsea",
        "e122579f313cec2886ad083a33a81b11fd680174baa053e943829ed9010b4cbd",
    ),
    "coffee": Picture(
        "Coffee cup, Pikolo Espresso Bar",
        "Rachel Michetti",
        "CC0 1.0",
        _SKIMAGE + "coffee",
        "6617a0e734c95d078544d16ed7a510e4b5edae901495798864d4988a090f2e5d",
    ),
    "rocket": Picture(
        "DSCOVR on Falcon 9 at Cape Canaveral",
        "SpaceX",
        "Public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820/",
        "5127b55a04b79b2b72df86c129e2a8380ecfbeae2196fa1c7927148b71f88270",
    ),
    "galaxies": Picture(
        "Hubble eXtreme Deep Field",
        "NASA, ESA, G. Illingworth, D. Magee, P. Oesch, R. Bouwens and the HUDF09 team",
        "Public domain",
        "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
        "51497ba43c2d56ad041bdff19683d92c594693053b8b7da7434f4a6c066e701b",
    ),
    "retina": Picture(
        "Fundus of a left eye",
        "Mikael Häggström",
        "CC0 1.0",
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
        "247bfa1a4602fdb7581f9c0bec4d124bd9c05b5ec0f1f65d3fcab4982930de25",
    ),
    "temple": Picture(
        "Temple above a lake, China",
        "danielbuechele",
        "CC BY 2.0",
        "https://www.flickr.com/photos/danielbuechele/6061409035/",
        "bce4ec3d6dd2459d46e46eb471534e30965eb69235f80b1ea825bef88012dcf4",
    ),
    "flower": Picture(
        "Dahlia",
        "vultilion",
        "CC BY 2.0",
        "https://www.flickr.com/photos/vultilion/6056698931/",
        "d5cc2b99ca3e4ae873a6782fb68125bc9b7692ca43e4a5da70ee02e1cace4713",
    ),
    "admiral": Picture(
        "Grace Hopper, United States Navy",
        "James S. Davis",
        "Public domain",
        "https://commons.wikimedia.org/wiki/File:Commodore_Grace_M._Hopper,_USN_%28covered%29.jpg",
        "1a7998fb47ffac91314052436de923f0754865d5944a61038cb49f34fb259164",
    ),
    "raccoon": Picture(
        "Raccoon",
        "public-domain-image.com",
        "Public domain",
        "http://www.public-domain-image.com",
        "6461175d3847a6e4d9660808e154368f7f24043cb1b31e3cf7cc397d1cf05e83",
    ),
    "bricks": Picture(
        "Brick pavement",
        "CC0Textures",
        "CC0 1.0",
        "https://cc0textures.com/view.php?tex=Bricks25",
        "f5abc9f0cd03bd794b5af66af8a0a9f3037310f2e3b621a43cc45a736c61129d",
    ),
    "grass": Picture(
        "Grass",
        "linolafett",
        "CC0 1.0",
        "https://www.deviantart.com/linolafett/art/Grass-01-434853879",
        "90493db995032ed7cbf97b55a72e1cc288f4b50d8ddbc57d4ae57c2e57c1440c",
    ),
}


def source(name: str) -> Image.Image:
    """A picture that comes with the package, RGB.

    UnknownName with the nearest names where there is none; AtlasDamaged where the file is not the one of the table.
    """
    if name not in SOURCES:
        raise unknown("picture", name, "the package", SOURCES)
    path = Path(__file__).parent / f"{name}.jpg"
    file = path.read_bytes()
    if (sha256 := hashlib.sha256(file).hexdigest()) != SOURCES[name].sha256:
        raise AtlasDamaged(f"{path} has sha256 {sha256}, expected {SOURCES[name].sha256}; install the package again")
    with Image.open(io.BytesIO(file)) as image:
        return image.convert("RGB")


def sources() -> dict[str, Image.Image]:
    """All of them, by name."""
    return {name: source(name) for name in SOURCES}
