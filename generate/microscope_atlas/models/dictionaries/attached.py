"""Dictionaries behind layers of a model: from what is asked for to the numbers, on whichever machine renders.

A dictionary enters an atlas by its sha256: the manifest states it with the model, rows say it in their recipe, content
ids are made of it. So another file under the same name is another atlas, and what rows of the network's own layers are
stays as it was. A job carries what the manifest states, for a worker knows of nothing else; `attach` notes it in the
process, where `catalog.organism` finds it under the model's name, as everything else asks for a network. The numbers
are copied into the cache under their hash when they are first read, so that an atlas is resumed and reproduced after
the file was moved; where they are not there they are read again where they came from.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from microscope_atlas.atlas import dictionaries
from microscope_atlas.atlas.dictionaries import Attached
from microscope_atlas.cache import cache, whole
from microscope_atlas.errors import DictionaryFailed, HubFailed, InvalidKey
from microscope_atlas.hub.repo import Repo
from microscope_atlas.keys import LAYER
from microscope_atlas.models.dictionaries.dictionary import Dictionary
from microscope_atlas.models.dictionaries.reading import read
from microscope_atlas.models.organism import Organism

HUB = "hub:"
EXPECTED = "expected LAYER=PATH, LAYER:NAME=PATH, or hub:OWNER/NAME[@REVISION] in place of PATH"
MOST_LETTERS = 200  # of a layer's name, by which files are called: file systems take 255 with what stands behind it
NUMBER = re.compile(r"(?<![a-zA-Z\d])\d+(?!\d)")  # of a block, as a part of a path: no digit of `dinov2` or `fc1`
HOOK = re.compile(r"(?:(?:attn|mlp)\.)?hook_(?P<name>\w+)$")  # as TransformerLens and Prisma name them
_TOKEN = r"(?:_(?:cls|dist|reg\d+|prefix\d+))?$"  # one that is no place, whose layer is called after its map's
SUM = re.compile(rf"^(?!.*(?:attn|attention|mlp)).*(?<![a-zA-Z\d])\d+{_TOKEN}")  # that a block ends with
HIDDEN, HEADS = re.compile(rf"_mlp{_TOKEN}"), re.compile(rf"_heads{_TOKEN}")

_noted: dict[str, dict[str, Attached]] = {}  # model -> layer that the dictionary makes -> what it is


def attach(model: str, known: Mapping[str, Attached]) -> None:
    """Note, in this process, which dictionaries stand behind a model's layers; those noted before are let go."""
    _noted[model] = dict(known)


def attached(model: str) -> dict[str, Attached]:
    """Those of a model, by the layers they make."""
    return _noted.get(model, {})


def stated(manifest_models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Attached]]:
    """Dictionaries of an atlas' models, as its manifest has them."""
    return {name: dictionaries.stated(model) for name, model in manifest_models.items()}


def opened(organism: Organism, words: str) -> tuple[str, Attached]:
    """The layer that `LAYER[:NAME]=PATH` makes behind one of a network's own, and what it is.

    The dictionary is read, held to the layer, and kept in the cache; DictionaryFailed where it cannot be, or does not
    fit.
    """
    where, equals, source = words.partition("=")
    behind, colon, name = where.partition(":")
    if not equals or not source or not LAYER.fullmatch(behind) or (colon and not LAYER.fullmatch(name)):
        raise DictionaryFailed(f"--dictionary {words!r}; {EXPECTED}, with names of letters, digits and _")
    layer = organism.layer(behind)
    found, source, path = _fetched(source)
    name = name or f"sae{found.sha256[:6]}"
    made = f"{behind}_{name}"
    if len(made) > MOST_LETTERS:
        raise DictionaryFailed(
            f"--dictionary {words[:40]}...: the layer's name has {len(made)} letters, {MOST_LETTERS} at most; give a "
            "shorter NAME"
        )
    folded = {known.casefold(): known for known in organism.layers}
    if made.casefold() in folded:
        raise DictionaryFailed(f"--dictionary {words}: {folded[made.casefold()]} is a layer already; give another NAME")
    if found.width != layer.units:
        raise DictionaryFailed(
            f"--dictionary {words}: it reads {found.width} units, {organism.name}/{behind} has {layer.units}"
        )
    _refuse_other(found, organism, behind, words)
    keep(found)
    tokens = {"tokens": "places", "conv": "positions", "dense": "the layer's one vector"}[layer.kind]
    says = tuple(sorted(found.says.items()))
    return made, Attached(behind, found.sha256, found.units, found.described, tokens, source, says, str(path))


def _refuse_other(found: Dictionary, organism: Organism, behind: str, words: str) -> None:
    """DictionaryFailed where a dictionary says that it is of another network, layer or token than this.

    Names differ between libraries: of a hook's name the number of the block is compared, and of a matrix's header,
    which has the names that keys have, all.
    """
    says, layer = found.says, organism.layer(behind)
    if "model" in says and says["model"] != organism.name:
        raise DictionaryFailed(f"--dictionary {words}: it is of {says['model']}, not of {organism.name}")
    if found.activation == "linear" and says.get("layer", behind) != behind:  # of a matrix' header
        raise DictionaryFailed(f"--dictionary {words}: it is of layer {says['layer']}, not of {behind}")
    if not fits(says.get("layer", ""), behind):
        raise DictionaryFailed(f"--dictionary {words}: it was trained on {says['layer']}, which {behind} is not")
    if says.get("tokens") == "class" and layer.kind != "dense":
        others = [f"{behind}_{token}" for token in ("cls", "prefix0") if f"{behind}_{token}" in organism.layers]
        raise DictionaryFailed(
            f"--dictionary {words}: it was trained on the class token alone; attach it to {[*others, 'its layer'][0]}"
        )
    if says.get("tokens") == "patches" and layer.kind == "dense":
        raise DictionaryFailed(f"--dictionary {words}: it was trained on patches alone, {behind} is no map of them")


