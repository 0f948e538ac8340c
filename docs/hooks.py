"""What pages take from elsewhere in the repository when the site is built, so that nothing stands twice."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in `{{ columns }}`, the card's tables of columns, and `{{ changelog }}`."""
    return markdown.replace("{{ columns }}", columns()).replace("{{ changelog }}", changelog())


def columns() -> str:
    """Every table of an atlas with its columns, as the dataset card has them."""
    return (ROOT / "dataset_card.md").read_text().partition("\n## Columns\n")[2].partition("\n## ")[0].strip()


def changelog() -> str:
    """The list of changes, without its heading."""
    return (ROOT / "CHANGELOG.md").read_text().partition("\n")[2].strip()
