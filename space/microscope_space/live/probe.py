"""The view "What fires here?": the units that a visitor's picture excites most; and the same for programs."""

from dataclasses import asdict
from typing import Any

import gradio as gr
import gradio.events
import numpy as np
from markupsafe import Markup
from PIL import Image

from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.keys import Key
from microscope_space import routes
from microscope_space.html import links
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.live import chooser, drawn, excited, why
from microscope_space.live.chooser import Picture
from microscope_space.live.excited import Excited, Seen
from microscope_space.live.tile import tile, tiles

PROBING = "probing"  # Gradio's queue: a forward pass at a time, or a few and back

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
    asking = why.asking()
    result = chooser.piece(clicked=why.CLICKED)

    def on_load(request: gr.Request) -> tuple[Any, ...]:
        return chooser.ahead(atlas, request, "probe")[0], *chooser.begun(dict(request.query_params))

    def on_start(picture: Picture, model: str) -> tuple[Any, ...]:
        return looked(atlas.latest(), picture, model)

    gr.on(None, on_load, None, [model, *chosen], show_progress="hidden", api_visibility="private", queue=False)
    start.click(
        on_start,
        [chosen.picture, model],
        [result, asking.answer, asking.whole, asking.target, asking.earlier],
        show_progress_on=result,
        api_visibility="private",
        concurrency_id=PROBING,
        concurrency_limit=1,
    )
    why.listen(atlas, asking, chosen.picture, model, result, PROBING)
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


def looked(atlas: Atlas, picture: Picture, model: str) -> tuple[Any, ...]:
    """What was found, as HTML; and what the components that ask why begin with: an empty answer, and as of `begun`."""
    try:
        seen = excited.probe(atlas, chooser.opened(picture), model)
    except AtlasError as error:
        return chooser.refused(error), "", gr.Column(visible=False), gr.skip(), gr.skip()
    return shown(atlas, picture, model, seen), "", *why.begun(atlas, model, seen)


def shown(atlas: Atlas, picture: Picture, model: str, seen: Seen) -> str:
    """The same as HTML, the last layer first: what the network takes the picture for, then what from."""
    with links.based("./", atlas.version):
        sections = joined(_layer(atlas, model, layer, units, seen) for layer, units in reversed(seen.layers.items()))
    link = chooser.permalink("probe", picture, model)
    note = html('<p class="about" role="status">{}</p>', NOTE)
    return chooser.part(joined([note, link, _classes(atlas, model, seen), sections]))


def _classes(atlas: Atlas, model: str, seen: Seen) -> Markup:
    """What the network takes the picture for."""
    if not seen.classes:
        return NOTHING
    listed = joined(
        html(
            "<li><b>{}</b> {}{}</li>",
            each.name,
            share(each.share),
            why.button(atlas, model, each.layer, each.unit, each.name),
        )
        for each in seen.classes
    )
    return html('<h2>Taken for</h2><ul class="classes">{}</ul>', listed)


def share(value: float) -> str:
    """`61%`, or `below 1%`."""
    return f"{value:.0%}" if value >= 0.01 else "below 1%"


def _layer(atlas: Atlas, model: str, layer: str, units: list[Excited], seen: Seen) -> Markup:
    return html(
        '<h2><a href="{}">{}</a></h2>{}',
        links.href(model, layer),
        layer,
        tiles([_unit(atlas, each, seen) for each in units])
        if units
        else html('<p class="absent">Nothing that this atlas knows.</p>'),
    )


def _unit(atlas: Atlas, each: Excited, seen: Seen) -> Markup:
    """A link to a unit: where it fires, how strongly, and what is made to excite it."""
    name = html("<small>{}</small>", each.class_name) if each.class_name else NOTHING
    return tile(
        Key(each.model, each.layer, each.unit),
        marked(each, seen),
        f"Where {each.layer} {each.unit} fires",
        html("{}{}", f"{each.ratio:.0%}", name),
        each.thumbnail,
        below=why.button(atlas, each.model, each.layer, each.unit, f"{each.layer} {each.unit}"),
    )


def marked(each: Excited, seen: Seen) -> Image.Image:
    """The picture, grey and faint where a unit is silent, with a frame around what it sees where it is active most."""
    size = len(seen.picture)
    active = np.sqrt(seen.maps[each.layer, each.unit])  # so that half as active is still seen
    image = drawn.shaded(seen.picture, excited.heat(organisms()[each.model].layers[each.layer], active, size))
    box = (each.left, each.top, each.right, each.bottom)
    return image if box == (0, 0, size, size) else drawn.framed(image, box, size)
