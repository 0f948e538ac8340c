"""Small drawings as SVG: heat maps, kernels, histograms, and where in a picture a crop is."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from math import isfinite
from typing import Any

from markupsafe import Markup
from PIL import Image

from microscope_space.html import markup, text
from microscope_space.html.escaped import NOTHING, html, joined

WIDTH, HEIGHT = 240, 120  # px of a heat map's cells
BINS = 32
CLEAR = (0, 0, 0, 0)  # of a cell without a value
NEARLY_WHOLE = 0.8  # of a picture's area: a frame within it would say nothing
# viridis at five places: dark to bright, in gray, too; van der Walt and Smith 2015
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def heat(row: Mapping[str, Any]) -> Markup:
    """A row of synthetic_tuning: responses over its two axes, its peak ringed."""
    values = [value for line in row["responses"] for value in line if _finite(value)]
    if not values:
        return markup.absent("No response is finite.")
    low, high = min(values), max(values)
    xs, ys = row["x_values"], row["y_values"]
    wide, tall = WIDTH / len(xs), HEIGHT / len(ys)
    cells = html(
        '<image href="{}" width="{}" height="{}" preserveAspectRatio="none"/>',
        _pixels(
            [
                [(*viridis((value - low) / (high - low or 1)), 255) if _finite(value) else CLEAR for value in line]
                for line in row["responses"]
            ]
        ),
        WIDTH,
        HEIGHT,
    )
    ring = NOTHING
    if _finite(row["preferred_x"]) and _finite(row["preferred_y"]):
        x, y = _place(row["preferred_x"], xs) * wide, _place(row["preferred_y"], ys) * tall
        place = html('cx="{}" cy="{}"', f"{x:.1f}", f"{y:.1f}")
        ring = joined(
            html('<circle {} r="6" fill="none" stroke="{}" stroke-width="{}"/>', place, colour, width)
            for colour, width in (("#000", 4), ("#fff", 2))
        )
    labels = joined(
        html(
            '<text x="{}" y="{}" text-anchor="middle">{}</text>',
            f"{(at + 0.5) * wide:.1f}",
            HEIGHT + 14,
            markup.number(xs[at]),
        )
        for at in _few(len(xs), 4)
    ) + joined(
        html('<text x="-5" y="{}" text-anchor="end">{}</text>', f"{(at + 0.5) * tall + 4:.1f}", markup.number(ys[at]))
        for at in _few(len(ys), 5)
    )
    x_axis, y_axis = _axis(row["x_axis"]), _axis(row["y_axis"])
    told = f"{row['family']}: responses from {markup.number(low)} to {markup.number(high)} over {x_axis} and {y_axis}"
    if row["preferred_y"] is not None:
        where = "any" if row["preferred_x"] is None else markup.number(row["preferred_x"])
        told += f"; peak at {where}, {markup.number(row['preferred_y'])}"
    return html(
        '<svg class="heat" viewBox="-62 -6 {} {}" role="img" aria-label="{}">{}{}{}'
        '<text x="{}" y="{}" text-anchor="middle">{}</text>'
        '<text transform="translate(-50 {}) rotate(-90)" text-anchor="middle">{}</text></svg>',
        WIDTH + 72,
        HEIGHT + 44,
        told,
        cells,
        ring,
        labels,
        WIDTH / 2,
        HEIGHT + 32,
        x_axis,
        HEIGHT / 2,
        y_axis,
    )


def curve(row: Mapping[str, Any]) -> Markup:
    """A row of synthetic_tuning: how the response runs along its x axis where its y axis is preferred.

    Nothing where there is no preference, or no such line.
    """
    xs, ys = row["x_values"], row["y_values"]
    if not _finite(row["preferred_y"]) or len(xs) < 2 or not ys:
        return NOTHING
    line = dict(enumerate(row["responses"])).get(min(len(ys) - 1, int(_place(row["preferred_y"], ys))), ())
    known = [(x, value) for x, value in enumerate(line) if _finite(value)]
    if len(known) < 2:
        return NOTHING
    values = [value for _, value in known]
    low, high = min(0.0, *values), max(0.0, *values)
    wide, tall = WIDTH / len(xs), HEIGHT / 2
    places = [((x + 0.5) * wide, tall * (1 - (value - low) / (high - low or 1))) for x, value in known]
    zero = tall * (1 - (0 - low) / (high - low or 1))
    told = (
        f"{row['family']}: response along {_axis(row['x_axis'])}, from {markup.number(min(values))} to "
        f"{markup.number(max(values))}"
    )
    return html(
        '<svg class="curve" viewBox="-62 -6 {} {}" role="img" aria-label="{}">'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/><polyline points="{}"/>{}'
        '<text x="-5" y="8" text-anchor="end">{}</text><text x="-5" y="{}" text-anchor="end">{}</text></svg>',
        WIDTH + 72,
        tall + 14,
        told,
        f"{zero:.1f}",
        WIDTH,
        f"{zero:.1f}",
        " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        joined(html('<circle cx="{}" cy="{}" r="2.5"/>', f"{x:.1f}", f"{y:.1f}") for x, y in places),
        markup.number(high),
        tall,
        markup.number(low),
    )


def kernel(row: Mapping[str, Any], largest: float) -> Markup:
    """A row of connections: its signed weights, red excitatory and blue inhibitory, full at `largest`."""
    lines = row["kernel"]
    cells = joined(
        html('<rect x="{}" y="{}" width="1" height="1" {}/>', x, y, _signed(weight / largest))
        for y, line in enumerate(lines)
        for x, weight in enumerate(line)
        if weight and _finite(weight)
    )
    side = len(lines)
    told = f"weights {markup.number(row['weight'])} in sum, norm {markup.number(row['norm'])}"
    told += f", middle {side} of {row['extent']}" if row["extent"] > side else ""
    return html(
        '<svg class="kernel" viewBox="0 0 {} {}" width="48" height="48" role="img" aria-label="{}">{}</svg>',
        side,
        side,
        told,
        cells,
    )


def histogram(values: Sequence[float]) -> Markup:
    """How often which response was given."""
    values = [value for value in values if _finite(value)]
    if not values:
        return markup.absent("No response is finite.")
    low, high = min(values), max(values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / (high - low or 1) * BINS))] += 1
    wide, most = WIDTH / BINS, max(counts)
    bars = joined(
        html(
            '<rect x="{}" y="{}" width="{}" height="{}"/>',
            f"{at * wide + 0.5:.2f}",
            f"{HEIGHT * (1 - count / most):.2f}",
            f"{wide - 1:.2f}",
            f"{HEIGHT * count / most:.2f}",
        )
        for at, count in enumerate(counts)
        if count
    )
    return html(
        '<svg class="histogram" viewBox="0 -4 {} {}" role="img" aria-label="Histogram of {} responses from {} to {}">'
        '{}<line x1="0" y1="{}" x2="{}" y2="{}"/><text x="0" y="{}">{}</text>'
        '<text x="{}" y="{}" text-anchor="end">{}</text></svg>',
        WIDTH,
        HEIGHT + 24,
        f"{len(values):,}",
        markup.number(low),
        markup.number(high),
        bars,
        HEIGHT,
        WIDTH,
        HEIGHT,
        HEIGHT + 15,
        markup.number(low),
        WIDTH,
        HEIGHT + 15,
        markup.number(high),
    )


def crop(sides: Sequence[int | None], size: int | None) -> Markup:
    """Where in a picture of `size` px a crop lies; nothing where it is nearly the whole of it, or not known."""
    left, top, right, bottom = sides
    if size is None or left is None or top is None or right is None or bottom is None:
        return NOTHING
    if (right - left) * (bottom - top) >= NEARLY_WHOLE * size * size:
        return NOTHING
    return html(
        '<svg class="crop" viewBox="0 0 {} {}" role="img" aria-label="at {}, {} to {}, {} of {} px">'
        '<rect class="whole" width="{}" height="{}"/><rect x="{}" y="{}" width="{}" height="{}"/></svg>',
        size,
        size,
        left,
        top,
        right,
        bottom,
        size,
        size,
        size,
        left,
        top,
        right - left,
        bottom - top,
    )


def _finite(value: float | None) -> bool:
    return value is not None and isfinite(value)


def viridis(share: float) -> tuple[int, int, int]:
    """The colour of a share from 0 to 1, RGB: dark to bright."""
    at = min(max(share, 0.0), 1.0) * (len(COLOURS) - 1)
    low = min(int(at), len(COLOURS) - 2)
    red, green, blue = (round(a + (b - a) * (at - low)) for a, b in zip(COLOURS[low], COLOURS[low + 1], strict=True))
    return red, green, blue


def _pixels(lines: Sequence[Sequence[tuple[int, int, int, int]]]) -> str:
    """A picture with a pixel for each cell: one element, where a page would have hundreds."""
    image = Image.new("RGBA", (max(map(len, lines)), len(lines)), CLEAR)
    image.putdata([cell for line in lines for cell in (*line, *[CLEAR] * (image.width - len(line)))])
    file = io.BytesIO()
    image.save(file, "PNG")
    return markup.data_uri(file.getvalue(), "image/png")


def _signed(share: float) -> Markup:
    """The colour of a share from -1 to 1: red above 0, blue below, clear at 0."""
    return _fill(share > 0, round(100 * min(1.0, abs(share)) ** 0.5))  # a root, so that weak ones are seen, too


@cache
def _fill(excites: bool, percent: int) -> Markup:
    return html('fill="{}" fill-opacity="{}"', "#b2182b" if excites else "#2166ac", f"{percent / 100:.2f}")


def _place(value: float, values: Sequence[float]) -> float:
    """Where a value lies along cells that have these values, in cells; the first cell's middle is 0.5."""
    steps = list(pairwise(values))
    for at, (low, high) in enumerate(steps):
        if min(low, high) <= value <= max(low, high) and low != high:
            return at + 0.5 + (value - low) / (high - low)
    return 0.5 if not steps or abs(value - values[0]) < abs(value - values[-1]) else len(values) - 0.5


def _few(count: int, most: int) -> range:
    return range(0, count, max(1, -(-count // most)))


def _axis(name: str) -> str:
    """`frequency_cycles_per_px` in words."""
    return text.AXES.get(name, name.replace("_", " "))
