"""A unit at a glance, for those who point at its tile: the picture of the tile, large, and its best samples."""

from collections.abc import Sequence

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.html import links, markup
from microscope_space.html.escaped import html, joined
from microscope_space.pages.choice import Choice, Row
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import main_image

LARGE, SMALL = 256, 61  # px on a side
SAMPLES = 8
TABLES = ("feature_visualization", "dataset_samples", "synthetic_tuning")


def glance(atlas: Atlas, key: Key, choice: Choice) -> Markup:
    """A piece of a page; `key` is a unit of the atlas, and the choice says which sheet its tile is from."""
    rows = Rows(atlas, key, TABLES)
    table, row = _shown(rows, choice)
    samples = joined(
        markup.picture(links.image("dataset_samples", key.model, each["image"]), "", SMALL)
        for each in best(rows["dataset_samples"])[:SAMPLES]
    )
    mask = {"mask": row["opacity"]} if row and row.get("opacity") else {}
    return html(
        '{}<div class="best">{}</div>',
        markup.picture(links.image(table, key.model, row["image"], **mask), f"What excites {key}", LARGE)
        if row
        else rows.none(table, str(key)),
        samples,
    )


def best(samples: Sequence[Row]) -> list[Row]:
    """The strongest samples that have a picture, the strongest first."""
    top = (row for row in samples if row["bucket"] == "top" and row["image"])
    return sorted(top, key=lambda row: row["rank"])


def _shown(rows: Rows, choice: Choice) -> tuple[str, Row | None]:
    """The table and the row of the picture that the tile is made from; the unit's own picture where it has none."""
    if choice.method == "top":
        return "dataset_samples", next(iter(best(rows["dataset_samples"])), None)
    tuned = (row for row in rows["synthetic_tuning"] if row["family"] == choice.method and row["image"])
    if found := next(tuned, None):
        return "synthetic_tuning", found
    made = [row for row in rows["feature_visualization"] if row["image"]]
    alike = (
        row
        for row in made
        if (row["method"], row["objective"], str(row["direction"])) == choice.sheet and not row["variant"]
    )
    return "feature_visualization", next(alike, None) or main_image(made)
