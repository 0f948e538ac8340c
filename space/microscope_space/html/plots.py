"""Small drawings as SVG: heat maps, kernels, histograms, and where in a picture a crop is."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import isfinite
from typing import Any

from microscope_space.html import markup, text

WIDTH, HEIGHT = 240, 120  # px of a heat map's cells
BINS = 32
# viridis at five places: dark to bright, in gray, too; van der Walt and Smith 2015
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def heat(row: Mapping[str, Any]) -> str:
    """A row of synthetic_tuning: responses over its two axes, its peak ringed."""
    values = [value for line in row["responses"] for value in line if value is not None and isfinite(value)]
    if not values:
        return markup.absent("No response is finite.")
    low, high = min(values), max(values)
    xs, ys = row["x_values"], row["y_values"]
    wide, tall = WIDTH / len(xs), HEIGHT / len(ys)
    cells = "".join(
        f'<rect x="{x * wide:.2f}" y="{y * tall:.2f}" width="{wide + 0.3:.2f}" height="{tall + 0.3:.2f}" '
        f'fill="{_colour((value - low) / (high - low or 1))}"/>'
        for y, line in enumerate(row["responses"])
        for x, value in enumerate(line)
        if value is not None and isfinite(value)
    )
    ring = ""
    if row["preferred_x"] is not None and row["preferred_y"] is not None:
        x, y = _place(row["preferred_x"], xs) * wide, _place(row["preferred_y"], ys) * tall
        ring = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="{colour}" stroke-width="{width}"/>'
            for colour, width in (("#000", 4), ("#fff", 2))
        )
    labels = "".join(
        f'<text x="{(at + 0.5) * wide:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{markup.number(xs[at])}</text>'
        for at in _few(len(xs), 4)
    ) + "".join(
        f'<text x="-5" y="{(at + 0.5) * tall + 4:.1f}" text-anchor="end">{markup.number(ys[at])}</text>'
        for at in _few(len(ys), 5)
    )
    x_axis, y_axis = _axis(row["x_axis"]), _axis(row["y_axis"])
    told = f"{row['family']}: responses from {markup.number(low)} to {markup.number(high)} over {x_axis} and {y_axis}"
    if row["preferred_y"] is not None:
        where = "any" if row["preferred_x"] is None else markup.number(row["preferred_x"])
        told += f"; peak at {where}, {markup.number(row['preferred_y'])}"
    return (
        f'<svg class="heat" viewBox="-62 -6 {WIDTH + 72} {HEIGHT + 44}" role="img" aria-label="{escape(told)}">{cells}'
        f'{ring}{labels}<text x="{WIDTH / 2}" y="{HEIGHT + 32}" text-anchor="middle">{escape(x_axis)}</text>'
        f'<text transform="translate(-50 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_axis)}</text></svg>'
    )


def kernel(row: Mapping[str, Any], largest: float) -> str:
    """A row of connections: its signed weights, red excitatory and blue inhibitory, full at `largest`."""
    lines = row["kernel"]
    # a root, so that weak weights beside a strong one are seen
    cells = "".join(
        f'<rect x="{x}" y="{y}" width="1.02" height="1.02" fill="{_signed(weight / largest)}"/>'
        for y, line in enumerate(lines)
        for x, weight in enumerate(line)
        if weight
    )
    side = len(lines)
    told = f"weights {markup.number(row['weight'])} in sum, norm {markup.number(row['norm'])}"
    told += f", middle {side} of {row['extent']}" if row["extent"] > side else ""
    return (
        f'<svg class="kernel" viewBox="0 0 {side} {side}" width="48" height="48" role="img" aria-label="{told}">'
        f"<title>{told}</title>{cells}</svg>"
    )


def histogram(values: Sequence[float]) -> str:
    """How often which response was given."""
    if not values:
        return markup.absent("No response is finite.")
    low, high = min(values), max(values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / (high - low or 1) * BINS))] += 1
    wide, most = WIDTH / BINS, max(counts)
    bars = "".join(
        f'<rect x="{at * wide + 0.5:.2f}" y="{HEIGHT * (1 - count / most):.2f}" width="{wide - 1:.2f}" '
        f'height="{HEIGHT * count / most:.2f}"/>'
        for at, count in enumerate(counts)
        if count
    )
    told = f"Histogram of {len(values):,} responses from {markup.number(low)} to {markup.number(high)}"
    return (
        f'<svg class="histogram" viewBox="0 -4 {WIDTH} {HEIGHT + 24}" role="img" aria-label="{told}">{bars}'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/>'
        f'<text x="0" y="{HEIGHT + 15}">{markup.number(low)}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 15}" text-anchor="end">{markup.number(high)}</text></svg>'
    )


def crop(sides: Sequence[int | None], size: int | None) -> str:
    """Where in a picture of `size` px a crop lies; nothing where it is the whole of it, or not known."""
    left, top, right, bottom = sides
    if size is None or left is None or top is None or right is None or bottom is None:
        return ""
    if (left, top, right, bottom) == (0, 0, size, size):
        return ""
    return (
        f'<svg class="crop" viewBox="0 0 {size} {size}" role="img" aria-label="at {left}, {top} to {right}, {bottom} '
        f'of {size} px"><rect class="whole" width="{size}" height="{size}"/><rect x="{left}" y="{top}" '
        f'width="{right - left}" height="{bottom - top}"/></svg>'
    )


def _colour(share: float) -> str:
    """Of a share from 0 to 1."""
    at = min(max(share, 0.0), 1.0) * (len(COLOURS) - 1)
    low = min(int(at), len(COLOURS) - 2)
    mixed = (round(a + (b - a) * (at - low)) for a, b in zip(COLOURS[low], COLOURS[low + 1], strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def _signed(share: float) -> str:
    """Of a share from -1 to 1: white at 0, red above, blue below."""
    strength = min(1.0, abs(share)) ** 0.5
    end = (178, 24, 43) if share > 0 else (33, 102, 172)
    return "#" + "".join(f"{round(255 + (value - 255) * strength):02x}" for value in end)


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
