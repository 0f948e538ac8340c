"""Live caricatures, of an atlas of EfficientNet-Lite0 that is quickly made."""

import asyncio
import itertools
import json
import os
import pickle
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import Event, get_native_id
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.errors import AtlasDamaged, UnknownName, WeightsError
from microscope_atlas.lenses.caricature import RECIPES, Recipe, caricatures
from microscope_atlas.lenses.frames import pixels, square
from microscope_atlas.lenses.recipe import restored, settings
from microscope_atlas.models.networks.network import Network
from microscope_atlas.pictures.sources import source
from microscope_atlas.rendering.ascend import Ascent, canvas_size
from microscope_space import app
from microscope_space.live import drawing, live, networks
from microscope_space.live.caricature import QUALITIES
from tests import atlases

MODEL, LAYERS = atlases.MODEL, ("stem", "blocks_0")
STEPS = 8


@pytest.fixture(scope="module")
def rendered(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    atlases.render_every(root, {layer: range(2) for layer in LAYERS})
    return root


@pytest.fixture
def atlas(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Atlas]:
    """With settings that are quick."""
    for name, size in (("draft", 32), ("standard", 48)):
        quick = replace(RECIPES[name], ascent=Ascent(steps=STEPS), max_size=size)  # type: ignore[index]
        monkeypatch.setitem(RECIPES, name, quick)
    networks._weights.clear()
    networks._network.clear()
    yield Atlas(Folder(rendered))
    networks._weights.clear()


PHOTO = source("cat").rotate(90)


def test_words_of_a_quality_say_how_many_steps_it_has() -> None:
    for name, words in QUALITIES.items():
        assert f" {RECIPES[name].ascent.steps} steps" in words  # type: ignore[index]


def test_whoever_waits_for_a_frame_may_leave() -> None:
    asked, go_on, closed = Event(), Event(), Event()

    def work() -> Generator[int, None, None]:
        try:
            yield 1
            asked.set()
            go_on.wait()
            yield 2
        finally:
            closed.set()

    async def leave() -> list[int]:
        seen = []

        async def watch() -> None:
            async for each in drawing.awaited(work()):
                seen.append(each)

        watching = asyncio.create_task(watch())
        await asyncio.to_thread(asked.wait)
        watching.cancel()
        await asyncio.wait([watching], timeout=60)
        assert watching.cancelled() and not closed.is_set()
        return seen

    assert asyncio.run(leave()) == [1]
    go_on.set()
    assert closed.wait(60)


def test_frames_come_as_they_are_made(atlas: Atlas) -> None:
    seen = list(live.frames(atlas, PHOTO, MODEL, LAYERS))
    assert [frame.step for frame in seen] == list(range(1, STEPS + 1))
    for frame in seen:
        assert [(each.shape, each.dtype) for each in frame.pictures] == [((32, 32, 3), np.uint8)] * 2
        assert len(frame.scores) == 2 and frame.steps == STEPS
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left
    assert not any(frame.made for frame in seen[:-1])
    assert all(not np.array_equal(a.pictures[0], b.pictures[0]) for a, b in itertools.pairwise(seen))


def test_the_first_step_is_shown_and_changes_nothing(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "draft", replace(RECIPES["draft"], ascent=Ascent(steps=8), max_size=32))
    monkeypatch.setattr(live, "FRAMES", 4)
    seen = list(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    assert [frame.step for frame in seen] == [1, *range(2, 9, 2)]
    monkeypatch.setattr(live, "_soon", lambda begun, every: begun(every=every))
    *_, last = live.frames(atlas, PHOTO, MODEL, ["stem"])
    assert np.array_equal(last.pictures, seen[-1].pictures)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own here")
def test_pages_come_before_rendering(atlas: Atlas) -> None:
    list(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    rendering = live._WORKER.submit(get_native_id).result()
    assert os.getpriority(os.PRIO_PROCESS, rendering) == os.getpriority(os.PRIO_PROCESS, 0) + live.NICE


def test_what_the_first_visitors_need_is_made_ready(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: Any) -> None:
        raise AtlasDamaged("it is gone")

    app.first(atlas)
    app.ready(atlas)
    assert not caplog.text
    assert networks._network.loads == 0  # a network is looked at with the first live view
    monkeypatch.setattr(app.index, "of", gone)
    app.ready(atlas)  # the server goes on
    assert "not ready ahead: it is gone" in caplog.text


def test_the_first_page_is_made_before_gradio_asks_for_it(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up after three seconds, and of an atlas of all organisms the first one took as long."""
    done: list[str] = []
    blocks = SimpleNamespace(
        launch=lambda **_: done.append("launch") or (None, "", ""),
        server=SimpleNamespace(config=SimpleNamespace()),
    )
    monkeypatch.setattr(app, "_blocks", lambda _: blocks)
    monkeypatch.setattr(app.routes, "show", lambda *_: done.append("page"))
    monkeypatch.setattr(app, "ready", lambda _: done.append("index"))
    app.serve(atlas.storage, prevent_thread_lock=True)
    while len(done) < 3:  # that last one has a thread of its own
        pass
    assert done == ["page", "launch", "index"]


def test_the_result_says_how_it_can_be_made_again(atlas: Atlas) -> None:
    *_, last = live.frames(atlas, PHOTO, MODEL, LAYERS)
    made = [json.loads(each) for each in last.made]
    assert [(each["model"], each["layer"]) for each in made] == [(MODEL, layer) for layer in LAYERS]
    assert {each["weights_sha256"] for each in made} == {atlas.manifest.models[MODEL]["weights_sha256"]}
    assert {(each["atlas"], each["steps"], each["device"]) for each in made} == {(atlas.revision, STEPS, "cpu")}
    plain = made[0]["recipe"]
    recipe = restored(Recipe, {name: plain[name] for name in settings(RECIPES["draft"])})
    network = networks.network(MODEL, "pretrained", torch.device("cpu"))
    shown = square(PHOTO, canvas_size(recipe.ascent, plain["size"])).expand(2, -1, -1, -1)
    *_, again = caricatures(network, shown, LAYERS, [each["seed"] for each in made], recipe, plain["size"])
    for i, each in enumerate(made):
        assert np.array_equal(pixels(again.pictures[i]).numpy(), last.pictures[i])
        assert each["score"] == pytest.approx(again.scores[i].item())
        assert 0 < each["cosine"] <= 1


def test_the_same_picture_gives_the_same_and_another_one_another(atlas: Atlas) -> None:
    def result(picture: Image.Image | str) -> tuple[Any, Any]:
        *_, last = live.frames(atlas, picture, MODEL, ["stem"])
        made = json.loads(last.made[0])
        return last.pictures[0].tobytes(), made["seed"]

    assert result(PHOTO) == result(PHOTO.copy())
    assert all(a != b for a, b in zip(result(PHOTO), result(PHOTO.rotate(90)), strict=True))
    (row,) = atlas.rows("caricature", MODEL, "stem")
    assert result("cat")[1] == row["seed"]


def test_seconds_left_are_at_the_pace_so_far(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 105.0, *(105.0 + 2 * step for step in range(1, STEPS))])  # the first step takes longer
    monkeypatch.setattr(live.time, "monotonic", lambda: next(ticks))
    seen = list(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    assert [frame.seconds for frame in seen[:3]] == [5, 7, 9]
    assert [frame.seconds_left for frame in seen] == [7 * 5, *(2.0 * (STEPS - step) for step in range(2, STEPS + 1))]


def test_time_that_is_out_ends_with_what_there_is(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(live.BUDGET_SECONDS, "cpu", 0.0)
    (only,) = live.frames(atlas, PHOTO, MODEL, ["stem"])
    assert (only.step, only.steps, only.seconds_left) == (1, STEPS, 0)
    assert json.loads(only.made[0])["steps"] == 1


class Counting(Network):
    """A network that counts how often it is run."""

    def __init__(self, network: Network):
        super().__init__()
        self.network, self.runs = network, 0

    def forward(self, *asked: Any) -> Any:
        self.runs += 1
        return self.network(*asked)

    preactivation = rectified = cut = wiring = table = sides = None  # type: ignore[assignment]


def test_closing_ends_the_work(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(networks.network(MODEL, "pretrained", torch.device("cpu")))
    monkeypatch.setattr(networks, "network", lambda *_: counting)
    work = live.frames(atlas, PHOTO, MODEL, ["stem"])
    next(work), next(work)
    runs = counting.runs
    work.close()
    list(live.frames(atlas, PHOTO, MODEL, ["stem"]))  # the renderer is free, and what was closed is not continued
    assert counting.runs - runs == 4 * STEPS + 2  # canvas and picture, for the step and for its frame; cosines


def test_a_server_may_continue_it_on_any_thread(atlas: Atlas) -> None:
    expected = [frame.pictures[0] for frame in live.frames(atlas, PHOTO, MODEL, ["stem"])]
    work, seen = live.frames(atlas, PHOTO, MODEL, ["stem"]), []

    def step() -> bool:
        frame = next(work, None)
        seen.extend(frame.pictures if frame else ())
        return torch.is_grad_enabled()

    for _ in range(STEPS + 1):
        with ThreadPoolExecutor(1) as another:
            assert another.submit(step).result()
    assert np.array_equal(seen, expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("efficientnet_lite1", ["stem"], "draft"), "model 'efficientnet_lite1' is not in what can be run here"),
        (("own:os.getcwd", ["stem"], "draft"), "model 'own:os.getcwd' is not in"),
        ((MODEL, ["stam"], "draft"), "layer 'stam' is not in this atlas' efficientnet_lite0; nearest: stem"),
        ((MODEL, ["blocks_7"], "draft"), "layer 'blocks_7' is not in this atlas'"),
        ((MODEL, [], "draft"), "0 layers are asked for; choose 1 to 4"),
        ((MODEL, ["stem", "stem"], "draft"), "2 layers are asked for; choose 1 to 4, each once"),
        ((MODEL, ["stem"], "microscope"), "quality 'microscope' is not in what is rendered live"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    atlas: Atlas, asked: tuple[str, list[str], str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "network", None)
    with pytest.raises(UnknownName) as raised:
        next(live.frames(atlas, PHOTO, *asked))
    assert message in str(raised.value)


def test_other_weights_are_refused(atlas: Atlas) -> None:
    atlas.manifest.models[MODEL]["weights_sha256"] = "0" * 64
    with pytest.raises(WeightsError, match="are not those that this atlas was made with, 000000000000"):
        next(live.frames(atlas, PHOTO, MODEL, ["stem"]))


def test_weights_that_cannot_be_had_are_said_without_paths(
    atlas: Atlas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise WeightsError(f"{tmp_path} is damaged")

    monkeypatch.setattr("microscope_atlas.models.weights.load", fails)
    with pytest.raises(WeightsError, match="the weights of efficientnet_lite0 cannot be had here") as raised:
        next(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    assert str(tmp_path) not in str(raised.value)
    assert str(tmp_path) in caplog.text


def test_networks_are_loaded_once(atlas: Atlas) -> None:
    for _ in range(2):
        next(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    assert networks._weights.loads == networks._network.loads == 1
    assert 0 < networks._network.num_bytes <= networks.KEPT


def test_a_network_that_is_looked_at_is_loaded_meanwhile(atlas: Atlas) -> None:
    networks.ahead(atlas, MODEL).join()
    assert networks._network.loads == 1
    next(live.frames(atlas, PHOTO, MODEL, ["stem"]))
    assert networks._network.loads == 1
    atlas.manifest.models[MODEL]["weights_sha256"] = "0" * 64
    networks.ahead(atlas, MODEL).join()  # is no error yet


def test_the_atlas_own_is_found(atlas: Atlas) -> None:
    found = drawing.stored(atlas, "cat", MODEL, "stem")
    assert found is not None
    assert found.file.startswith(b"\xff\xd8")
    assert found.made["source"] == "cat" and found.made["software"] and "image" not in found.made
    assert drawing.stored(atlas, "temple", MODEL, "stem") is None


def test_a_gpu_is_asked_for_before_the_server_is_there(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setattr(live, "zero_gpu_render", lambda: done.append("zero_gpu_render"))
    monkeypatch.setattr(app, "ready", lambda _: None)
    blocks = SimpleNamespace(
        launch=lambda **_: done.append("launch") or [""] * 3, server=SimpleNamespace(config=SimpleNamespace())
    )
    monkeypatch.setattr(app, "_blocks", lambda _: blocks)
    app.serve(atlas.storage, prevent_thread_lock=True)
    assert done == ["zero_gpu_render", "launch"]


def test_a_fork_can_load_what_another_thread_was_loading(atlas: Atlas) -> None:
    networks.forked()
    with networks._weights._lock, networks._network._lock:
        child = os.fork()
        if not child:
            os._exit(0 if all(each._lock.acquire(timeout=5) for each in (networks._weights, networks._network)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_borrowed_gpu_is_asked_for_no_longer_than_it_may(atlas: Atlas, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Spaces(ModuleType):
        def GPU(self, duration: int) -> Any:  # noqa: N802 - its own name
            asked.append(duration)
            return lambda work: lambda job: work(pickle.loads(pickle.dumps(job)))  # in another process

    fake = Spaces("spaces")
    fake.__spec__ = ModuleSpec("spaces", None)
    monkeypatch.setitem(sys.modules, "spaces", fake)
    assert not drawing.zero_gpu()  # the package alone says nothing
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    live.zero_gpu_render.cache_clear()
    *_, last = live.frames(atlas, PHOTO, MODEL, ["stem"])
    live.zero_gpu_render.cache_clear()
    assert asked == [15] and live.BUDGET_SECONDS["cuda"] < 15
    assert last.made
