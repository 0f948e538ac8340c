"""HTML is told from text by its type, and made in one place."""

import ast
from pathlib import Path

import pytest
from markupsafe import Markup

import microscope_space
from microscope_space.html.escaped import html, joined

ROOT = Path(microscope_space.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def test_what_is_no_html_is_escaped() -> None:
    text = "<b>&\"'"
    assert html("<p>{}</p>{}", text, html("<i>{}</i>", 1)) == "<p>&lt;b&gt;&amp;&#34;&#39;</p><i>1</i>"
    assert joined([text, html("<br>")]) == "&lt;b&gt;&amp;&#34;&#39;<br>"
    assert html("<p>{}</p>", f"{html('<b></b>')}") == "<p>&lt;b&gt;&lt;/b&gt;</p>"  # in an f-string it is text again
    assert html("") + text == joined([text])


@pytest.mark.parametrize("values", [(), ("a", "b")])
def test_there_are_as_many_values_as_places(values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        html("<p>{}</p>", *values)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_templates_are_literals_and_nothing_else_makes_html(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "html":
            assert isinstance(node.args[0], ast.Constant), f"line {node.lineno}: a template is a literal"
        if called == "joined" and len(node.args) > 1:
            assert isinstance(node.args[1], ast.Constant), f"line {node.lineno}: what stands between is a literal"
        assert called not in ("Markup", "from_json") or path.name == "escaped.py", f"line {node.lineno}"
        assert not (
            called in ("replace", "join", "format")
            and isinstance(node.func, ast.Attribute)
            and getattr(node.func.value, "id", "") == "Markup"
        ), f"line {node.lineno}"


def test_the_type_is_that_of_markupsafe() -> None:
    assert isinstance(html("<p></p>"), Markup)
