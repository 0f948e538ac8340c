"""A unit on a card, for other web pages to frame: one document that loads nothing."""

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import main_image

STYLE = html(
    "body{font:14px/1.4 system-ui,sans-serif;color:#222;background:#fff;margin:12px;max-width:320px}"
    "h1{font-size:15px;margin:8px 0 2px;overflow-wrap:anywhere}p{margin:2px 0;color:#555}a{color:#1a5fb4}"
    "img{display:block;width:100%;border-radius:4px}"
)
SAMPLES = 4


def card(atlas: Atlas, key: Key) -> Markup:
    """The unit's picture, its strongest samples, and a link to its page; `key` is in the atlas."""
    rows = Rows(atlas, key, ("feature_visualization", "dataset_samples"))
    made = main_image(rows["feature_visualization"])
    top = [row for row in rows["dataset_samples"] if row["bucket"] == "top" and row["rank"] < SAMPLES and row["image"]]
    samples = joined(
        html(
            '<div style="flex:1">{}</div>',
            _image(atlas, "dataset_samples", key, row["image"], "A natural picture"),
        )
        for row in sorted(top, key=lambda row: row["rank"])
    )
    return document(
        str(key),
        html(
            '{}<div style="display:flex;gap:4px;margin-top:4px">{}</div>'
            '<h1><a href="{}" target="_blank" rel="noopener">{}</a></h1><p>{}{}, {}</p>',
            _image(atlas, "feature_visualization", key, made["image"], f"What excites {key}") if made else NOTHING,
            samples,
            links.href(key.model, key.layer, key.unit, revision=atlas.pin),
            key,
            f"score {markup.number(made['score'])}, "
            if made
            else f"{text.not_rendered('feature_visualization', str(key))} ",
            text.TITLE,
            atlas.revision,
        ),
    )


def document(title: str, body: Markup) -> Markup:
    """A web page of its own."""
    return html(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>{}</title><style>{}</style><body><main>{}</main></body></html>",
        title,
        STYLE,
        body,
    )


def _image(atlas: Atlas, table: str, key: Key, name: str, alt: str) -> Markup:
    """An image within the document; nothing where it cannot be read."""
    try:
        content = atlas.image(table, key.model, name)
    except AtlasError:  # the card stands on a stranger's page, where nothing can be done about it
        return NOTHING
    return html('<img src="{}" alt="{}">', markup.data_uri(content, "image/*"), alt)