def fits(trained_on: str, behind: str) -> bool:
    """Whether a layer may be what a dictionary was trained on, as far as both names say.

    Numbers of blocks are compared, as far as both have some; and of TransformerLens' hooks, which are many in a block
    and of one width, what they are. `hook_resid_pre` is what a block reads: the sum that the one before it ends with.
    """
    there, here = ([int(each) for each in NUMBER.findall(name)] for name in (trained_on, behind))
    hook = HOOK.search(trained_on)
    alike = True
    if hook:
        if hook["name"] == "resid_pre" and there:
            there[-1] -= 1
        if SUM.search(behind):
            alike = hook["name"] in ("resid_pre", "resid_post")
        elif HIDDEN.search(behind):
            alike = "mlp" in hook.group()
        elif HEADS.search(behind):
            alike = hook.group() == "attn.hook_z"
    return alike and all(one == other for one, other in zip(there, here, strict=False))


def _fetched(source: str) -> tuple[Dictionary, str, Path | str]:
    """A dictionary, its source as a manifest states it, and where it is."""
    if not source.startswith(HUB):
        path = Path(source).expanduser().resolve()
        return read(path), path.name, path
    name, _, revision = source.removeprefix(HUB).partition("@")
    owner, _, rest = name.partition("/")
    short, _, inside = rest.partition("/")
    try:
        repo = Repo(f"{owner}/{short}", "model")
        commit = repo.resolve_and_note(revision or "main")
        files = [path for path in repo.sizes(commit) if _is_inside(path, inside)]
        with TemporaryDirectory() as folder:
            for each in files:
                repo.download(each, commit, Path(folder))
            found = read(Path(folder) / inside)
    except (HubFailed, InvalidKey) as error:
        raise DictionaryFailed(f"dictionary {source}: {error}") from error
    except DictionaryFailed as error:
        told = str(error).partition(": ")[2]
        raise DictionaryFailed(f"dictionary {source}: {told}") from error
    return found, f"{HUB}{name}@{commit}", ""


def _is_inside(path: str, inside: str) -> bool:
    """Whether a file of a repository is the one asked for, or stands directly in the folder asked for."""
    folder, _, last = path.rpartition("/")
    return path == inside or path == f"{inside}.json" or (folder == inside and not last.startswith("."))


def load(layer: str, one: Attached) -> Dictionary:
    """The numbers of an attached dictionary; DictionaryFailed where they are to be had no longer, or are others."""
    path = _kept_at(one.sha256)
    if path.is_file():
        return _read_kept(path, one.sha256)
    here = one.where if one.where and Path(one.where).exists() else ""
    source = here or (one.source if one.source.startswith(HUB) else "")
    if not source:
        raise DictionaryFailed(
            f"the dictionary of {layer}, {one.source} with sha256 {one.sha256}, is not on this machine; say where it "
            f"is: --dictionary {one.behind}:{layer.removeprefix(f'{one.behind}_')}=PATH"
        )
    found, _, _ = _fetched(source)
    if found.sha256 != one.sha256:
        raise DictionaryFailed(
            f"the dictionary of {layer} at {source} has sha256 {found.sha256}, expected {one.sha256}"
        )
    keep(found)
    return found


def take(words: str) -> None:
    """Copy a dictionary at `PATH`, or `LAYER[:NAME]=PATH`, into the cache, where those who know its hash find it."""
    _, equals, source = words.partition("=")
    found, _, _ = _fetched(source if equals else words)
    keep(found)


def keep(found: Dictionary) -> None:
    """Put a dictionary into the cache, under its hash, whole or not at all."""
    path = _kept_at(found.sha256)
    if path.is_file():
        return
    # copies: a bias that is taken away and added again may be one tensor, which safetensors does not write twice
    tensors = {name: value.clone() for name, value in found.tensors.items()}
    try:
        with whole(path) as beside:
            save_file(tensors, beside, metadata={"settings": json.dumps(found.settings)})
    except (OSError, SafetensorError) as error:  # the latter for a full disk, too
        raise DictionaryFailed(
            f"{path} cannot be written: {error}; free some space, or have MICROSCOPE_ATLAS_CACHE name another folder"
        ) from error


def _kept_at(sha256: str) -> Path:
    return cache() / "dictionaries" / f"{sha256}.safetensors"


def _read_kept(path: Path, sha256: str) -> Dictionary:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            found = Dictionary(**tensors, **json.loads((file.metadata() or {})["settings"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, DictionaryFailed) as error:
        raise DictionaryFailed(f"{path} is damaged: {error!r}; delete it, and it is made anew") from error
    if found.sha256 != sha256:
        raise DictionaryFailed(f"{path} is damaged: its sha256 is {found.sha256}; delete it, and it is made anew")
    return found
