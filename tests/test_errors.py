import inspect
import re

import pytest

from microscope_atlas import errors
from microscope_atlas.errors import AtlasError, unknown

TREE = [
    (line.index(match[1]), match[1])
    for line in (errors.__doc__ or "").splitlines()
    if (match := re.match(r"    [│├└─ ]*([A-Z]\w+)", line))
]


def classes() -> list[type[AtlasError]]:
    found = inspect.getmembers(errors, lambda value: inspect.isclass(value) and issubclass(value, AtlasError))
    return [value for _, value in found]


def test_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    assert TREE[0][1] == "AtlasError"
    drawn, above = {}, [TREE[0]]
    for indent, name in TREE[1:]:
        above = [parent for parent in above if parent[0] < indent]
        drawn[name] = above[-1][1]
        above.append((indent, name))
    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in classes() if kind is not AtlasError}


def test_the_callers_mistakes_exit_with_2_all_others_with_1() -> None:
    status = {kind.__name__: kind.exit_status for kind in classes()}
    mistakes = {name for name, number in status.items() if number == 2}
    assert mistakes == {
        "InvalidKey",
        "UnknownName",
        "InvalidSetting",
        "WrongLevel",
        "NetworkFailed",
        "DictionaryFailed",
        "LensFailed",
        "SettingsDiffer",
        "VersionTaken",
    }
    assert set(status.values()) == {1, 2}


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_error_says_what_it_is_for(kind: type[AtlasError]) -> None:
    assert kind.__doc__


def test_unknown_name_is_answered_with_the_nearest_first() -> None:
    known = ["conv1_1", "conv5_3", "conv5_4", "fc6"]
    message = str(unknown("layer", "conv5_9", "vgg19_caffe", known))
    assert message.startswith("layer 'conv5_9' is not in vgg19_caffe; nearest: conv5_")
    assert "fc6" not in message


def test_name_like_no_other_is_answered_with_the_first_few() -> None:
    assert str(unknown("lens", "x", "the lenses", iter("abcd"))) == "lens 'x' is not in the lenses; nearest: a, b, c"
