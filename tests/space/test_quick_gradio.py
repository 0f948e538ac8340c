"""Gradio is imported without writing stubs, and all else is as it was."""

import importlib
import inspect
import subprocess
import sys

import gradio as gr
import pytest

from microscope_space.quick_gradio import without_stubs

COUNTED = """
import ast
parsed, known = [], ast.get_source_segment
ast.get_source_segment = lambda *given, **named: parsed.append(given) or known(*given, **named)
import {module}
print(len(parsed))
"""


def test_no_source_of_components_is_parsed_for_stubs() -> None:
    parsed = {
        module: int(subprocess.check_output([sys.executable, "-c", COUNTED.format(module=module)], text=True))
        for module in ("gradio", "microscope_space.app")
    }
    assert parsed["gradio"] > 50, "Gradio no longer writes stubs: quick_gradio.py can go"
    assert parsed["microscope_space.app"] == 0


def test_files_are_found_again_afterwards() -> None:
    known = inspect.getfile
    with without_stubs():
        with pytest.raises(OSError, match="Button needs no stub"):
            inspect.getfile(gr.Button)
        assert inspect.getfile(subprocess.Popen) == subprocess.__file__
    assert inspect.getfile is known
    with pytest.raises(ImportError), without_stubs():
        importlib.import_module("gradio.nothing")
    assert inspect.getfile is known
