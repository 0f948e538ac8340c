"""A unit on a card, for other web pages to frame: one document that loads nothing."""

from base64 import b64encode
from html import escape

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.keys import Key
from microscope_space.html import links, markup, text
from microscope_space.pages.unit import main_image

STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;color:#222;background:#fff;margin:12px;max-width:320px}"
    "h1{font-size:15px;margin:8px 0 2px;overflow-wrap:anywhere}p{margin:2px 0;color:#555}a{color:#1a5fb4}"
    "img{display:block;width:100%;border-radius:4px}"
)
SAMPLES = 4


def card(atlas: Atlas, key: Key) -> str:
    """The unit's picture, its strongest samples, and a link to its page; `key` is in the atlas."""
    assert key.layer is not None
    made = main_image(atlas.rows("feature_visualization", key.model, key.layer, key.unit))
    top = [
        row
        for row in atlas.rows("dataset_samples", key.model, key.layer, key.unit)
        if row["bucket"] == "top" and row["rank"] < SAMPLES and row["image"]
    ]
    shown = _image(atlas, "feature_visualization", key, made["image"], f"What excites {key}") if made else ""
    samples = "".join(
        f'<div style="flex:1">{_image(atlas, "dataset_samples", key, row["image"], "A natural picture")}</div>'
        for row in sorted(top, key=lambda row: row["rank"])
    )
    score = (
        f"score {markup.number(made['score'])}, "
        if made
        else f"{text.not_rendered('feature_visualization', str(key))} "
    )
    link = links.href(key.model, key.layer, key.unit, revision=atlas.pin)
    return document(
        str(key),
        f'{shown}<div style="display:flex;gap:4px;margin-top:4px">{samples}</div>'
        f'<h1><a href="../../../{link}" target="_blank" rel="noopener">{escape(str(key))}</a></h1>'
        f"<p>{escape(score)}{text.TITLE}, {escape(atlas.revision)}</p>",
    )


def document(title: str, body: str) -> str:
    """A web page of its own."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><body><main>{body}</main></body></html>"
    )


def _image(atlas: Atlas, table: str, key: Key, name: str, alt: str) -> str:
    content = b64encode(atlas.image(table, key.model, name)).decode()
    return f'<img src="data:image/*;base64,{content}" alt="{escape(alt)}">'
