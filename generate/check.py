"""Every promise of an atlas, verified on its bytes."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generate import schema, store
from generate.card import render_card
from generate.errors import AtlasDamaged
from generate.lenses.registry import LENSES
from generate.plan import Units, content_id, missing
from generate.store import Manifest, Shard

FLAT = 1 / 255  # standard deviation of an image's values below which it must carry the flag


def check(root: Path) -> Iterator[str]:
    """What is wrong with the atlas at `root`, one line each; nothing where every promise holds."""
    try:
        manifest = store.read_manifest(root)
    except AtlasDamaged as error:
        yield str(error)
        return
    yield from _coverage(manifest)
    yield from _files(root, manifest)
    for shard in manifest.shards.values():
        for problem in _shard(root, manifest, shard):
            yield f"{shard.path}: {problem}"


def _coverage(manifest: Manifest) -> Iterator[str]:
    """Each planned unit exactly once."""
    present = [shard.units for shard in manifest.shards.values()]
    for run in missing(manifest.planned, present, most=2**31):
        yield f"{run} is planned and not there; running render again makes it"
    seen: list[Units] = []
    for run in sorted(present):
        for again in {run} - set(missing([run], seen, most=2**31)):
            yield f"{again.path}: some of its units are in another shard too"
        seen.append(run)


def _files(root: Path, manifest: Manifest) -> Iterator[str]:
    """The files are those of the manifest, and the card is that of the atlas."""
    for path in store.shard_files(root):
        if path not in manifest.shards:
            yield f"{path}: the manifest does not name it; running render again takes it in or makes it anew"
    if manifest.shards:
        card = root / schema.CARD
        if not card.is_file():
            yield f"{schema.CARD}: missing; running render again writes it"
        elif card.read_text() != render_card(manifest):
            yield f"{schema.CARD}: does not agree with the data; running render again writes it"


def _shard(root: Path, manifest: Manifest, shard: Shard) -> Iterator[str]:
    path = root / shard.path
    if not path.is_file():
        yield "missing; running render again makes it"
        return
    if store.file_sha256(path) != shard.sha256:
        yield "its sha256 is not the one in the manifest; delete it and run render again"
        return
    units = shard.units
    recipe, model = manifest.lenses.get(units.lens), manifest.models.get(units.model)
    if recipe is None or model is None or shard.id != content_id(units, recipe, model["weights_sha256"]):
        yield "its id is not that of the settings in the manifest"
        return
    table = schema.TABLES[units.lens]
    content = store.read_shard(path)
    if content.schema.names != [column.name for column in table.columns]:
        yield f"its columns are {', '.join(content.schema.names)}, expected those of schema {manifest.schema}"
        return
    rows = content.to_pylist()
    if [table.sort_key(row) for row in rows] != sorted({table.sort_key(row) for row in rows}):
        yield "its rows are not sorted by their keys, each once"
    yield from _rows(rows, units, recipe, model)


def _rows(rows: list[dict[str, Any]], units: Units, recipe: dict[str, Any], model: dict[str, Any]) -> Iterator[str]:
    if sorted({row["unit"] for row in rows}) != list(range(units.start, units.stop)):
        yield f"its units are not {units.start}:{units.stop}"
    expected = LENSES[units.lens].images(recipe) * (units.stop - units.start)
    if len(rows) != expected:
        yield f"it has {len(rows)} rows, expected {expected}"
    for row in rows:
        for problem in _row(row, units, recipe, model["weights_sha256"]):
            yield f"unit {row['unit']}, {row['objective']} {row['direction']:+d}, variant {row['variant']}: {problem}"


def _row(row: dict[str, Any], units: Units, recipe: dict[str, Any], weights_sha256: str) -> Iterator[str]:
    if (row["model"], row["layer"]) != (units.model, units.layer):
        yield f"it is of {row['model']}/{row['layer']}"
    if row["weights_sha256"] != weights_sha256 or not row["software"] or not row["device"]:
        yield "it does not say how it was made"
    made = json.loads(row["recipe"])
    if any(made.get(name) != value for name, value in recipe.items()):
        yield "its recipe is not the atlas' own"
    if row["flag"] is None and (row["score"] is None or not math.isfinite(row["score"])):
        yield f"its score is {row['score']} and no flag says why"
    if row["flag"] != "nan":
        yield from _image(row)


def _image(row: dict[str, Any]) -> Iterator[str]:
    try:
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            values = np.asarray(image.convert("RGB"))
    except (OSError, TypeError) as error:
        yield f"its image does not decode: {error}"
        return
    if row["flag"] is None and values.std() < FLAT * 255:
        yield "its image is flat and no flag says so"
