"""Requests of any shape to the Space: each is answered, and none stops it or has it say what is none of theirs."""

import json
from contextlib import suppress
from pathlib import Path

import httpx
from hypothesis import strategies as st

from tests.fuzz import cases as generated
from tests.fuzz.test_text import TEXT
from tests.security.conftest import Space

ROOT = Path(__file__).parents[2]
NAMES = (
    "unit",
    "layer",
    "search",
    "caricature",
    "probe",
)  # Gradio answers those that it does not know with an error of its own
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT.filter(lambda text: text.isprintable()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("path", "url", "meta", "x")), inner),
    max_leaves=4,
)
PATHS = ("/page", "/picture", "/embed/", "/models/", "/gradio_api/file=", "/gradio_api/call/", "/config", "/")


@generated.of("requests")
def test_requests_of_any_shape_are_answered(space: Space, cases: int) -> None:
    bodies = st.fixed_dictionaries({"data": st.lists(VALUE, max_size=5) | VALUE})
    links = st.tuples(st.sampled_from(PATHS), TEXT.filter(str.isprintable))

    def one(asked: tuple[str, object, tuple[str, str]]) -> None:
        name, body, (path, rest) = asked
        content = json.dumps(body, allow_nan=True).encode()
        kind = {"Content-Type": "application/json"}
        joined = space.client.post(f"/gradio_api/call/{name}", content=content, headers=kind)
        answers = [joined]
        if joined.status_code == 200:
            event = joined.json()["event_id"]
            answers.append(space.client.get(f"/gradio_api/call/{name}/{event}", timeout=20))
        with suppress(httpx.InvalidURL):  # the client's own refusal
            answers.append(space.client.get(path + rest))
        for answer in answers:
            assert answer.status_code < 500, (asked, answer.text)
            assert "Traceback" not in answer.text and "hf_never" not in answer.text

    generated.each(st.tuples(st.sampled_from(NAMES), bodies, links), cases, one)
    assert space.client.get("/").status_code == 200
    said = space.said()
    assert "hf_never" not in said
    ours = [line for line in said.splitlines() if f"{ROOT}/generate/" in line or f"{ROOT}/space/" in line]
    assert not ours, ours  # a traceback that goes through the package's own code: a bug of it
