"""The groups of a layer: what its activations are made up of, each with its picture, its units and where it is seen."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import NotRendered, WrongLevel
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page
from microscope_space.pages.home import count
from microscope_space.pages.table import Rows, shown

TABLE = schema.GROUPS
VIEW = TABLE.name  # in links

Row = Mapping[str, Any]


def groups(atlas: Atlas, key: Key | None) -> Page:
    """A layer's groups; see `there`."""
    key, rows = there(atlas, key)
    body = html(
        '<h1 tabindex="-1"><span>{}</span> {}, in groups</h1><p class="about">{}</p>{}{}'
        '<p><a href="{}">All units of {}</a></p>',
        markup.breakable(key.model),
        markup.breakable(str(key.layer)),
        text.GROUPS,
        shown("about", TABLE, rows, partial(_about, rows)),
        joined(shown(f"group-{row['group']}", TABLE, [row], partial(_group, atlas, key, row)) for row in rows),
        links.href(key.model, key.layer),
        key.layer,
    )
    about = f"What the activations of {key} are made up of, in {count(len(rows), 'group')} of units."
    return Page(f"{key}, in groups", body, about, key, asked={"view": VIEW})


def there(atlas: Atlas, key: Key | None) -> tuple[Key, list[dict[str, Any]]]:
    """A layer's key, and its groups; NotRendered where it has none, WrongLevel where the key is none of a layer."""
    if key is None or key.layer is None or key.unit is not None:
        raise WrongLevel(
            f"groups are of a layer; {key or 'this link'} is none, add model and layer: ?model=...&layer=..."
        )
    atlas.num_units(key.model, key.layer)
    rows = Rows(atlas, key, (VIEW,))[VIEW]
    if not rows:
        raise NotRendered(f"this atlas has no {VIEW} of {key}")
    return key, rows


def link_to(atlas: Atlas, key: Key) -> Markup:
    """From a layer to its groups, where the atlas has some."""
    if not any(path.startswith(f"{VIEW}/") for path in atlas.files_about(key)):
        return NOTHING
    return html(
        '<p><a href="{}">{}: {}</a></p>', links.href(key.model, key.layer, view=VIEW), TABLE.title, text.GROUPS_LINK
    )


def _about(rows: Sequence[Row]) -> Markup:
    first = rows[0]
    rectified = f"{first['rectified']:.0%}"
    part = "" if first["rectified"] > 0.999 else f" {text.RECTIFIED.format(rectified=rectified)}"
    return html(
        '<p class="about">Together they make up {} of {} activations, by their squares.{} Pictures: {}. {}</p>',
        f"{first['explained']:.0%}",
        f"{first['num_vectors']:,}",
        part,
        text.picture_set(first["set"], first["revision"]),
        text.GROUPS_WARNING,
    )


def _group(atlas: Atlas, key: Key, row: Row) -> Markup:
    """All that is said of a group."""
    assert key.layer is not None
    title = f"Group {row['group']}"
    image = NOTHING
    if row["image"]:
        src = links.image(VIEW, key.model, row["image"])
        image = markup.large(src, markup.picture(src, f"{title} of {key}", 176))
    names = atlas.thumbnails(key.model, key.layer)
    units = joined(
        html(
            "<li>{}<small>{}</small></li>",
            markup.thumbnail(key.model, key.layer, each["unit"], names.get(each["unit"])),
            f"{each['weight']:.2f}",
        )
        for each in row["strongest"]
    )
    photos = NOTHING
    if row["photos"]:
        src = links.image(VIEW, key.model, row["photos"], "photos")
        photos = html(
            '<p><img class="strip" src="{}" alt="{}"></p>', src, f"Where {title.lower()} is strongest: photos"
        )
    facts = [
        ("of the activations", f"{row['share']:.1%}"),
        ("score", markup.number(row["score"])),
        ("cosine", markup.number(row["cosine"])),
        ("strongest in pictures", ", ".join(str(each["picture"]) for each in row["samples"]) or "none"),
    ]
    content = html(
        '{}<div class="figures">{}</div>{}{}{}',
        markup.flagged(row["flag"]),
        image,
        photos,
        markup.tiles(units) if units else NOTHING,
        markup.facts(facts),
    )
    return markup.section(f"group-{row['group']}", title, content)
