"""Whose pictures they are: the license of a set and whom it is owed to, where its maker states them.

Beside the pictures of a folder, on top of it:

    LICENSE, LICENSE.txt, LICENSE.md   its first line names the license: `CC BY 4.0`
    CREDITS, CREDITS.txt, CREDITS.md   all of it says whom the pictures are owed to: `Photos by Ada, example.org`

Of a dataset it is the `license` in the head of its card. A statement never stands in a recipe: it may come later.
"""

from dataclasses import dataclass
from pathlib import Path

LONGEST = 500  # characters of a statement that are kept
ENDINGS = ("", ".txt", ".md")


@dataclass(frozen=True)
class Terms:
    """A license, and a credit."""

    license: str
    credit: str | None = None

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.credit, f"license {self.license}"]))


def beside(folder: Path) -> Terms | None:
    """What a folder of pictures states of itself; None where it names no license."""
    license = next((line for line in _text(folder, "LICENSE").splitlines() if line.strip("#=-* \t")), "")
    return stated(license.strip("#=-* \t"), _text(folder, "CREDITS"))


def of_card(path: Path) -> Terms | None:
    """What the card of a dataset, its README.md, states in its head; None where it names no license."""
    import yaml  # no part of what rendering needs

    try:
        head = yaml.safe_load(path.read_text().removeprefix("---").partition("\n---")[0])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return None
    if not isinstance(head, dict):
        return None
    named = head.get("license_name") if head.get("license") == "other" else head.get("license")
    several = named if isinstance(named, list) else [named]
    return stated(", ".join(str(each) for each in several if each), "")


def stated(license: str, credit: str | None) -> Terms | None:
    """Terms of one line each, without what cannot be printed; None without a license."""
    license, credit = one_line(license), one_line(credit or "")
    return Terms(license, credit or None) if license else None


def one_line(text: str) -> str:
    """At most `LONGEST` characters of a text, as one line of what can be printed."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:LONGEST]


def _text(folder: Path, name: str) -> str:
    """What a file beside the pictures says; nothing where there is none."""
    for path in (folder / f"{name}{ending}" for ending in ENDINGS):
        try:
            if path.is_file():
                with path.open(encoding="utf-8", errors="replace") as file:
                    return file.read(20 * LONGEST)
        except OSError:
            continue
    return ""
