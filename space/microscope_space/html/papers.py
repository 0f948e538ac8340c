"""A list of units as text for papers: Markdown and LaTeX, with links to each unit."""

import re
from collections.abc import Callable, Sequence

from microscope_atlas.atlas.lists import UnitList
from microscope_atlas.keys import Key

Link = Callable[[Key], str]  # to a unit's page
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def markdown(units: UnitList, wires: Sequence[tuple[Key, str, Key]], link: Link, revision: str) -> str:
    """Headings, a line a unit, and a line a connection: `start` excites or inhibits `end`."""
    lines = [f"## {_plain(units.title)}", ""]
    lines += [_plain(units.about), ""] if units.about else []
    lines += [_item(f"[`{entry.key}`]({link(entry.unit)})", _plain(entry.note)) for entry in units.units]
    lines += ["", *(f"- `{start}` {verb} `{end}`" for start, verb, end in wires)] if wires else []
    return "\n".join([*lines, "", f"From Microscope Atlas, {_plain(revision)}."])


def latex(units: UnitList, wires: Sequence[tuple[Key, str, Key]], link: Link, revision: str) -> str:
    """The same as an itemised list; it needs `hyperref`."""
    lines = [f"% needs \\usepackage{{hyperref}}; from Microscope Atlas, {_one_line(revision)}"]
    lines += [rf"\paragraph{{{escaped(units.title)}}} {escaped(units.about)}".rstrip(), r"\begin{itemize}"]
    lines += [
        _item(rf"\href{{{_url(link(entry.unit))}}}{{\texttt{{{escaped(entry.key)}}}}}", escaped(entry.note), r"  \item")
        for entry in units.units
    ]
    lines += [
        rf"  \item \texttt{{{escaped(str(start))}}} {verb} \texttt{{{escaped(str(end))}}}" for start, verb, end in wires
    ]
    return "\n".join([*lines, r"\end{itemize}"])


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(LATEX.get(letter, letter) for letter in _one_line(text))


def _item(unit: str, note: str, mark: str = "-") -> str:
    return f"{mark} {unit}: {note}" if note else f"{mark} {unit}"


def _url(link: str) -> str:
    """A link within `href`, where these would end it or begin a comment."""
    return re.sub(r"([%#&\\{}])", r"\\\1", link)


def _plain(text: str) -> str:
    """Somebody's words as plain text in Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
