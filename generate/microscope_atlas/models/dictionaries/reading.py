"""Reading a dictionary from a file or a folder, whoever wrote it. No pickle is executed."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from microscope_atlas.errors import DictionaryFailed, WeightsError, first_line
from microscope_atlas.models.dictionaries import matrix, overcomplete, prisma, saelens, saev
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.formats.state_dict import read_safetensors

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
EXPECTED = "a folder of SAELens or Prisma, a .pt of Prisma, saev or overcomplete, or a matrix as .npy or .safetensors"


def read(path: Path) -> Dictionary:
    """The dictionary at a path; DictionaryFailed, which names it, where there is none that can be read."""
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except DictionaryFailed as error:
        raise DictionaryFailed(f"dictionary {path}: {error}") from error
    except OSError as error:
        raise DictionaryFailed(f"dictionary {path}: {error.strerror or error}") from error
    # what settings of other types, and tensors of other shapes, lead to in any of the readers
    except (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError, NotImplementedError) as error:
        said = first_line(error)
        raise DictionaryFailed(f"dictionary {path}: its settings or tensors are not as expected: {said}") from error


def _folder(path: Path) -> Dictionary:
    if (path / saelens.CONFIG).is_file():
        return saelens.read(path)
    files = sorted(each for each in path.iterdir() if each.suffix in (*PICKLES, ".npy", ".safetensors"))
    if len(files) != 1:
        raise DictionaryFailed(f"a folder with {len(files)} files that may hold one; expected {EXPECTED}")
    return _file(files[0])


def _file(path: Path) -> Dictionary:
    if not path.is_file():
        raise DictionaryFailed("there is no such file or folder")
    if path.suffix == ".npy":
        return matrix.read_npy(path)
    if path.suffix == ".safetensors":
        if path.name == saelens.WEIGHTS and (path.parent / saelens.CONFIG).is_file():
            return saelens.read(path.parent)
        if overcomplete.ENCODER in _names(path):
            try:
                return overcomplete.made(read_safetensors(path), path)
            except WeightsError as error:
                raise DictionaryFailed(str(error)) from error
        return matrix.read_safetensors(path)
    if path.suffix not in PICKLES:
        raise DictionaryFailed(f"its name ends with {path.suffix or 'nothing'!r}; expected {EXPECTED}")
    with path.open("rb") as file:
        if file.read(1) == b"{":
            return saev.read(path)
    found = prisma.unpickled(path)
    if prisma.is_tensors(found) and overcomplete.ENCODER in found:
        return overcomplete.made(found, path)
    return prisma.read(path)


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise DictionaryFailed(f"it is no whole safetensors file: {error}") from error
