"""What the Space stands: many visitors at once, and some who have caricatures made; errors, times, memory.

    microscope-atlas render big --model inceptionv1_caffe --layer inception_4c
    python -m benchmarks.space_load big

Serves the atlas as `microscope-atlas browse` does and visits it over HTTP as browsers do, all on two cores, the
visitors' work included: the first page through Gradio, its Blocks and load events, further ones by links, with the
pictures that are in sight, six at a time; now and then a call of the API through the queue. Whoever has seen enough
goes, and another one comes. Then the same again while caricatures are made of own pictures, one after the other as the
queue has it, with the network and layer that the Space begins with. Prints a table, writes
benchmarks/results/space_load.json, and ends with 1 where a limit is not kept.
"""

import argparse
import asyncio
import base64
import html
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
from PIL import Image

from benchmarks import report
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.pictures.sources import SOURCES, source
from microscope_space.live import chooser

CORES = 2
VISITORS, CARICATURING, SECONDS = 50, 5, 60.0
THINK_SECONDS = (1.0, 5.0)  # that a visitor looks at a page
PAGES = 8  # that a visitor looks at, on average
PICTURES = 24  # in sight, at most
DEEPER_SHARE = 0.8  # of the links that a visitor follows lead to units, or towards them
API_SHARE = 0.1  # of what visitors do is a call of the API
MOST_SECONDS = {"browsing": 1.0, "browsing and caricaturing": 3.0}  # that 95% of pages take, at most
MOST_GROWTH = 1.1  # of memory from the first third of a phase to its last
PATIENCE_SECONDS = 120.0
RESULTS = Path(__file__).parent / "results" / "space_load.json"

LINK = re.compile(r'<a [^>]*?href="(/[^"]*)"')
FILE = re.compile(r'(?:href|src)="(/files/[^"]*)"')
PICTURE = re.compile(r"""(?:src="|url\((?:'|&\#39;))(/picture\?[^"']*?)(?:"|'|&\#39;)""")
NOT_READ = ("view=caricature", "view=probe", "/picture?", "view=compare")


