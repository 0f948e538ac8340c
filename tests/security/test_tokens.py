"""The token that opens the Hub is sent to the Hub, and is nowhere else: not in what is printed, said or published."""

from pathlib import Path

import pytest

from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.errors import AtlasError, HubFailed
from microscope_atlas.hub import repo as hub_client
from microscope_atlas.models import mirror
from microscope_atlas.models.converted import Weights
from microscope_atlas.publish.publish import plan, publish
from tests.atlases import content
from tests.commands import Commands
from tests.hub_double import Fault, Hub
from tests.models.test_mirror import GIVEN, TOY

TOKEN = "hf_never_to_be_seen"
NAME, VERSION = "someone/microscope-atlas", "2026.11.0"
STATUSES = (400, 401, 403, 404, 409, 422, 500)
REQUESTS = (r"GET .*", r"POST .*/create", r"POST .*/preupload/.*", r"POST .*batch", r"PUT .*", r"POST .*/commit/.*")


@pytest.fixture(autouse=True)
def secrets(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_client, "WAITS_SECONDS", ())
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def clean(text: str) -> bool:
    return TOKEN not in text


@pytest.mark.parametrize("request_", REQUESTS)
def test_refusals_do_not_say_it(
    hub: Hub, atlas: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, request_: str
) -> None:
    caplog.set_level("DEBUG")
    refusals = 0
    for status in STATUSES:
        hub.faults[:] = [Fault(request_, status, times=100)]
        for attempt in (
            lambda: publish(plan(Folder(atlas), NAME, VERSION)),
            lambda: read_manifest(open_atlas(f"{NAME}@v{VERSION}")),
            lambda: mirror.fetch(TOY, "someone/weights"),
            lambda: mirror.publish("someone/weights", {"toy": GIVEN}),
        ):
            try:
                attempt()
            except AtlasError as error:
                assert clean(str(error)), str(error)
                refusals += 1
    said = capfd.readouterr()
    assert clean(said.out + said.err + caplog.text)
    assert refusals


def test_what_is_published_does_not_hold_it(hub: Hub, atlas: Path) -> None:
    publish(plan(Folder(atlas), NAME, VERSION))
    mirror.publish("someone/weights", {"toy": GIVEN})
    for commits in hub.repos.values():
        for path, file in commits[-1].files.items():
            assert clean(file.decode("latin-1")), path
    for path, file in content(atlas).items():
        assert clean(file.decode("latin-1")), path


def test_weights_of_a_mirror_do_not_say_it(hub: Hub) -> None:
    mirror.publish("someone/weights", {"toy": GIVEN})
    given: Weights = mirror.fetch(TOY, "someone/weights")
    assert given.provenance.source.startswith(f"{hub.url}/someone/weights: ")
    assert clean(str(given.provenance))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_commands_do_not_print_it(hub: Hub, atlas: Path, commands: Commands, status: int) -> None:
    environment = {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_VERBOSITY": "debug",
    }
    hub.faults[:] = [Fault(".*", status, times=10_000)] if status != 500 else []
    for args in (
        ("publish", atlas, NAME, "--version", VERSION, "--dry-run"),
        ("status", f"{NAME}@v{VERSION}"),
        ("check", f"{NAME}@v{VERSION}"),
        ("cite", f"{NAME}@v{VERSION}"),
    ):
        ended = commands(*args, environment=environment)
        assert clean(ended.out + ended.err)


def test_a_password_in_the_address_of_the_hub_is_refused(
    hub: Hub, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = hub.url.replace("http://", "http://user:p4ss-w0rd@")
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubFailed, match="leave it out, and give the token as HF_TOKEN"):
        open_atlas(f"{NAME}@main")
    ended = commands("status", f"{NAME}@main", environment={"HF_ENDPOINT": address, "HF_TOKEN": TOKEN})
    assert ended.status == 1 and clean(ended.err) and "p4ss" not in ended.out + ended.err
    assert hub.requests == []


def test_what_a_signed_url_holds_is_not_said() -> None:
    url = "https://cdn.example.org/ab/cd?X-Amz-Signature=5161&Expires=1"
    said = r"^a shard: 403 for url 'https://cdn.example.org/ab/cd', denied$"
    with pytest.raises(HubFailed, match=said), hub_client.translated_errors("a shard"):
        raise OSError(f"403 for url '{url}', denied")
