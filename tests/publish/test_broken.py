"""Publishing where anything may fail at any request: busy, broken, lost answers, tokens that expire."""

import random
from pathlib import Path

import pytest

from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.errors import HubFailed
from microscope_atlas.hub import repo as hub_client
from microscope_atlas.publish.check import check
from tests.atlases import content
from tests.hub_double import RESET, Fault, Hub
from tests.publish.test_publish import FILES, NAME, REPO, TAG, data, put

RUNS = 50
REQUESTS = 24  # about as many as a publication makes
EXPIRED = 401
STATUSES = (429, 500, 502, 503, 504, RESET, EXPIRED)
CHANGES = r"(POST|PUT) .*"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another at once."""
    monkeypatch.setattr(hub_client, "WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def tiers() -> list[object]:
    """One for the short run of the tests, nine more for the long one, all others by hand."""
    marks = [[] if n == 0 else [pytest.mark.long if n % 5 == 0 else pytest.mark.hours] for n in range(RUNS)]
    return [pytest.param(number, marks=each) for number, each in enumerate(marks)]


def drawn(number: int) -> dict[int, Fault]:
    """Up to eight faults, most of them alone, some in a row; of what changes something, half after it was done."""
    moments, found = random.Random(number), dict[int, Fault]()
    for _ in range(moments.randint(1, 3)):
        first, status = moments.randint(1, REQUESTS), moments.choice(STATUSES)
        for at in range(first, first + moments.choice((1, 1, 2, 4))):
            after = status != EXPIRED and moments.random() < 0.5
            found[at] = Fault(CHANGES if after else ".*", status, 1, after)
    return found


@pytest.mark.parametrize("number", tiers())
def test_whatever_fails_the_version_is_whole_or_not_there(hub: Hub, atlas: Path, number: int) -> None:
    hub.at = faults = drawn(number)
    for _ in range(len(faults) + 1):
        met = len(hub.met)
        try:
            commit = put(atlas)
            break
        except HubFailed as error:
            told = str(error)
            assert len(hub.met) > met, told  # nothing else fails
            assert "hf_nobody" not in told
            statuses = {each.split()[0] for each in hub.met[met:]}
            broken = "disconnected" in told or "reset" in told or "answered with nothing" in told
            assert any(status in told for status in statuses) or broken, (statuses, told)
            assert ("401" in told) == ("your token does not allow it" in told)
        assert hub.tags.get(REPO, {}).keys() <= {TAG}
        for tagged in hub.tags.get(REPO, {}).values():
            assert data(hub.files(REPO, tagged)) == data(content(atlas))
    else:
        pytest.fail(f"it never succeeded: {hub.met}")
    assert hub.tags[REPO] == {TAG: commit}
    assert len(hub.repos[REPO]) == 2  # the Hub's own first one, and ours once
    assert len(set(hub.sent)) == FILES
    assert data(hub.files(REPO, TAG)) == data(content(atlas))
    hub.at = {}
    assert not list(check(open_atlas(f"{NAME}@{TAG}")))
