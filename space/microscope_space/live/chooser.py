"""What the live views ask first: a picture, a visitor's own or one of the package's, and a network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup
from PIL import Image

from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasError, PicturesFailed
from microscope_atlas.pictures.decoder import fitted
from microscope_atlas.pictures.sources import SOURCES, source
from microscope_space import routes
from microscope_space.html import links, markup
from microscope_space.html.escaped import NOTHING, html
from microscope_space.live import networks, uploads

Picture = Image.Image | str  # a visitor's own, or the name of one of the package's

FIRST = "cat"  # what stands there until another is chosen
SHOWN = 224  # px on a side
SECONDS = 1800  # that a picture is remembered for
FORGOTTEN = "there is no picture: choose one; yours is forgotten after half an hour"
PRIVACY = (
    "Your picture is deleted from the disk as soon as it is read, and forgotten after half an hour. At most "
    f"{uploads.MAX_BYTES >> 20} MB; the largest square in its middle is what the network sees."
)


class Chosen(NamedTuple):
    """Components that hold a picture: its state has a Picture."""

    picture: gr.State
    named: gr.Dropdown
    shown: gr.HTML


def picture() -> Chosen:
    """Components to choose a picture with."""
    chosen = gr.State(FIRST, time_to_live=SECONDS)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            own = gr.File(label="Your picture", file_types=["image"], height=132)
            named = gr.Dropdown([(known.title, name) for name, known in SOURCES.items()], value=FIRST, label="Or ours")
        with gr.Column(scale=1, min_width=240):
            shown = piece(preview(FIRST))
    quick: Any = {"show_progress": "hidden", "api_visibility": "private"}
    own.upload(take, own, [chosen, shown, own, named], **quick, concurrency_limit=2)
    named.input(lambda name: (name, preview(name)), named, [chosen, shown], **quick, queue=False)
    return Chosen(chosen, named, shown)


def network(atlas: Atlas) -> gr.Dropdown:
    """A component to choose a network with."""
    models = networks.choices(atlas)
    listed = [(title(model), model) for model in models]
    return gr.Dropdown(listed, value=next(iter(models), None), label="Network", min_width=260)


def title(model: str) -> str:
    """`BVLC GoogLeNet (inceptionv1_caffe)`."""
    known = organisms()[model]
    return model if known.title == model else f"{known.title} ({model})"


def asked(atlas: Atlas, query: Mapping[str, str]) -> tuple[str | None, list[str]]:
    """The network and layers that a link asks for, or those to begin with: its first, and a layer in its middle.

    Several layers have commas between them.
    """
    models = networks.choices(atlas)
    model = query["model"] if query.get("model") in models else next(iter(models), None)
    layers = list(atlas.layers(model)) if model else []
    named = [each for each in dict.fromkeys(query.get("layer", "").split(",")) if each in layers]
    return model, named or layers[len(layers) // 2 :][:1]


def begun(query: Mapping[str, str]) -> tuple[Any, Any, Any]:
    """What `Chosen` begins with where a link names one of the package's pictures."""
    name = query.get("picture")
    return (name, name, preview(name)) if name is not None and name in SOURCES else (gr.skip(), gr.skip(), gr.skip())


def permalink(view: str, picture: Picture | None, model: str, layers: Sequence[str] = ()) -> Markup:
    """A link that leads here again; nothing of a visitor's own picture, which is kept nowhere."""
    if not isinstance(picture, str):
        return NOTHING
    link = links.query(model, ",".join(layers) or None, view=view, picture=picture)
    return html('<p><a href="./{}">Link to this</a></p>', link)


def ahead(atlas: Atlas, request: gr.Request, view: str) -> tuple[str | None, list[str]]:
    """The same, for a view that may be shown; if it is, its network is loaded meanwhile."""
    query = dict(request.query_params)
    model, layers = asked(atlas, query)
    if model and query.get("view") == view:
        networks.ahead(atlas, model)
    return model, layers


def take(path: str) -> tuple[Any, ...]:
    """An uploaded file -> the picture, what is shown of it, and the components emptied again."""
    try:
        read = uploads.read_and_forget(Path(path))
    except AtlasError as error:
        return None, refused(error), None, None  # nor is what was chosen before started by mistake
    return read, preview(read), None, None


def given(text: str) -> Picture:
    """A picture as programs give it: the name of one of the package's, or a file in base64. PicturesFailed if not."""
    if not isinstance(text, str):  # Gradio lets any type through
        raise PicturesFailed("a picture is to be given as text: an image file in base64, or the name of one of ours")
    return text if text in SOURCES else uploads.from_text(text)


def opened(picture: Picture | None) -> Image.Image:
    """PicturesFailed where it is forgotten."""
    if picture is None:
        raise PicturesFailed(FORGOTTEN)
    return source(picture) if isinstance(picture, str) else picture


def preview(picture: Picture) -> str:
    """What the network sees of a picture, and whose it is."""
    about: Markup | str = "Your picture"
    if isinstance(picture, str):
        known = SOURCES[picture]
        owed = html('<small><a href="{}">{}</a>, {}</small>', known.url, known.author, known.license)
        about = html("{}{}", known.title, owed)
    return part(html("<figure>{}<figcaption>{}</figcaption></figure>", seen(picture), about))


def seen(picture: Picture) -> Markup:
    """What the network sees of it."""
    return markup.pixels(np.asarray(fitted(opened(picture), SHOWN)), "The picture, as the network sees it", SHOWN)


def refused(error: AtlasError) -> str:
    """Why something cannot be."""
    return part(markup.error(routes.sentence(routes.public(error))))


def piece(content: str = "", clicked: str | None = None) -> gr.HTML:
    """A component for a piece of a view; with a script that says what a click in it triggers."""
    return gr.HTML(content, apply_default_css=False, padding=False, js_on_load=clicked)


def part(inner: Markup) -> str:
    """A piece of a view, in the pages' style, as Gradio takes it: plain text."""
    return str(html('<div class="atlas piece">{}</div>', inner))
