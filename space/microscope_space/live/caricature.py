"""The view where a visitor's picture is caricatured, frame by frame; and the same for programs."""

import io
import json
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr
import gradio.events
from markupsafe import Markup
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError
from microscope_atlas.pictures.sources import SOURCES
from microscope_space import routes
from microscope_space.html import links, markup
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.live import chooser, drawing, networks
from microscope_space.live.chooser import Picture
from microscope_space.live.drawing import Frame, Stored
from microscope_space.live.turns import Turns

RENDERING = "rendering"  # Gradio's queue: one caricature at a time; whoever came first is next
TURNS = Turns(RENDERING)
SHOWN = 224  # px on a side

LEAD = (
    "What a layer keeps of a picture, exaggerated. From noise, a picture is made that the layer answers to as it does "
    "to yours, only more strongly: early layers give edges and textures back, late ones what they take it for."
)
QUALITIES = {
    "draft": "Draft: 48 steps, a few seconds",
    "standard": "Standard: 256 steps, full size, up to a minute without a GPU",
}


def build(atlas: Atlas) -> None:
    """The view, within the Blocks that stand around, and the endpoint `caricature`."""
    first, layers_first = chooser.asked(atlas, {})
    chooser.piece(chooser.part(html('<h1>Caricature</h1><p class="lead">{}</p>', LEAD)))
    chosen = chooser.picture()
    chooser.piece(chooser.part(html('<p class="about">{}</p>', chooser.PRIVACY)))
    with gr.Row(equal_height=False):
        model = chooser.network(atlas)
        layers = gr.Dropdown(
            list(atlas.layers(first)) if first else [],
            value=layers_first,
            label=f"Layers, up to {drawing.MAX_LAYERS}",
            multiselect=True,
            max_choices=drawing.MAX_LAYERS,
            min_width=260,
        )
    quality = gr.Radio(
        [(words, name) for name, words in QUALITIES.items()],
        value=networks.quick(),
        label="Quality",
    )
    with gr.Row():
        start = gr.Button("Start", variant="primary")
        cancel = gr.Button("Cancel")
    progress = chooser.piece(status(""))
    notice = chooser.piece()  # in place of progress, which a frame that was under way may still write
    result = chooser.piece()

    def on_load(request: gr.Request) -> tuple[Any, ...]:
        wanted, there = chooser.ahead(atlas, request, "caricature")
        there = there[: drawing.MAX_LAYERS]
        query = dict(request.query_params)
        offered = gr.Dropdown(list(atlas.layers(wanted)) if wanted else [], value=there)
        return wanted, offered, *chooser.begun(query), *known(atlas.latest(), query.get("picture"), wanted, there)

    def on_click(request: gr.Request) -> Any:
        """Said at once, beside the queue, and only to those who have to wait."""
        blocks = request.request.app.get_blocks() if request.request else None
        waiting = TURNS.words(TURNS.before(blocks._queue, request.session_hash)) if blocks else ""
        return gr.HTML(status(waiting), visible=True) if waiting else gr.skip()

    def on_model(name: str) -> Any:
        now = atlas.latest()
        networks.ahead(now, networks.runnable(now, name).name)
        return gr.Dropdown(list(now.layers(name)), value=chooser.asked(now, {"model": name})[1])

    async def on_start(picture: Picture, model: str, layers: list[str], quality: str) -> AsyncIterator[tuple[Any, ...]]:
        yield gr.HTML(status(""), visible=True), "", ""
        with TURNS.taken():
            async with aclosing(drawing.awaited(shown(atlas.latest(), picture, model, layers, quality))) as frames:
                async for words, figures in frames:
                    yield words, figures, gr.skip()

    def on_cancel() -> tuple[Any, str]:
        return gr.HTML(visible=False), status("Cancelled.")

    hidden: Any = {"show_progress": "hidden", "api_visibility": "private"}
    gr.on(None, on_load, None, [model, layers, *chosen, progress, result], **hidden, queue=False)
    model.input(on_model, model, layers, **hidden, queue=False)
    start.click(on_click, None, progress, **hidden, queue=False)
    rendering = start.click(
        on_start,
        [chosen.picture, model, layers, quality],
        [progress, result, notice],
        show_progress="minimal",
        show_progress_on=progress,
        api_visibility="private",
        concurrency_id=RENDERING,
        concurrency_limit=1,
    )
    cancel.click(on_cancel, None, [progress, notice], **hidden, queue=False, cancels=rendering)
    _endpoint(atlas)


