"""Links between the pages: a page is a query string, so that it can be shared and shows the same later."""

from html import escape
from urllib.parse import urlencode


def href(model: str | None = None, layer: str | None = None, unit: int | None = None, **more: str | None) -> str:
    """`?model=inceptionv1&layer=mixed4c&unit=447`: relative, ready for an attribute; what is None is left out."""
    asked = {"model": model, "layer": layer, "unit": unit, **more}
    return escape("?" + urlencode({name: value for name, value in asked.items() if value is not None}))


def image(table: str, model: str, name: str, column: str = "image") -> str:
    """Where a page finds an image of the atlas; relative, ready for an attribute."""
    return escape("picture?" + urlencode({"table": table, "model": model, "column": column, "name": name}))