@dataclass
class Seen:
    """What visitors met in a phase."""

    seconds: dict[str, list[float]] = field(default_factory=dict)  # by what was asked for
    errors: list[str] = field(default_factory=list)
    busy: int = 0  # asked to come again: the queue was full
    rss: list[float] = field(default_factory=list)  # MB of the server and its children, each second

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds.setdefault(what, []).append(time.perf_counter() - start)

    def summary(self) -> dict[str, Any]:
        third = max(1, len(self.rss) // 3)
        return {
            "errors": len(self.errors),
            "first_errors": self.errors[:5],
            "busy": self.busy,
            "rss_mb": {
                "first_third": round(float(np.mean(self.rss[:third]))),
                "last_third": round(float(np.mean(self.rss[-third:]))),
                "most": round(max(self.rss)),
            },
            "seconds": {
                what: {
                    "count": len(times),
                    **{f"p{q}": round(float(np.percentile(times, q)), 3) for q in (50, 95, 99)},
                    "worst": round(max(times), 3),
                }
                for what, times in sorted(self.seconds.items())
            },
        }


class Visitor:
    """One browser: its connections, its cache, and the session that Gradio knows it by."""

    def __init__(self, http: aiohttp.ClientSession, config: dict[str, Any], seen: Seen, seed: int):
        self.http, self.config, self.seen = http, config, seen
        self.rng, self.known = random.Random(seed), set[str]()
        self.session = f"{seed:x}-{time.monotonic_ns():x}"

    async def enter(self, link: str) -> str:
        """The first page, and the files that every page needs."""
        with self.seen.timed("first page"):
            page = await self.text("GET", link)
            await asyncio.gather(*(self.bytes("GET", html.unescape(each)) for each in FILE.findall(page)))
        return page

    async def browse(self, link: str = "/") -> None:
        """Look at pages as long as it pleases."""
        page = await self.enter(link)
        while True:
            await self.pictures(page)
            await asyncio.sleep(self.rng.uniform(*THINK_SECONDS))
            if self.rng.random() < 1 / PAGES:
                return
            if self.rng.random() < API_SHARE:
                with self.seen.timed("API call"):
                    async for _ in self.queued("search", [self.rng.choice(("inception", "blocks", "dog", "1"))]):
                        pass
            with self.seen.timed("page"):
                page = await self.text("GET", self.next(page))

    def next(self, page: str) -> str:
        """A link of this page: mostly one that leads deeper."""
        links = [html.unescape(link) for link in LINK.findall(page)]
        links = [link for link in links if not any(each in link for each in NOT_READ)]
        depths = [urlsplit(link).path.rstrip("/").count("/") for link in links]
        deep = [link for link, depth in zip(links, depths, strict=True) if depth == max(depths)]
        return self.rng.choice(deep if self.rng.random() < DEEPER_SHARE else links)

    async def pictures(self, page: str) -> None:
        """Those in sight that are not known yet."""
        sources = dict.fromkeys(html.unescape(each) for each in PICTURE.findall(page))
        wanted = [each for each in list(sources)[:PICTURES] if each not in self.known]
        self.known.update(wanted)

        async def fetch(each: str) -> None:
            with self.seen.timed("picture"):
                await self.bytes("GET", each)

        await asyncio.gather(*map(fetch, wanted))

    async def caricature(self, model: str, layer: str) -> None:
        """Have a caricature made of a picture that nobody else has, and watch it."""
        own = source(self.rng.choice(list(SOURCES))).rotate(self.rng.uniform(0, 360)).resize((320, 320))
        file = io.BytesIO()
        Image.Image.save(own, file, "JPEG")
        start, frames = time.perf_counter(), 0
        picture = base64.b64encode(file.getvalue()).decode()
        with self.seen.timed("caricature, whole"):
            async for event in self.queued("caricature", [picture, model, [layer], "draft"]):
                if event["msg"] == "process_starts":
                    self.seen.seconds.setdefault("caricature, wait", []).append(time.perf_counter() - start)
                    start = time.perf_counter()
                frames += event["msg"] == "process_generating"
                if frames == 2 and event["msg"] == "process_generating":  # the first says that it has begun
                    self.seen.seconds.setdefault("caricature, first frame", []).append(time.perf_counter() - start)

    async def queued(self, name: str, data: list[Any]) -> AsyncIterator[dict[str, Any]]:
        """Events of a call through Gradio's queue; none where the queue is full."""
        number = next(each["id"] for each in self.config["dependencies"] if each["api_name"] == name)
        async with self.http.post("/gradio_api/queue/join", json=self.call(number, data)) as answer:
            if answer.status == 503:
                self.seen.busy += 1
                return
            answer.raise_for_status()
        async with self.http.get("/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            stream.raise_for_status()
            async for line in stream.content:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                yield event
                if event["msg"] == "process_completed" and not event["success"]:
                    raise RuntimeError(f"{name}: {event['output']}")
                if event["msg"] in ("process_completed", "close_stream"):
                    return

    def call(self, number: int, data: list[Any]) -> dict[str, Any]:
        return {"data": data, "fn_index": number, "event_data": None, "session_hash": self.session, "trigger_id": None}

    async def text(self, *request: Any, **more: Any) -> str:
        return (await self.bytes(*request, **more)).decode()

    async def bytes(self, *request: Any, **more: Any) -> bytes:
        async with self.http.request(*request, **more) as answer:
            answer.raise_for_status()
            return await answer.read()


async def phase(server: "Server", visitors: int, caricaturing: int, seconds: float, place: tuple[str, str]) -> Seen:
    """Everybody at once for some seconds."""
    seen, until = Seen(), time.monotonic() + seconds

    async def come_and_go(at: int) -> None:
        seed = at
        await asyncio.sleep(random.Random(at).uniform(0, THINK_SECONDS[1] if at < visitors else 1))
        while (left := until - time.monotonic()) > 0:
            seed += 1000
            try:
                async with server.browser() as http, asyncio.timeout(left):
                    visitor = Visitor(http, server.config, seen, seed)
                    await (visitor.browse() if at < visitors else visitor.caricature(*place))
            except TimeoutError as error:
                if time.monotonic() < until:
                    seen.errors.append(repr(error))
            except (aiohttp.ClientError, RuntimeError, ValueError) as error:
                seen.errors.append(repr(error)[:300])
                await asyncio.sleep(1)

    async def watch() -> None:
        while time.monotonic() < until:
            seen.rss.append(server.rss() / 2**20)
            await asyncio.sleep(1)

    await asyncio.gather(watch(), *(come_and_go(at) for at in range(visitors + caricaturing)))
    return seen


@dataclass
class Server:
    """The Space, served by a process of its own."""

    address: str
    pid: int
    config: dict[str, Any]

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[aiohttp.ClientSession]:
        connections = aiohttp.TCPConnector(limit_per_host=6)
        patience = aiohttp.ClientTimeout(PATIENCE_SECONDS)
        async with aiohttp.ClientSession(
            self.address, connector=connections, timeout=patience, read_bufsize=2**24
        ) as session:
            yield session

    def rss(self) -> int:
        """Bytes of memory of the server and of what it started."""
        pids, total = [self.pid], 0
        for pid in pids:
            at = Path("/proc") / str(pid)
            total += int((at / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            pids += [
                int(child) for task in (at / "task").iterdir() for child in (task / "children").read_text().split()
            ]
        return total


@asynccontextmanager
async def serving(atlas: str) -> AsyncIterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "microscope_atlas.cli", "browse", atlas, "--port", str(port)]
    async with AsyncExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(process.send_signal, signal.SIGTERM)
        http = await stack.enter_async_context(aiohttp.ClientSession(address))
        for _ in range(600):
            try:
                async with http.get("/config") as answer:
                    config = await answer.json()
                    break
            except aiohttp.ClientError:
                assert process.poll() is None, "the server has ended"
                await asyncio.sleep(0.1)
        yield Server(address, process.pid, config)


async def measure(
    atlas: str, place: tuple[str, str], visitors: int, caricaturing: int, seconds: float, warm_seconds: float = 20.0
) -> dict[str, dict[str, Any]]:
    """Both phases; `place` is the model and layer that caricatures are made of. Before, caches fill for a while."""
    async with serving(atlas) as server:
        await phase(server, visitors, min(caricaturing, 1), warm_seconds, place)
        browsing = await phase(server, visitors, 0, seconds, place)
        both = await phase(server, visitors, caricaturing, seconds, place)
    return {"browsing": browsing.summary(), "browsing and caricaturing": both.summary()}


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, result in results.items():
        memory = result["rss_mb"]
        lines.append(
            f"{name}: {result['errors']} errors, {result['busy']} times busy, memory {memory['first_third']} MB in the "
            f"first third, {memory['last_third']} MB in the last"
        )
        lines.append(f"  {'':24}{'count':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'worst':>9}")
        for what, found in result["seconds"].items():
            times = "".join(f"{found[key]:8.3f}s" for key in ("p50", "p95", "p99", "worst"))
            lines.append(f"  {what:24}{found['count']:8}{times}")
        lines += [f"  {each}" for each in result["first_errors"]]
    return "\n".join(lines)


def missed(results: dict[str, dict[str, Any]], slack: float = 1.0) -> list[str]:
    """What is not as it has to be; `slack` is how many times slower a machine is that others work on, too."""
    found = []
    for name, result in results.items():
        memory, most = result["rss_mb"], MOST_SECONDS[name] * slack
        if result["errors"]:
            found.append(f"{name}: {result['errors']} errors: {result['first_errors']}")
        if memory["last_third"] > MOST_GROWTH * memory["first_third"]:
            found.append(f"{name}: memory grew from {memory['first_third']} to {memory['last_third']} MB")
        for what in ("first page", "page"):
            if result["seconds"][what]["p95"] > most:
                found.append(f"{name}: 95% of {what}s within {result['seconds'][what]['p95']} s, expected {most} s")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    asked = argparse.ArgumentParser(description="Load on the Space")
    asked.add_argument("atlas")
    asked.add_argument("--visitors", type=int, default=VISITORS)
    asked.add_argument("--caricaturing", type=int, default=CARICATURING)
    asked.add_argument("--seconds", type=float, default=SECONDS)
    asked.add_argument("--out", type=Path, default=RESULTS)
    given = asked.parse_args(arguments)
    model, layers = chooser.asked(Atlas(open_atlas(given.atlas)), {})
    if model is None:
        sys.exit(f"{given.atlas} has no network that can be run here")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    about = {
        **report.about("cpu", ("gradio",)),
        "place": f"{model}/{layers[0]}",
        "visitors": given.visitors,
        "caricaturing": given.caricaturing,
        "seconds": given.seconds,
    }
    results = asyncio.run(measure(given.atlas, (model, layers[0]), given.visitors, given.caricaturing, given.seconds))
    print(table(results))
    report.write(given.out, about, **results)
    sys.exit("\n".join(missed(results)) or 0)


if __name__ == "__main__":
    main()