def _endpoint(atlas: Atlas) -> None:
    def caricature(picture: str, model: str, layers: list[str], quality: str = "draft") -> Iterator[dict[str, Any]]:
        """What layers of a vision network keep of a picture, exaggerated; comes frame by frame, the last one finished.

        Args:
            picture: an image file in base64, or the name of one of the atlas' source pictures, for example cat
            model: the network, for example inceptionv1_caffe
            layers: one to four of its layers, for example ["inception_4c"]
            quality: draft, a few seconds; or standard

        """
        try:
            # Gradio lets any type through
            named = [str(layer) for layer in layers] if isinstance(layers, list) else [str(layers)]
            yield from plain(atlas, chooser.given(picture), str(model), named, str(quality))
        except AtlasError as error:
            raise gr.Error(routes.public(error), print_exception=False) from error

    gradio.events.api(caricature, api_name="caricature", concurrency_id=RENDERING, concurrency_limit=1)


Caricatures = dict[str, Stored | tuple[Frame, int] | None]  # by layer; of a frame, which of its pictures


def caricatures(
    atlas: Atlas, picture: Picture, model: str, layers: Sequence[str], quality: str
) -> Generator[tuple[Caricatures, Frame | None], None, None]:
    """What there is of each layer so far, and the last frame: at once what the atlas has, then what is rendered."""
    made: Caricatures = dict.fromkeys(layers)
    if isinstance(picture, str):
        made.update({layer: drawing.stored(atlas, picture, model, layer) for layer in layers})
    missing = [layer for layer in layers if made[layer] is None]
    yield dict(made), None
    if missing or not layers:
        from microscope_space.live import live  # loads PyTorch

        for frame in live.frames(atlas, picture, model, missing, quality):
            yield {**made, **{layer: (frame, i) for i, layer in enumerate(missing)}}, frame


def plain(atlas: Atlas, picture: Picture, model: str, layers: Sequence[str], quality: str) -> Iterator[dict[str, Any]]:
    """The same as plain values: what JSON can hold."""
    for made, frame in caricatures(atlas, picture, model, layers, quality):
        yield {
            "step": frame.step if frame else 0,
            "steps": frame.steps if frame else 0,
            "seconds": frame.seconds if frame else 0.0,
            "seconds_left": frame.seconds_left if frame else None,
            "caricatures": [
                {
                    "layer": layer,
                    "from_atlas": isinstance(each, Stored),
                    "image": markup.data_uri(*_file(each)) if each else None,
                    "made": _made(each),
                }
                for layer, each in made.items()
            ],
        }


def shown(
    atlas: Atlas, picture: Picture, model: str, layers: Sequence[str], quality: str
) -> Generator[tuple[str, str], None, None]:
    """The same as HTML: how far it is, in words, and the pictures."""
    try:
        seen = html("<figure>{}<figcaption>The picture</figcaption></figure>", chooser.seen(picture))
        for made, frame in caricatures(atlas, picture, model, layers, quality):
            done = all(made.values()) and (frame is None or bool(frame.made))
            link = chooser.permalink("caricature", picture, model, layers) if done else NOTHING
            yield status(_words(made, frame, model)), _figures(seen, made, model, link)
    except AtlasError as error:
        yield chooser.refused(error), ""


def status(words: str) -> str:
    return chooser.part(html('<p role="status" aria-live="polite">{}</p>', words))


