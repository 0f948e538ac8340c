"""A unit on a card, for other web pages to frame: one document that loads nothing."""

from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.table import Rows
from microscope_space.pages.unit import main_image

# as large as its frame: the picture has what room the rest leaves
STYLE = html(
    ":root{color-scheme:light dark;--ink:#222;--faint:#555;--paper:#fff;--link:#0b57a4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--faint:#a5adb8;--paper:#14171b;--link:#82b7f2}}"
    "*{box-sizing:border-box}html,body{height:100%;margin:0;background:var(--paper);color:var(--ink)}"
    "body{font:14px/1.4 system-ui,sans-serif}"
    "main{display:flex;flex-direction:column;height:100%;max-width:480px;padding:12px}"
    "h1{font-size:15px;margin:8px 0 2px;overflow-wrap:anywhere}p{margin:2px 0 0;color:var(--faint);font-size:13px}"
    "a{color:var(--link)}img{display:block;border-radius:4px}"
    "main>img{flex:1 1 0;min-height:0;width:100%;object-fit:contain;object-position:left}"
    ".best{display:flex;gap:4px;margin-top:4px}.best img{width:25%;max-width:71px;aspect-ratio:1;object-fit:cover}"
)
SAMPLES = 4


def card(atlas: Atlas, key: Key) -> Markup:
    """The unit's picture, its strongest samples, and a link to its page; `key` is in the atlas."""
    rows = Rows(atlas, key, ("feature_visualization", "dataset_samples"))
    made = main_image(rows["feature_visualization"])
    top = [row for row in rows["dataset_samples"] if row["bucket"] == "top" and row["rank"] < SAMPLES and row["image"]]
    samples = joined(
        _image(atlas, "dataset_samples", key, row["image"], "A natural picture")
        for row in sorted(top, key=lambda row: row["rank"])
    )
    return document(
        str(key),
        html(
            '{}<div class="best">{}</div><h1><a href="{}" target="_blank" rel="noopener">{}</a></h1><p>{}{}, {}</p>',
            _image(atlas, "feature_visualization", key, made["image"], f"What excites {key}") if made else NOTHING,
            samples,
            links.href(key.model, key.layer, key.unit, revision=atlas.pin),
            key,
            f"score {markup.number(made['score'])}, " if made else f"{rows.why('feature_visualization', str(key))} ",
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
