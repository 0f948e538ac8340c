"""Why here?, below what fires: units of an earlier layer that an answer is credited to; and the same for programs."""

from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import gradio.events
from markupsafe import Markup

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, InvalidSetting
from microscope_atlas.keys import Key, parse_key
from microscope_space import routes
from microscope_space.html import links
from microscope_space.html.escaped import NOTHING, html
from microscope_space.live import chooser, networks
from microscope_space.live.chooser import Picture
from microscope_space.live.excited import Seen
from microscope_space.live.place import MEAN, POINT, STRONGEST, Where, place

if TYPE_CHECKING:
    from microscope_space.live.reasons import Reason

WHERE = {
    STRONGEST: "where it is strongest",
    MEAN: "on average over the picture",
    POINT: "at a point",
}
ABOUT = (
    "A class or a unit, and the units of an earlier layer that it is credited to: each unit's activation times how "
    "fast the answer rises with it, summed over places."
)
# where a click leads: a unit's button, or a point of a picture
CLICKED = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-why]'), map = event.target.closest('[data-point]');
  if (button) {
    trigger('click', {why: button.dataset.why});
    document.getElementById('why').scrollIntoView();
  } else if (map) {
    const box = map.getBoundingClientRect();
    trigger('click', {left: (event.clientX - box.left) / box.width, top: (event.clientY - box.top) / box.height});
  }
});"""


class Asking(NamedTuple):
    """Components that ask why."""

    whole: gr.Column  # that they stand in
    target: gr.Dropdown  # `LAYER/UNIT`
    where: gr.Radio
    left: gr.Slider  # percent of the picture
    top: gr.Slider
    earlier: gr.Dropdown
    start: gr.Button
    answer: gr.HTML
    point: gr.Row  # of the sliders


def asking() -> Asking:
    """The components, hidden until there is something to ask about."""
    with gr.Column(visible=False) as whole:
        chooser.piece(chooser.part(html('<h2 id="why">Why here?</h2><p class="about">{}</p>', ABOUT)))
        with gr.Row(equal_height=False):
            target = gr.Dropdown(
                [], label="Why this: choose, or type LAYER/UNIT", allow_custom_value=True, min_width=260
            )
            earlier = gr.Dropdown([], label="Credit units of the layer", allow_custom_value=True, min_width=260)
        where = gr.Radio([(words, name) for name, words in WHERE.items()], value=STRONGEST, label="Look at it")
        with gr.Row(visible=False) as point:
            left = gr.Slider(0, 100, 50, step=1, label="Percent from the left")
            top = gr.Slider(0, 100, 50, step=1, label="Percent from the top")
        start = gr.Button("Why here?", variant="primary")
        answer = chooser.piece(clicked=CLICKED)
    return Asking(whole, target, where, left, top, earlier, start, answer, point)


def listen(atlas: Atlas, asking: Asking, picture: gr.State, model: gr.Dropdown, found: gr.HTML, queue: str) -> None:
    """Have the components answer, and the buttons in what was found; and the endpoint `why`."""
    hidden: Any = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    queued: Any = {"api_visibility": "private", "concurrency_id": queue, "concurrency_limit": 1}
    asked = [picture, model, asking.target, asking.where, asking.left, asking.top, asking.earlier]

    def on_target(model: str, target: str) -> Any:
        return offered(atlas.latest(), model, target)

    def on_start(*asked: Any) -> str:
        return shown(atlas, *asked)

    def on_unit(clicked: gr.EventData, picture: Picture, model: str) -> tuple[Any, ...]:
        """A button beside a unit that was found."""
        target = str(clicked.why)
        answer = shown(atlas, picture, model, target, STRONGEST, 50, 50, None)
        return target, offered(atlas.latest(), model, target), STRONGEST, gr.Row(visible=False), answer

    def on_point(clicked: gr.EventData, picture: Picture, model: str, target: str, earlier: str) -> tuple[Any, ...]:
        """A point of the picture in the answer."""
        left, top = (round(100 * min(max(float(each), 0.0), 1.0)) for each in (clicked.left, clicked.top))
        answer = shown(atlas, picture, model, target, POINT, left, top, earlier)
        return POINT, gr.Row(visible=True), left, top, answer

    asking.target.input(on_target, [model, asking.target], asking.earlier, **hidden)
    asking.where.input(lambda where: gr.Row(visible=where == POINT), asking.where, asking.point, **hidden)
    asking.start.click(on_start, asked, asking.answer, **queued)
    found.click(
        on_unit,
        [picture, model],
        [asking.target, asking.earlier, asking.where, asking.point, asking.answer],
        show_progress_on=asking.answer,
        **queued,
    )
    asking.answer.click(
        on_point,
        [picture, model, asking.target, asking.earlier],
        [asking.where, asking.point, asking.left, asking.top, asking.answer],
        **queued,
    )
    _endpoint(atlas, queue)


def begun(atlas: Atlas, model: str, seen: Seen) -> tuple[Any, Any, Any]:
    """What the components begin with once a picture was looked at: seen, what to ask about, and of what layer."""
    from microscope_space.live import reasons

    listed = [(f"{each.name} ({each.layer} {each.unit})", f"{each.layer}/{each.unit}") for each in seen.classes]
    for layer, units in reversed(seen.layers.items()):
        if _earlier(atlas, model, layer):
            listed += [(f"{layer} {each.unit}, {each.ratio:.0%}", f"{layer}/{each.unit}") for each in units]
    if not listed:
        return gr.Column(visible=False), gr.skip(), gr.skip()
    first = listed[0][1]
    Thread(target=reasons.ready, daemon=True).start()
    return gr.Column(visible=True), gr.Dropdown(listed, value=first), offered(atlas, model, first)


def offered(atlas: Atlas, model: str, target: str) -> Any:
    """The layers whose units a target can be credited to, and the last of them."""
    try:
        found = _earlier(atlas, model, _key(model, target).layer or "")
    except AtlasError:  # said where it is asked why
        return gr.skip()
    return gr.Dropdown(found, value=next(reversed(found), None))


def button(atlas: Atlas, model: str, layer: str, unit: int, name: str) -> Markup:
    """What asks why of a unit that was found; nothing where no layer is before it."""
    if not _earlier(atlas, model, layer):
        return NOTHING
    return html(
        '<button type="button" data-why="{}/{}" aria-label="Why here? {}">Why here?</button>', layer, unit, name
    )


def _earlier(atlas: Atlas, model: str, layer: str) -> list[str]:
    from microscope_space.live import reasons

    return reasons.earlier_layers(atlas, networks.runnable(atlas, model), layer)


def _key(model: str, target: str) -> Key:
    key = parse_key(f"{model}/{target}".replace(" ", ""))
    if key.unit is None:
        raise InvalidSetting(f"{target!r} names no unit; expected LAYER/UNIT")
    return key


def shown(
    atlas: Atlas, picture: Picture, model: str, target: str, where: str, left: float, top: float, earlier: str | None
) -> str:
    """The answer as HTML; a point is in percent of the picture."""
    from microscope_space.live import explained, reasons

    now = atlas.latest()
    try:
        key = _key(model, str(target or ""))
        assert key.layer is not None and key.unit is not None
        organism = networks.runnable(now, model)
        part = organism.input_size / 100
        asked = (left * part, top * part) if where == POINT else place(where)
        found = reasons.why(now, chooser.opened(picture), model, key.layer, key.unit, earlier or None, asked)
    except AtlasError as error:
        return chooser.refused(error)
    with links.based("./", now.version):
        return chooser.part(explained.answer(found))


def plain(
    atlas: Atlas, picture: Picture, model: str, layer: str, unit: int, earlier: str | None, where: Where
) -> dict[str, Any]:
    """The answer as plain values."""
    from microscope_space.live import live, reasons

    why = reasons.why(atlas.latest(), chooser.opened(picture), model, layer, unit, earlier, where)
    made, test = why.attribution, why.ablation
    return {
        "model": model,
        "layer": layer,
        "unit": unit,
        "class_name": why.class_name,
        "place": None if why.place is None else {"row": why.place[0], "column": why.place[1]},
        "target": made.target,
        "earlier": why.earlier,
        "credited": made.total,
        "remainder": made.remainder,
        "layer_silent": made.at_zero,
        "explained": live.finite(made.explained),
        "nonlinear": list(made.nonlinear),
        "units_for": [_plain(each) for each in why.units_for],
        "units_against": [_plain(each) for each in why.units_against],
        "silenced": {
            "units": list(test.units),
            "credited": test.attributed,
            "drop": test.drop,
            "random_drops": list(test.random_drops),
        },
        "groups": [
            {"amount": group.amount, "units": [unit for unit, _ in group.units], "places": group.map.tolist()}
            for group in why.groups
        ],
        "groups_explain": why.groups_explain,
    }


def _plain(each: "Reason") -> dict[str, Any]:
    return {"unit": each.unit, "amount": each.amount, "places": each.map.tolist(), "in_atlas": each.known is not None}


def _endpoint(atlas: Atlas, queue: str) -> None:
    def why(
        picture: str, model: str, layer: str, unit: int, earlier: str = "", where: str = STRONGEST
    ) -> dict[str, Any]:
        """Why a unit or class of a vision network answers a picture: units of an earlier layer that it is credited to.

        Amounts are activation times gradient, in the target's own unit, above 0 for it, below 0 against; `places` are
        rows and columns of the earlier layer's map. `silenced` says whether to believe them: how far the target falls
        without the units that are credited most, and without as many others.

        Args:
            picture: an image file in base64, or the name of one of the atlas' source pictures, for example dog
            model: the network, for example inceptionv1_caffe
            layer: the layer of what is to be explained, for example loss3_classifier
            unit: its unit, for example 235, the class German shepherd
            earlier: the layer whose units are credited, for example inception_4e; empty for the nearest
            where: strongest, mean, or a point, px from left and top of the middle square at input size, as 112,80

        """
        try:
            key = _key(str(model), f"{layer}/{unit}")  # Gradio lets any type through
            assert key.layer is not None and key.unit is not None
            return plain(
                atlas, chooser.given(picture), key.model, key.layer, key.unit, str(earlier or "") or None, place(where)
            )
        except AtlasError as error:
            raise gr.Error(routes.public(error), print_exception=False) from error

    gradio.events.api(why, api_name="why", concurrency_id=queue, concurrency_limit=1)