def _words(made: Caricatures, frame: Frame | None, model: str) -> str:
    if frame is None:
        return "The atlas has this already." if all(made.values()) else f"Loading {model}…"
    if frame.made and frame.step < frame.steps:
        return (
            f"Stopped after {frame.step} of {frame.steps} steps: {frame.seconds:.0f} s is all there is for one visitor."
        )
    if frame.made:
        return f"Done: {frame.steps} steps in {frame.seconds:.1f} s."
    return (
        f"Step {frame.step} of {frame.steps}. {frame.seconds:.1f} s so far, about "
        f"{max(1, round(frame.seconds_left))} s left."
    )


def _figures(seen: Markup, made: Caricatures, model: str, link: Markup) -> str:
    figures = joined(_figure(model, *each) for each in made.items())
    return chooser.part(html('<div class="figures">{}{}</div>{}', seen, figures, link))


def known(atlas: Atlas, picture: str | None, model: str | None, layers: Sequence[str]) -> tuple[str, str]:
    """What a link to one of the package's pictures shows at once: what the atlas has, else what to do."""
    if picture is None or picture not in SOURCES or model is None or not layers:
        return status(""), ""
    try:
        if all(drawing.stored(atlas, picture, model, layer) for layer in layers):
            return next(shown(atlas, picture, model, layers, "draft"))
    except AtlasError as error:
        return chooser.refused(error), ""
    return status("Press Start: it is rendered as it was, from the same seed."), ""


def _figure(model: str, layer: str, each: Stored | tuple[Frame, int] | None) -> Markup:
    named = html('<a href="{}">{}</a>', links.href(model, layer), layer)
    if each is None:
        blank = html('<span class="nothing" style="width:{}px;height:{}px"></span>', SHOWN, SHOWN)
        return html("<figure>{}<figcaption>{}</figcaption></figure>", blank, named)
    alt = f"Caricature at {layer} of {model}"
    file, kind = _file(each)
    made = _made(each)
    about = _scored(made["score"]) if made and made["score"] is not None else ""
    if isinstance(each, tuple) and made is None:
        about = _scored(each[0].scores[each[1]])
    if made and made["flag"]:
        about = f"flag: {made['flag']}"
    origin = f"From the atlas: {made['software']}, on {made['device']}" if made and isinstance(each, Stored) else ""
    uri = markup.data_uri(file, kind)
    below = NOTHING
    if made:
        recipe = markup.data_uri(json.dumps(made, indent=1).encode(), "application/json")
        ending = kind.removeprefix("image/").replace("jpeg", "jpg")
        below = html(
            '<span class="buttons"><a class="button" href="{}" download="caricature-{}-{}.{}">Picture</a>'
            '<a class="button" href="{}" download="caricature-{}-{}.json">Recipe</a></span>',
            uri, model, layer, ending, recipe, model, layer,
        )  # fmt: skip
    return html(
        '<figure><img src="{}" alt="{}" width="{}" height="{}">'
        "<figcaption>{}<small>{}</small><small>{}</small>{}</figcaption></figure>",
        uri, alt, SHOWN, SHOWN, named, about, origin, below,
    )  # fmt: skip


def _scored(score: float) -> str:
    return f"score {score:.2f}; a copy has 1"


def _file(each: Stored | tuple[Frame, int]) -> tuple[bytes, str]:
    """The picture as a file, and its kind: finished ones PNG, with how they were made in the text chunk `recipe`."""
    if isinstance(each, Stored):
        return each.file, "image/jpeg"
    (frame, i), file = each, io.BytesIO()
    pixels = Image.fromarray(frame.pictures[i])
    if not frame.made:
        pixels = pixels.convert("RGB") if pixels.mode == "RGBA" else pixels  # JPEG has no opacity
        pixels.save(file, "JPEG", quality=85, subsampling=0)
        return file.getvalue(), "image/jpeg"
    about = PngInfo()
    about.add_text("recipe", frame.made[i])
    pixels.save(file, "PNG", pnginfo=about)
    return file.getvalue(), "image/png"


def _made(each: Stored | tuple[Frame, int] | None) -> dict[str, Any] | None:
    """How it was made; None while it is being made."""
    if isinstance(each, Stored):
        return {**each.made, "recipe": json.loads(each.made["recipe"])}
    made: dict[str, Any] | None = json.loads(each[0].made[each[1]]) if each and each[0].made else None
    return made
