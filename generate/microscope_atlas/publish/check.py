"""Every promise of an atlas, verified on its bytes."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from PIL import Image

from microscope_atlas.atlas import images, lists, releases, schema, shards
from microscope_atlas.atlas.manifest import Manifest, Shard, read_manifest
from microscope_atlas.atlas.organisms import Kind, organisms
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.atlas.tables import Table
from microscope_atlas.atlas.units import Made, UnitRange, missing
from microscope_atlas.errors import AtlasDamaged, AtlasError
from microscope_atlas.pictures.decoder import coarse, decoded
from microscope_atlas.publish.card import agrees

FLAGS = ("nan", "flat", "dead", "few")
FLAT = 1.0  # standard deviation of an image's values, 0 to 255, below which it must carry a flag
SURELY = 4 * FLAT  # of an image made coarse, whose values are means, which deviate less: above it the whole is not flat


def check(storage: Storage, sample: int | None = None) -> Iterator[str]:
    """What is wrong with an atlas, one line each; nothing where every promise holds.

    Of its shards at most `sample` are read, evenly spread over models, lenses and layers; None: all.
    """
    try:
        manifest, there = read_manifest(storage), shards.parquet_files(storage).keys()
        if not manifest.intact:
            yield f"{schema.MANIFEST}: somebody has changed it: put it back; running render again takes it as it stands"
        yield from _coverage(manifest)
        made = sorted(manifest.shards.values(), key=lambda shard: (shard.units.model, shard.path))
        num_read = min(len(made), sample or len(made))
        chosen = {made[at * len(made) // num_read].path for at in range(num_read)}
        tables = {lens: manifest.table(lens) for lens in manifest.lenses}
        # most rows say the same of how they were made
        made_with = lru_cache(maxsize=256)(lambda lens, text: _made_with(text, manifest.lenses[lens]))
        known = _Known(manifest, tables, manifest.made, shards.Parser(), made_with)
        for model, some in groupby(made, lambda shard: shard.units.model):
            yield from _model(storage, known, there, model, list(some), chosen)
        yield from _files(storage, manifest, there)
        yield from lists.problems(storage, manifest)
    except AtlasError as error:  # what cannot be read or is unknown here ends the check
        yield str(error)


def _made_again(manifest: Manifest, lens: str, how: str) -> str:
    """How rows are had again that are lost or damaged: `how`, except labels from a file, which nobody can render."""
    if lens not in manifest.given_labels:
        return how
    name, file = lens.removeprefix(f"{schema.LABELS.name}_"), manifest.lenses[lens].get("file")
    return f"take these labels back and in again: label ATLAS --forget {name}, then --from {file}"


class _Known(NamedTuple):
    """A manifest with what many shards ask of it."""

    manifest: Manifest
    tables: Mapping[str, Table]  # of its lenses
    made: Made
    parse: shards.Parser
    made_with: Callable[[str, str], bool]  # whether a recipe, as it stands in a row, is that of a lens

    def table(self, shard: Shard) -> Table:
        lens = shard.units.lens
        return self.tables[lens] if lens in self.tables else self.manifest.table(lens)


def _coverage(manifest: Manifest) -> Iterator[str]:
    """Each planned unit exactly once."""
    present = [shard.units for shard in manifest.shards.values()]
    for run in missing(manifest.planned, present):
        how = _made_again(manifest, run.lens, "running render again makes it, and forget takes it back")
        yield f"{run} is planned and not there; {how}"
    for run in missing(present, manifest.planned):
        yield f"{run} is there, and nobody planned it; running render again for just these plans it"
    stops: dict[tuple[str, str, str], int] = {}
    for run in sorted(present):
        layer = (run.lens, run.model, run.layer)
        if run.start < stops.get(layer, 0):
            yield f"{run.path}: some of its units are in another shard too"
        stops[layer] = max(run.stop, stops.get(layer, 0))


def _files(storage: Storage, manifest: Manifest, there: Set[str]) -> Iterator[str]:
    """The files are those of the manifest, and the card is that of the atlas."""
    for path in sorted(there - {*manifest.shards, *map(schema.index_path, manifest.indexes)}):
        yield f"{path}: the manifest does not name it; render takes it in if it belongs here, else delete it"
    if manifest.cover:
        present = storage.size(schema.COVER) is not None
        if not present or hashlib.sha256(storage.read(schema.COVER)).hexdigest() != manifest.cover:
            yield f"{schema.COVER}: missing, or not the one in the manifest; running render again makes it"
    if manifest.shards:
        if storage.size(schema.CARD) is None:
            yield f"{schema.CARD}: missing; running render again writes it"
        elif not agrees(storage.read(schema.CARD).decode(errors="replace"), manifest, releases.read(storage)):
            yield f"{schema.CARD}: does not agree with the data; running render again writes it"


def _model(
    storage: Storage, known: _Known, there: Set[str], model: str, made: Sequence[Shard], chosen: Set[str]
) -> Iterator[str]:
    """A model's shards are whole, and its index says where their images lie."""
    entries: dict[str, list[dict[str, Any]]] = {}
    whole = True
    for shard in made:
        path, how = shard.path, _made_again(known.manifest, shard.units.lens, "running render again makes it")
        problems = [] if path in there else [f"missing; {how}"]
        if not problems and path in chosen:
            with storage.local_copy(path) as file:
                parsed, problems = _shard(file, known, shard)
                if parsed and not problems:
                    entries[path] = images.rows(file, shard, known.table(shard), parsed)
        whole = whole and not problems
        for problem in problems:
            yield f"{path}: {problem}"
    index = schema.index_path(model)
    if whole and index not in there:
        yield f"{index}: missing, or not of the shards that are there; running render again makes it"
    elif whole:
        yield from _index(storage, known.manifest, model, entries)


