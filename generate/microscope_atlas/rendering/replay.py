"""A step of the loop as one launch: on CUDA it is recorded once, as a graph, and then replayed.

A step is some hundred kernels, many of them shorter than Python takes to launch them. A replay launches all of them at
once, and nothing in it waits for the host. What changes from step to step must therefore be read from the device: the
number of the step, and random streams that the graph knows. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from collections.abc import Callable, Sequence

import torch

# Steps on the side stream before the recording, in which libraries set themselves up; as PyTorch's notes have it
WARM = 3


class Replay:
    """Calls `step`, once a call. After `plain` calls, which may differ from later ones, it is recorded and replayed."""

    def __init__(self, step: Callable[[], None], plain: int, streams: Sequence[torch.Generator]):
        self._step, self._streams = step, streams
        self._plain, self._warm = plain, WARM
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._plain:
            self._plain -= 1
            self._step()
        elif self._warm:
            self._warm -= 1
            self._aside()
        else:
            self._graph = self._graph or self._recorded()
            self._graph.replay()

    def _aside(self) -> None:
        """One step on a stream of its own: a recording must not find anything that waits for the usual one."""
        side, usual = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        side.wait_stream(usual)
        with torch.cuda.stream(side):
            self._step()
        usual.wait_stream(side)

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """The step as a graph; recording it does not take it."""
        graph = torch.cuda.CUDAGraph()
        for stream in self._streams:
            graph.register_generator_state(stream)
        with torch.cuda.graph(graph):
            self._step()
        return graph
