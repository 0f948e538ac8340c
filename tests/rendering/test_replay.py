"""Replays, with a double of CUDA's graphs; and with CUDA itself where there is a device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch

from microscope_atlas.rendering import replay
from microscope_atlas.rendering.ascend import Ascent, Frame, ascend
from microscope_atlas.rendering.canvas import CanvasMaker
from microscope_atlas.rendering.objectives import Channel
from microscope_atlas.rendering.phase import Crops, Phase, amplitudes
from microscope_atlas.rendering.replay import WARM, Replay
from microscope_atlas.rendering.transparent import Transparent
from microscope_atlas.rendering.views import Views
from tests import toy


class Graphs:
    """What replay.py needs of torch.cuda. A graph that is recorded keeps what ran instead of taking it."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.where = "usual"
        self.registered: list[torch.Generator] = []

    def step(self) -> None:
        self.ran.append(self.where)

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        before, self.where = self.where, where
        yield
        self.where = before

    def Stream(self) -> "Stream":  # noqa: N802
        return Stream()

    def current_stream(self) -> "Stream":
        return Stream()

    def stream(self, stream: "Stream") -> object:
        return self.at("side")

    def CUDAGraph(self) -> "Graph":  # noqa: N802
        return Graph(self)

    def graph(self, graph: "Graph") -> object:
        return self.at("recorded")


class Stream:
    def wait_stream(self, stream: "Stream") -> None:
        assert isinstance(stream, Stream)


class Graph:
    def __init__(self, cuda: Graphs):
        self.cuda = cuda

    def register_generator_state(self, generator: torch.Generator) -> None:
        assert "recorded" not in self.cuda.ran
        self.cuda.registered.append(generator)

    def replay(self) -> None:
        self.cuda.ran.append("replayed")


def test_every_call_takes_one_step_and_the_recording_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, streams = Graphs(), [torch.Generator(), torch.Generator()]
    monkeypatch.setattr(replay.torch, "cuda", cuda)
    advance = Replay(cuda.step, plain=2, streams=streams)
    for _ in range(2 + WARM + 3):
        advance()
    assert cuda.ran == ["usual"] * 2 + ["side"] * WARM + ["recorded"] + ["replayed"] * 3
    assert cuda.registered == streams


def made(make_canvas: CanvasMaker | None = None) -> Frame:
    """On CUDA, in more steps than are taken before the recording."""
    device = torch.device("cuda")
    graph = toy.network().to(device)
    settings = replace(Ascent(steps=24), redirect_steps=4)
    units = Channel(torch.tensor([1, 9], device=device))
    *_, last = ascend(lambda p: graph(p, ["mixed"])[0], units, [1, 2], settings, 32, device, make_canvas=make_canvas)
    return last


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("method", ["fourier", "transparent", "maco"])
def test_replayed_steps_make_the_pictures_that_plain_ones_make(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    natural = amplitudes(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    make_canvas = {
        "fourier": None,
        "transparent": partial(Transparent, std=0.01, views=Views(), background_std=0.5),
        "maco": partial(Phase, amplitudes=natural, crops=Crops()),
    }[method]
    replayed = made(make_canvas)
    monkeypatch.setattr("microscope_atlas.rendering.ascend.Replay", lambda step, plain, streams: step)
    plain = made(make_canvas)
    torch.testing.assert_close(replayed.scores, plain.scores, rtol=0.02, atol=0.0)
    assert (replayed.pictures - plain.pictures).abs().mean() < 0.02