def _index(
    storage: Storage, manifest: Manifest, model: str, entries: Mapping[str, list[dict[str, Any]]]
) -> Iterator[str]:
    """The index of a model's images agrees with `entries`, which are those of some shards, by path."""
    path = schema.index_path(model)
    if not images.is_current(storage, manifest, model):
        yield f"{path}: missing, or not of the shards that are there; running render again makes it"
        return
    with storage.local_copy(path) as file:
        if shards.file_sha256(file) != manifest.indexes[model].sha256:
            yield f"{path}: its sha256 is not the one in the manifest; delete it and run render again"
            return
        content = shards.read_shard(file).to_pylist()
        if (len(content), file.stat().st_size) != (manifest.indexes[model].rows, manifest.indexes[model].bytes):
            yield f"{path}: has {len(content)} rows, which is not what the manifest says of it"
        stated = [row for row in content if row["file"] in entries]
    if stated != sorted((row for rows in entries.values() for row in rows), key=schema.INDEX.sort_key):
        yield f"{path}: does not say where the images lie"


def _shard(path: Path, known: _Known, shard: Shard) -> tuple[shards.Parsed | None, list[str]]:
    """A shard's rows, as far as they can be read and are of its table, and what is wrong with it."""
    if path.stat().st_size != shard.bytes or hashlib.sha256(data := path.read_bytes()).hexdigest() != shard.sha256:
        how = _made_again(known.manifest, shard.units.lens, "delete it and run render again")
        return None, [f"its length or sha256 is not the one in the manifest; {how}"]
    manifest, table = known.manifest, known.table(shard)
    if not manifest.expects(shard, known.made):
        return None, ["its id is not that of the settings in the manifest"]
    try:
        parsed = known.parse(data, path)
    except AtlasDamaged as error:
        return None, [str(error)]
    if not parsed.schema.equals(table.arrow):
        names = ", ".join(parsed.schema.names)
        return None, [f"its columns are not those of schema {manifest.schema}: {names}"]
    return parsed, list(_content(parsed.rows, table, known, shard))


def _content(rows: list[dict[str, Any]], table: Table, known: _Known, shard: Shard) -> Iterator[str]:
    if len(rows) != shard.rows:
        yield f"it has {len(rows)} rows, {shard.rows} in the manifest"
    if not _sorted(rows, table):
        yield "its rows are not sorted by their keys, each once"
    yield from _rows(rows, table, shard.units, known)


def _sorted(rows: list[dict[str, Any]], table: Table) -> bool:
    """Whether rows are sorted by their keys, each once. Version 0.1 had all words in the order of their letters."""
    return _in_order(rows, table) or bool(rows and _by_0_1(rows[0]) and _in_order(rows, _by_letters(table)))


def _in_order(rows: list[dict[str, Any]], table: Table) -> bool:
    keys = [table.sort_key(row) for row in rows]
    return keys == sorted(set(keys))


def _by_letters(table: Table) -> Table:
    return replace(table, columns=tuple(replace(column, order=()) for column in table.columns))


def _by_0_1(row: dict[str, Any]) -> bool:
    return str(row["software"]).startswith("microscope-atlas 0.1.")


