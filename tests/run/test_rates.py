"""Files of rates: what is read of them, and that whatever else they hold ends in one sentence."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.atlas_cost import NINE
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.errors import UnknownName
from microscope_atlas.lenses.registry import UNASKED
from microscope_atlas.run.costs import Rate
from microscope_atlas.run.rates import load
from tests.atlases import LENS, MODEL

ABOUT = {"workers": 4, "quality": "draft", "device": "cpu"}
RATE = {"lens": LENS, "model": MODEL, "layer": "stem", "seconds_per_unit": 1.5}
FIELDS = [("about", name) for name in ABOUT] + [("rates", name) for name in RATE]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "rates.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def changed(part: str, name: str, value: Any) -> str:
    plain: dict[str, Any] = {"about": dict(ABOUT), "rates": [dict(RATE)]}
    (plain["about"] if part == "about" else plain["rates"][0])[name] = value
    return json.dumps(plain)


def refused(path: Path) -> str:
    """The sentence."""
    with pytest.raises(UnknownName) as caught:
        load(path)
    told = str(caught.value)
    assert "holds no rates: " in told
    assert told.isprintable()
    assert len(told) < 500
    return told


def test_rates_are_read_as_those_of_one_worker(tmp_path: Path) -> None:
    plain = {"about": {**ABOUT, "load": 0.1}, "rates": [{**RATE, "how": "measured"}], "hours": []}
    costs = load(written(tmp_path, json.dumps(plain)))
    assert costs.rates == {(LENS, MODEL, "stem"): Rate(6.0, "a rate of the file")}
    assert (costs.quality, costs.device) == ("draft", "cpu")


def test_our_own_measurements_are_read() -> None:
    """Of every lens and layer."""
    costs = load(Path(__file__).parents[2] / "benchmarks" / "results" / "atlas_cost.json")
    layers = [(model, layer) for model in NINE for layer in organisms()[model].layers]
    assert costs.rates.keys() == {(lens, *layer) for lens in UNASKED for layer in layers}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Expecting value"),
        ("[]", "expected a file of JSON"),
        ('{"about": {"workers": 1}}', "expected a file of JSON"),
        (json.dumps({"about": ABOUT, "rates": []}), "none of its rates"),
        (json.dumps({"about": ABOUT, "rates": [RATE, RATE]}), "it has two rates for"),
        (json.dumps({"about": {}, "rates": [RATE]}), "about.workers is absent"),
        (json.dumps({"about": ABOUT, "rates": [{}]}), "rates[0].lens is absent"),
        (json.dumps({"about": None, "rates": [RATE]}), "about is None"),
        (json.dumps({"about": ABOUT, "rates": [None]}), "rates[0] is None"),
        (changed("rates", "seconds_per_unit", float("nan")), "rates[0].seconds_per_unit is nan"),
        (changed("rates", "seconds_per_unit", float("inf")), "rates[0].seconds_per_unit is inf"),
        (changed("rates", "seconds_per_unit", 10**400), "rates[0].seconds_per_unit is 1000"),
        (changed("rates", "seconds_per_unit", -1.0), "rates[0].seconds_per_unit is -1.0"),
        (changed("rates", "seconds_per_unit", 0), "rates[0].seconds_per_unit is 0"),
        (changed("rates", "seconds_per_unit", None), "rates[0].seconds_per_unit is None"),
        (changed("rates", "lens", "feature_visualisation"), "nearest: feature_visualization"),
        (changed("rates", "layer", "conv1"), "layer 'conv1'"),
        (changed("rates", "model", 5), "rates[0].model is 5"),
        (changed("rates", "model", "inceptionv9"), "none of its rates"),
        (changed("about", "workers", 0), "about.workers is 0"),
        (changed("about", "quality", "fast"), "about.quality is 'fast'"),
        ("[" * 100_000, "too deep"),
        ("1" * 100_000, "digits"),
        (b"\xff\xfe\x00", "decode"),
    ],
)
def test_file_of_no_rates_is_refused_in_a_sentence(tmp_path: Path, text: str | bytes, named: str) -> None:
    assert named in refused(written(tmp_path, text))


def test_what_is_no_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing")
    refused(tmp_path)


def test_models_that_a_file_names_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "called_by_nobody.py").write_text("def go():\n    raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "none of its rates" in refused(written(tmp_path, changed("rates", "model", "own:called_by_nobody.go")))
    lens = written(tmp_path, changed("rates", "lens", "own:called_by_nobody.go"))
    assert "expected a lens" in refused(lens)
    assert "called_by_nobody" not in sys.modules


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FIELDS), JSON)
def test_whatever_a_field_holds_is_read_or_refused(tmp_path: Path, place: tuple[str, str], value: Any) -> None:
    path = written(tmp_path, changed(*place, value))
    try:
        costs = load(path)
    except UnknownName:
        refused(path)
    else:
        assert all(0 < rate.seconds < 1e16 for rate in costs.rates.values())
