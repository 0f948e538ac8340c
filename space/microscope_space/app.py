"""The Space: documents from plain routes, and Gradio's Blocks for the live views and the API."""

import gc
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

from microscope_space.quick_gradio import without_stubs

with without_stubs():
    import gradio as gr

import pyarrow as pa

from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.errors import AtlasError
from microscope_atlas.malloc import M_ARENA_MAX, mallopt
from microscope_space import api, documents, offline, routes
from microscope_space.html import links, text
from microscope_space.html.escaped import html
from microscope_space.live import caricature, probe, uploads
from microscope_space.live.drawing import zero_gpu
from microscope_space.pages import frame as page
from microscope_space.search import index

log = logging.getLogger(__name__)

HERE = Path(__file__).parent / "html"
QUEUE = 32  # visitors who wait, at most, for something that is rendered
SESSIONS = 1000  # visitors that Gradio remembers, some 0.3 MB each; it forgets none by itself
ABANDONED = (600, 600)  # seconds between two looks for uploads that nobody read, and their age
# that a connection waits for its visitor's next request, longer than a page is looked at and than most proxies keep
# theirs: with uvicorn's 5 a request may be on its way as the server ends the connection
KEEP_ALIVE_SECONDS = 75
# Gradio's own greys and blue are too faint to be read; each has a twin for dark pages
COLOURS = {
    "body_text_color_subdued": ("#5a626c", "#a5adb8"),
    "input_placeholder_color": ("#5a626c", "#a5adb8"),
    "button_primary_background_fill": ("#0b57a4", "#2b6cb0"),
    "button_primary_background_fill_hover": ("#084782", "#245c97"),
}
THEME = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(
    **{name: light for name, (light, _) in COLOURS.items()},
    **{f"{name}_dark": dark for name, (_, dark) in COLOURS.items()},
)
# views of Gradio's components: each builds itself
LIVE: dict[str, Callable[[Atlas], None]] = {"caricature": caricature.build, "probe": probe.build}


def build_app(atlas: str | Storage) -> gr.Blocks:
    """The Space of an atlas: a folder, or `owner/name@revision` on the Hub. AtlasDamaged where there is none."""
    return _blocks(Atlas(open_atlas(atlas) if isinstance(atlas, str) else atlas))


def serve(atlas: str | Storage, prevent_thread_lock: bool = False, **settings: Any) -> tuple[Any, str]:
    """Serve it with its style, script and plain routes, and as MCP's tools where that extra is installed.

    It returns once the server has ended, or with `prevent_thread_lock` at once: the server's application and address.
    `settings` are others of Gradio's launch.
    """
    known = Atlas(open_atlas(atlas) if isinstance(atlas, str) else atlas)
    if zero_gpu():
        from microscope_space.live import live

        live.zero_gpu_render()
    give_memory_back()
    first(known)
    more: dict[str, Any] = {}
    own = [*api.plain(known), *documents.documents(known)]
    if importlib.util.find_spec("mcp"):
        from microscope_space import tools

        route, more["lifespan"] = tools.served(known)
        own.insert(0, route)
    blocks = _blocks(known)
    application, address, _ = blocks.launch(
        theme=THEME,
        css_paths=[HERE / "style.css", HERE / "live.css"],
        head=f"<script>{(HERE / 'script.js').read_text()}</script>",
        footer_links=[],
        state_session_capacity=SESSIONS,
        ssr_mode=False,
        max_file_size=uploads.MAX_BYTES,
        app_kwargs={"routes": own, **more},  # these come before Gradio's own
        prevent_thread_lock=True,
        **settings,
    )
    Thread(target=_settle, args=(known,), daemon=True).start()
    blocks.server.config.timeout_keep_alive = KEEP_ALIVE_SECONDS  # which Gradio lets nobody say; of connections to come
    if not prevent_thread_lock:
        blocks.block_thread()
    return application, address


def give_memory_back() -> None:
    """Have what pages were made from leave memory again: Arrow's own pool keeps it, and glibc does so thread by thread.

    Over an atlas of 117,545 units 567 MB instead of 632 after a page of every layer and 200 units' pictures.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt((M_ARENA_MAX, 2))


def first(atlas: Atlas) -> None:
    """Read what the first page needs: Gradio asks for it as it starts, and gives up after three seconds."""
    routes.show(atlas, {})


def ready(atlas: Atlas) -> None:
    """Read what the first search would wait for."""
    try:
        index.of(atlas)
    except AtlasError as error:  # said where it is asked for
        log.warning("not ready ahead: %s", error)


def _settle(atlas: Atlas) -> None:
    """Make ready, and have what is there by then, some 200,000 objects, no longer looked through for garbage.

    Pages of layers, which have thousands of small strings each, take a fifth less processor time on the mean.
    """
    ready(atlas)
    gc.collect()
    gc.freeze()


def _blocks(atlas: Atlas) -> gr.Blocks:
    """The live views, of which a visitor's link chooses one, between head and foot of a page; and the endpoints."""
    offline.fetch_nothing()
    app: gr.Blocks
    with gr.Blocks(title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=ABANDONED) as app:
        main = gr.HTML(apply_default_css=False, js_on_load=None)
        views: dict[str, gr.Column] = {}
        for view, build in LIVE.items():
            with gr.Column(visible=False, elem_classes="live") as views[view]:
                build(atlas)
        foot = gr.HTML(apply_default_css=False, js_on_load=None)

        def load(request: gr.Request) -> list[Any]:
            view = request.query_params.get("view")
            now = atlas.latest()
            with links.based("./", now.version):
                below = html('<div class="atlas-foot">{}</div>', page.foot(now))
                shown = routes.show(now, {"view": view} if view in page.LIVE else {})
            return [str(shown), str(below), *(gr.Column(visible=view == name) for name in views)]

        app.load(
            load, outputs=[main, foot, *views.values()], show_progress="hidden", api_visibility="private", queue=False
        )
        api.endpoints(atlas)
    app.queue(max_size=QUEUE)
    return app
