import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import microscope_atlas
from microscope_atlas.atlas import images as index
from microscope_atlas.atlas import schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.shards import file_sha256, read_shard, write_shard
from microscope_atlas.atlas.units import content_id
from microscope_atlas.publish.card import render_card
from microscope_atlas.publish.check import check
from microscope_atlas.run import run
from tests import atlases
from tests.atlases import LAYER, LENS, MODEL, replace_rows, shards

PATH = f"{LENS}/{MODEL}/{LAYER}.00000-00002.parquet"
INDEX = schema.index_path(MODEL)
FIRST_ROW = f"{PATH}: unit 0, method fourier, objective channel, direction 1, variant 0: "


def edit_rows(root: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Have a shard hold other rows, and the manifest agree."""
    rows = read_shard(root / PATH).to_pylist()
    edit(rows)
    replace_rows(root, PATH, rows)


def edit_manifest(root: Path, edit: Callable[[Manifest], object]) -> None:
    manifest = read_manifest(Folder(root))
    edit(manifest)
    write_manifest(Folder(root), manifest)


def edit_card(root: Path) -> None:
    """Have the card agree with the manifest."""
    (root / schema.CARD).write_text(render_card(read_manifest(Folder(root))))


def vouch(root: Path) -> None:
    """Have the manifest agree with the bytes of a shard, whatever they are."""
    file = root / PATH
    digest, length = file_sha256(file), file.stat().st_size
    edit_manifest(root, lambda m: m.shards.update({PATH: replace(m.shards[PATH], sha256=digest, bytes=length)}))
    edit_card(root)


def picture(colour: tuple[int, int, int]) -> dict[str, Any]:
    return stored(Image.new("RGB", (32, 32), colour))


def chequered(one: int, other: int) -> dict[str, Any]:
    """Pixels of two grays in turns, whose mean is the same everywhere."""
    turns = np.indices((32, 32)).sum(0) % 2 == 0
    return stored(Image.fromarray(np.where(turns, one, other).astype(np.uint8)).convert("RGB"))


def stored(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return {"bytes": file.getvalue(), "path": "plain.jpg"}


def test_clean_atlas_has_no_problems(atlas: Path) -> None:
    assert list(check(Folder(atlas))) == []


def test_folder_without_an_atlas_is_told(tmp_path: Path) -> None:
    (problem,) = check(Folder(tmp_path))
    assert "holds no atlas" in problem


def test_flipped_byte(atlas: Path) -> None:
    data = bytearray((atlas / PATH).read_bytes())
    data[len(data) // 2] ^= 1
    (atlas / PATH).write_bytes(data)
    assert list(check(Folder(atlas))) == [
        f"{PATH}: its length or sha256 is not the one in the manifest; delete it and run render again"
    ]


def test_unreadable_shard_that_the_manifest_vouches_for(atlas: Path) -> None:
    (atlas / PATH).write_bytes(b"PAR1")
    vouch(atlas)
    (problem,) = check(Folder(atlas))
    assert problem.startswith(f"{PATH}: {atlas / PATH} cannot be read")


def test_lost_shard(atlas: Path) -> None:
    (atlas / PATH).unlink()
    assert list(check(Folder(atlas))) == [f"{PATH}: missing; running render again makes it"]


def test_planned_units_that_no_shard_holds(atlas: Path) -> None:
    (atlas / PATH).unlink()
    edit_manifest(atlas, lambda m: m.shards.pop(PATH))
    (atlas / schema.CARD).unlink()
    assert list(check(Folder(atlas))) == [
        f"{LENS} of {MODEL}/{LAYER} 0:2 is planned and not there; "
        "running render again makes it, and forget takes it back",
        f"{INDEX}: missing, or not of the shards that are there; running render again makes it",
        "README.md: missing; running render again writes it",
    ]


def test_units_in_two_shards(atlas: Path) -> None:
    manifest = read_manifest(Folder(atlas))
    shard = manifest.shards[PATH]
    again = replace(shard.units, stop=1)
    rows = [row for row in read_shard(atlas / PATH).to_pylist() if row["unit"] == 0]
    id = content_id(again, manifest.lenses[LENS], manifest.models[MODEL]["weights_sha256"])
    twice = write_shard(Folder(atlas), again, id, rows)
    edit_manifest(atlas, lambda m: (m.shards.update({twice.path: twice}), index.update(Folder(atlas), m)))
    edit_card(atlas)
    assert list(check(Folder(atlas))) == [f"{PATH}: some of its units are in another shard too"]


def test_stray_shard(atlas: Path) -> None:
    stray = PATH.replace(LAYER, "stray")
    (atlas / stray).write_bytes((atlas / PATH).read_bytes())
    assert list(check(Folder(atlas))) == [
        f"{stray}: the manifest does not name it; render takes it in if it belongs here, else delete it"
    ]


def test_edited_card(atlas: Path) -> None:
    card = (atlas / schema.CARD).read_text()
    (atlas / schema.CARD).write_text(card.replace("# Microscope Atlas", "# Ours", 1))
    assert list(check(Folder(atlas))) == ["README.md: does not agree with the data; running render again writes it"]


def test_other_settings_than_the_id_says(atlas: Path) -> None:
    edit_manifest(atlas, lambda m: m.lenses[LENS].update(max_size=64))
    edit_card(atlas)
    wrong = "its id is not that of the settings in the manifest"
    assert list(check(Folder(atlas))) == [f"{path.relative_to(atlas)}: {wrong}" for path in shards(atlas)]


def test_unknown_table(atlas: Path) -> None:
    def rename(manifest: Manifest) -> None:
        shard = manifest.shards.pop(PATH)
        other = replace(shard, units=replace(shard.units, lens="feature_visualisation"))
        manifest.shards[other.path] = other

    edit_manifest(atlas, rename)
    told = "table 'feature_visualisation' is not in schema 1; nearest: feature_visualization"
    assert any(problem.startswith(told) for problem in check(Folder(atlas)))


def test_foreign_schema(atlas: Path) -> None:
    newer = replace(read_manifest(Folder(atlas)), schema="2")  # which no writer of this version would write
    Folder(atlas).write(schema.MANIFEST, newer.to_json())
    (problem,) = check(Folder(atlas))
    assert "has schema '2'" in problem


def test_unsorted_rows(atlas: Path) -> None:
    table = read_shard(atlas / PATH)
    pq.write_table(table.take(list(range(table.num_rows))[::-1]), atlas / PATH)
    vouch(atlas)
    assert list(check(Folder(atlas))) == [f"{PATH}: its rows are not sorted by their keys, each once"]


def test_row_twice_in_place_of_another(atlas: Path) -> None:
    edit_rows(atlas, lambda rows: rows.__setitem__(1, rows[0]))
    assert list(check(Folder(atlas))) == [f"{PATH}: its rows are not sorted by their keys, each once"]


def test_lost_row(atlas: Path) -> None:
    edit_rows(atlas, lambda rows: rows.pop())
    assert list(check(Folder(atlas))) == [f"{PATH}: it does not hold 4 rows of each of the units 0:2"]


def test_unit_of_another_shard(atlas: Path) -> None:
    edit_rows(atlas, lambda rows: [row.update(unit=5) for row in rows if row["unit"] == 1])
    assert list(check(Folder(atlas))) == [f"{PATH}: it does not hold 4 rows of each of the units 0:2"]


def test_other_number_of_rows_than_the_manifest_says(atlas: Path) -> None:
    edit_manifest(atlas, lambda m: m.shards.update({PATH: replace(m.shards[PATH], rows=9)}))
    assert list(check(Folder(atlas))) == [f"{PATH}: it has 8 rows, 9 in the manifest"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda table: table.drop_columns("flag"),
        lambda table: table.append_column("more", pa.array([0] * table.num_rows)),
        lambda table: table.set_column(table.column_names.index("seed"), "seed", table["seed"].cast(pa.string())),
    ],
)
def test_columns_of_another_schema(atlas: Path, edit: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(edit(read_shard(atlas / PATH)), atlas / PATH)
    vouch(atlas)
    (problem,) = check(Folder(atlas))
    assert problem.startswith(f"{PATH}: its columns are not those of schema 1")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image": picture((120, 120, 120))}, "its image is flat and no flag says so"),
        ({"image": {"bytes": b"\xff\xd8 not a picture", "path": "broken.jpg"}}, "its image does not decode: "),
        ({"image": {"bytes": None, "path": "elsewhere.jpg"}}, "its image does not decode: "),
        ({"image": None}, "it has no image and no flag says why"),
        ({"flag": "nan", "score": None}, "it is flagged nan and has an image"),
        ({"flag": "nan", "score": None, "image": None}, None),
        ({"image": chequered(120, 120)}, "its image is flat and no flag says so"),
        ({"image": chequered(110, 130)}, None),  # though flat where eight pixels are seen as one
        ({"image": chequered(118, 122)}, None),
        ({"flag": "flat", "image": picture((120, 120, 120))}, None),
        ({"opacity": picture((255, 255, 255))}, None),
        ({"opacity": {"bytes": b"no picture", "path": "broken.jpg"}}, "its image does not decode: "),
        ({"flag": "pretty"}, "its flag is 'pretty', expected one of nan, flat, dead"),
        ({"score": None}, "its score is None and no flag says why"),
        ({"score": float("inf")}, "its score is inf and no flag says why"),
        ({"flag": "dead", "score": None}, "its score is None and no flag says why"),
        ({"recipe": json.dumps({"variants": 0})}, "its recipe is not the atlas' own"),
        ({"recipe": "quickly"}, "its recipe is not the atlas' own"),
        ({"software": ""}, "it does not say how it was made"),
        ({"device": ""}, "it does not say how it was made"),
        ({"weights_sha256": "0" * 64}, "it does not say how it was made"),
    ],
)
def test_each_row(atlas: Path, change: dict[str, Any], complaint: str | None) -> None:
    edit_rows(atlas, lambda rows: rows[0].update(change))
    problems = list(check(Folder(atlas)))
    if complaint is None:
        assert problems == []
    else:
        (problem,) = problems
        assert problem.startswith(FIRST_ROW + complaint)


def test_row_of_another_layer(atlas: Path) -> None:
    edit_rows(atlas, lambda rows: [row.update(layer="head") for row in rows])
    problems = list(check(Folder(atlas)))
    assert problems[0] == f"{FIRST_ROW}it is of {MODEL}/head"
    assert len(problems) == 8


def test_dense_units_have_rows_of_the_one_objective_that_they_have(tmp_path: Path) -> None:
    root, lens = tmp_path / "microscope-atlas", {LENS: atlases.RECIPE}
    run.render(Folder(root), [atlases.request({"logits": range(2)})], lens, atlases.HERE, 2, lambda *_: None)
    assert list(check(Folder(root))) == []
    (path,) = shards(root)
    rows = read_shard(path).to_pylist()
    assert [(row["objective"], row["direction"]) for row in rows] == 2 * [("channel", 1), ("channel", -1)]
    unit = microscope_atlas.open(root).unit(f"{MODEL}/logits/1")
    assert unit.image(objective="neuron").tobytes() == unit.image().tobytes()
    name = path.relative_to(root).as_posix()
    replace_rows(root, name, rows[:3])
    assert f"{name}: it does not hold 2 rows of each of the units 0:2" in list(check(Folder(root)))