def _rows(rows: list[dict[str, Any]], table: Table, units: UnitRange, known: _Known) -> Iterator[str]:
    recipe, weights_sha256 = known.manifest.lenses[units.lens], known.manifest.models[units.model]["weights_sha256"]
    about = range(units.start, units.stop) if table.level == "unit" else [None]
    found = Counter(row.get("unit") for row in rows)
    each = {table.rows_each(recipe, kind) for kind in _kinds(units)}
    if not set(found) <= set(about) or (None not in each and found not in [dict.fromkeys(about, n) for n in each]):
        what = f"each of the units {units.start}:{units.stop}" if table.level == "unit" else "the layer"
        expected = "only" if None in each else " or ".join(map(str, sorted(filter(None, each))))
        yield f"it does not hold {expected} rows of {what}"
    made_with = partial(known.made_with, units.lens)
    for row in rows:
        for problem in _row(row, table, units, made_with, weights_sha256):
            named = ", ".join(f"{c.name} {row[c.name]}" for c in table.keys if c.name not in ("model", "layer"))
            yield f"{named or 'its row'}: {problem}"


def _kinds(units: UnitRange) -> tuple[Kind, ...]:
    """What a layer may be, of a network that the catalog does not know either."""
    known = organisms().get(units.model)
    return (known.layers[units.layer].kind,) if known and units.layer in known.layers else get_args(Kind)


def _row(
    row: dict[str, Any], table: Table, units: UnitRange, made_with: Callable[[str], bool], weights_sha256: str
) -> Iterator[str]:
    if (row["model"], row["layer"]) != (units.model, units.layer):
        yield f"it is of {row['model']}/{row['layer']}"
    if row["weights_sha256"] != weights_sha256 or not row["software"] or not row["device"]:
        yield "it does not say how it was made"
    if not made_with(row["recipe"]):
        yield "its recipe is not the atlas' own"
    flag = row.get("flag")
    if flag not in (None, *FLAGS):
        yield f"its flag is {flag!r}, expected one of {', '.join(FLAGS)}"
    if flag == "nan":
        if any(row[name] is not None for name in table.images):
            yield "it is flagged nan and has an image"
        return
    rendered = "seed" in row  # a picture that was made; other images show the world, which has plain places
    excused = row.get("score") is None and flag is not None and not rendered  # of what was made a flag has a score, too
    if table.config == schema.LABELS.name and not all(row[name] for name in ("label", "method", "source", "license")):
        yield "it does not say who says so"
    unscored = (
        row.get("score") is None and "measure" in row and row["measure"] is None
    )  # of labels, which may have none
    if "score" in row and not (excused or unscored) and (row["score"] is None or not math.isfinite(row["score"])):
        yield f"its score is {row['score']} and no flag says why"
    if rendered and row["image"] is None:
        yield "it has no image and no flag says why"
    for name in table.images:
        if row[name] is not None:
            yield from _image(row[name], may_be_flat=flag is not None or not rendered or name != "image")


def _made_with(text: str, recipe: dict[str, Any]) -> bool:
    """Whether a row's recipe holds all the atlas' settings; it may say more, such as its size.

    Its batch may be smaller than the atlas', where memory was too short for that.
    """
    made = _read(text)
    if made is None:
        return False
    if "batch" in recipe and made.get("batch") in range(1, recipe["batch"]):
        recipe = {**recipe, "batch": made["batch"]}
    return _says(made, recipe)


def _read(text: str) -> dict[str, Any] | None:
    """A recipe as it stands in a row; None where it is none."""
    try:
        made = json.loads(text)
    except (ValueError, RecursionError):  # the latter: lists in lists in lists
        return None
    return made if isinstance(made, dict) else None


def _says(made: Any, recipe: Any) -> bool:
    """Whether settings are among others, those within settings too."""
    if isinstance(made, dict) and isinstance(recipe, dict):
        return all(name in made and _says(made[name], value) for name, value in recipe.items())
    return bool(made == recipe)


def _image(image: dict[str, Any], may_be_flat: bool) -> Iterator[str]:
    encoded = image["bytes"] or b""
    try:
        small = coarse(encoded)
        if not (may_be_flat or _deviates(small, SURELY) or _deviates(decoded(encoded), FLAT)):
            yield "its image is flat and no flag says so"
    except AtlasDamaged as error:
        yield f"its {error}"


def _deviates(image: Image.Image, least: float) -> bool:
    """Whether the standard deviation of all values of an image as RGB, 0 to 255, is `least` or more."""
    plain = image if image.mode == "RGB" else image.convert("RGB")
    size = 3 * plain.width * plain.height
    lows, highs = zip(*plain.getextrema(), strict=True)
    if (max(highs) - min(lows)) ** 2 >= 2 * size * least**2:  # two values alone deviate by so much
        return True
    values = np.frombuffer(plain.tobytes(), np.uint8).astype(np.float64)
    # its sums are whole numbers below 2^53, so exact
    return bool(size * np.dot(values, values) - values.sum() ** 2 >= (least * size) ** 2)
