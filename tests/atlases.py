"""Small atlases of a real network, quickly made: to be looked at, continued and damaged."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from microscope_atlas.atlas import images as index
from microscope_atlas.atlas import releases, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest, write_manifest
from microscope_atlas.atlas.shards import parquet_files, read_shard, write_shard
from microscope_atlas.atlas.storage import WritableStorage
from microscope_atlas.lenses.feature_visualization import Recipe
from microscope_atlas.lenses.registry import UNASKED, lens
from microscope_atlas.models import weights
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish.card import render_card
from microscope_atlas.run import run
from microscope_atlas.run.engines.engine import Engine
from microscope_atlas.run.engines.local import LocalEngine

MODEL, LAYER, LENS = "efficientnet_lite0", "stem", "feature_visualization"
RECIPE: Recipe = lens(LENS).quick()
IMAGES = 4  # of a unit, with this recipe
PICTURES = Path(__file__).parent / "pictures" / "few"
HERE = LocalEngine(torch.device("cpu"))


def at(root: Path | WritableStorage) -> WritableStorage:
    return Folder(root) if isinstance(root, Path) else root


def request(
    layers: Mapping[str, range], kind: weights.WeightsKind = "pretrained", model: str = MODEL
) -> run.RenderRequest:
    known = organism(model)
    return run.RenderRequest(known, weights.load(known, kind), kind, layers)


def render(
    root: Path | WritableStorage,
    units: range = range(3),
    recipe: Recipe = RECIPE,
    per_shard: int = 2,
    engine: Engine = HERE,
    kind: weights.WeightsKind = "pretrained",
) -> run.Outcome:
    """Render units of the first layer into the atlas at `root`."""
    return run.render(at(root), [request({LAYER: units}, kind)], {LENS: recipe}, engine, per_shard, lambda *_: None)


def quick(name: str) -> Any:
    """A lens' settings, as quick as they can be; natural pictures are those that the tests keep."""
    return lens(name).quick().with_pictures(str(PICTURES))


def render_every(
    root: Path, layers: Mapping[str, range], model: str = MODEL, lenses: Sequence[str] = UNASKED
) -> run.Outcome:
    """Render units of these layers into the atlas at `root`, through every lens that is rendered unasked, or these."""
    recipes = {name: quick(name) for name in lenses}
    return run.render(Folder(root), [request(layers, model=model)], recipes, HERE, 2, lambda *_: None)


def shards(root: Path) -> list[Path]:
    return [root / path for path in parquet_files(Folder(root)) if not path.startswith(schema.INDEX.name)]


def rows(root: Path) -> list[dict[str, Any]]:
    """All rows of the atlas in the order of its files, which is that of the units."""
    return pa.concat_tables([read_shard(path) for path in shards(root)]).to_pylist()


def content(root: Path) -> dict[str, bytes]:
    """Every file of the atlas, byte for byte."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def replace_rows(root: Path, path: str, changed: Sequence[dict[str, Any]]) -> None:
    """Write other rows into a shard and have the manifest vouch for them, as a mistaken lens would."""
    manifest = read_manifest(Folder(root))
    units = manifest.shards[path].units
    manifest.shards[path] = write_shard(Folder(root), units, manifest.shards[path].id, changed)
    index.update(Folder(root), manifest)
    write_manifest(Folder(root), manifest)
    Folder(root).write(schema.CARD, render_card(manifest, releases.read(Folder(root))))
