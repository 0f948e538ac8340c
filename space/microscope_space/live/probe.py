"""The view "What fires here?": the units that a visitor's picture excites most; and the same for programs."""

from dataclasses import asdict
from typing import Any

import gradio as gr
import gradio.events
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.models.catalog import CATALOG
from microscope_space import routes
from microscope_space.html import links, markup
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.live import chooser, excited
from microscope_space.live.chooser import Picture
from microscope_space.live.excited import Excited, Seen

TILE = 136  # px on a side of a picture with its place marked
PROBING = "probing"  # Gradio's queue: a forward pass at a time
FAINT = 0.35  # contrast of the picture where a unit is silent
MARK = "#d9480f"

LEAD = (
    "A picture through a network: of each layer the units that it excites most, in their own measure. 100% is the most "
    "that any of this atlas' natural pictures excites the unit."
)
NOTE = (
    "In colour is where the unit is active; the frame is what it sees where it is most so, cut at the border. The "
    "small picture was made to excite the unit. Only units that this atlas knows are compared."
)


def build(atlas: Atlas) -> None:
    """The view, within the Blocks that stand around, and the endpoint `probe`."""
    chooser.piece(chooser.part(html('<h1>What fires here?</h1><p class="lead">{}</p>', LEAD)))
    chosen = chooser.picture()
    chooser.piece(chooser.part(html('<p class="about">{}</p>', chooser.PRIVACY)))
    model = chooser.network(atlas)
    start = gr.Button("Look", variant="primary")
    result = chooser.piece()

    def on_load(request: gr.Request) -> tuple[Any, ...]:
        return chooser.ahead(atlas, request, "probe")[0], *chooser.begun(dict(request.query_params))

    def on_start(picture: Picture, model: str) -> str:
        return shown(atlas, picture, model)

    gr.on(None, on_load, None, [model, *chosen], show_progress="hidden", api_visibility="private", queue=False)
    start.click(
        on_start, [chosen.picture, model], result, api_visibility="private", concurrency_id=PROBING, concurrency_limit=1
    )
    _endpoint(atlas)


def _endpoint(atlas: Atlas) -> None:
    def probe(picture: str, model: str, top: int = excited.TOP) -> list[dict[str, Any]]:
        """The units of a vision network that a picture excites most, layer by layer, and where in the picture.

        A unit's `ratio` is its activation over the strongest that natural pictures reach. The place is in pixels of the
        picture's middle square at the network's input size.

        Args:
            picture: an image file in base64, or the name of one of the atlas' source pictures, for example cat
            model: the network, for example inceptionv1_caffe
            top: how many units of each layer, 1 to 50

        """
        try:
            most = min(max(top, 1), 50) if isinstance(top, int) else excited.TOP  # Gradio lets any type through
            return plain(atlas, chooser.given(picture), str(model), most)
        except AtlasError as error:
            raise gr.Error(routes.public(error), print_exception=False) from error

    gradio.events.api(probe, api_name="probe", concurrency_id=PROBING, concurrency_limit=1)


def plain(atlas: Atlas, picture: Picture, model: str, top: int = excited.TOP) -> list[dict[str, Any]]:
    """Units as plain values, layer by layer, the most excited first."""
    seen = excited.probe(atlas.latest(), chooser.opened(picture), model, top)
    return [asdict(each) for units in seen.layers.values() for each in units]


def shown(atlas: Atlas, picture: Picture, model: str) -> str:
    """The same as HTML, the last layer first: what the network takes the picture for, then what from."""
    now = atlas.latest()
    try:
        seen = excited.probe(now, chooser.opened(picture), model)
    except AtlasError as error:
        return chooser.refused(error)
    with links.based("./", now.version):
        sections = joined(_layer(model, layer, units, seen) for layer, units in reversed(seen.layers.items()))
    link = chooser.permalink("probe", picture, model)
    return chooser.part(html('<p class="about" role="status">{}</p>{}{}', NOTE, link, sections))


def _layer(model: str, layer: str, units: list[Excited], seen: Seen) -> Markup:
    listed = joined(html("<li>{}</li>", _unit(each, seen)) for each in units)
    return html(
        '<h2><a href="{}">{}</a></h2>{}',
        links.href(model, layer),
        layer,
        html('<ul class="excited">{}</ul>', listed)
        if units
        else html('<p class="absent">Nothing that this atlas knows.</p>'),
    )


def _unit(each: Excited, seen: Seen) -> Markup:
    """A link to a unit: where it fires, how strongly, and what is made to excite it."""
    where = markup.pixels(marked(each, seen), f"Where {each.layer} {each.unit} fires", TILE)
    made = NOTHING
    if each.thumbnail:
        src = links.image("units", each.model, each.thumbnail, "thumbnail")
        made = html('<img class="made" src="{}" alt="" width="64" height="64" loading="lazy">', src)
    return html(
        '<a href="{}">{}<span>{}<span><b>{}</b> {}{}</span></span></a>',
        links.href(each.model, each.layer, each.unit),
        where,
        made,
        each.unit,
        f"{each.ratio:.0%}",
        html("<small>{}</small>", each.class_name) if each.class_name else NOTHING,
    )


def marked(each: Excited, seen: Seen) -> NDArray[np.uint8]:
    """The picture, grey and faint where a unit is silent, with a frame around what it sees where it is active most."""
    size = len(seen.picture)
    active = np.sqrt(seen.maps[each.layer, each.unit])  # so that half as active is still seen
    heat = excited.heat(CATALOG[each.model].layer(each.layer), active, size)[:, :, None]
    faint = 255 - (255 - seen.picture.mean(2, keepdims=True)) * FAINT
    blended = seen.picture * heat + faint * (1 - heat)
    image = Image.fromarray(blended.round().astype(np.uint8)).resize((TILE * 2, TILE * 2), Image.Resampling.BICUBIC)
    scale = TILE * 2 / size
    if (each.right - each.left, each.bottom - each.top) != (size, size):
        box = [each.left * scale, each.top * scale, each.right * scale - 1, each.bottom * scale - 1]
        ImageDraw.Draw(image).rectangle(box, outline=MARK, width=4)
    return np.asarray(image)
