"""Publishing through the real client to a Hub of the tests' own: whole versions, broken attempts, refusals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import microscope_atlas as ma
from microscope_atlas.atlas import releases, schema
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.locate import open_atlas
from microscope_atlas.atlas.manifest import Manifest, read_manifest, write_manifest
from microscope_atlas.atlas.shards import write_shard
from microscope_atlas.atlas.units import UnitRange, content_id
from microscope_atlas.errors import AtlasBusy, HubFailed, InvalidKey, PublishFailed, VersionTaken
from microscope_atlas.hub import repo as hub_client
from microscope_atlas.hub.changes import files_in
from microscope_atlas.models.catalog import organism
from microscope_atlas.publish import publish, space
from microscope_atlas.publish.card import render_card
from microscope_atlas.publish.check import check
from tests.atlases import LENS, MODEL, content, render, rows
from tests.commands import Commands
from tests.hub_double import Fault, Hub

NAME, VERSION, TAG = "someone/microscope-atlas", "2026.11.0", "v2026.11.0"
REPO = f"datasets/{NAME}"
FILES = 3  # Parquet files of the atlas: two shards and an index
OWN = {schema.CARD, schema.RELEASES}  # differ from what is in the folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another at once."""
    monkeypatch.setattr(hub_client, "WAITS_SECONDS", (0.0, 0.0))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


def put(root: Path, version: str = VERSION) -> str:
    return publish.publish(publish.plan(Folder(root), NAME, version))


def data(files: dict[str, bytes]) -> dict[str, bytes]:
    """What is the same in a folder and in a repository."""
    return {path: files[path] for path in files if path not in {*OWN, ".gitattributes", ".lock"}}


def sends(hub: Hub) -> int:
    """Requests so far that changed, or tried to change, something."""
    return hub.asked(r"PUT .*") + hub.asked(r"POST .*/(create|commit/.*|tag/.*)")


def test_version_is_one_commit_of_everything_and_a_tag(hub: Hub, atlas: Path) -> None:
    commit = put(atlas)
    assert [len(made.files) for made in hub.repos[REPO]] == [1, 7]  # the first is the Hub's own
    assert hub.tags[REPO] == {TAG: commit}
    assert data(hub.files(REPO, TAG)) == data(content(atlas))
    assert not list(check(open_atlas(f"{NAME}@{TAG}")))


def test_lists_of_units_are_published_with_the_rows_and_never_change(hub: Hub, atlas: Path) -> None:
    path, before = schema.list_path("curves"), data(content(atlas))
    unit = {"key": f"{MODEL}/stem/1"}
    (atlas / "lists").mkdir()
    (atlas / path).write_text(json.dumps({"title": "Curves", "units": [unit]}))
    first = put(atlas)
    assert hub.files(REPO, TAG)[path] == (atlas / path).read_bytes()
    assert put(atlas) == first
    (atlas / path).write_text(json.dumps({"title": "Curves", "units": [{**unit, "note": "a curve"}]}))
    with pytest.raises(VersionTaken, match="list `curves` changed"):
        put(atlas)
    put(atlas, "2026.11.1")
    card = hub.files(REPO)[schema.CARD].decode()
    assert "- list `curves` added" in card
    assert "- list `curves` changed" in card
    (atlas / path).unlink()
    put(atlas, "2026.11.2")
    assert path not in hub.files(REPO)
    assert path in hub.files(REPO, "v2026.11.1")
    assert data(hub.files(REPO)) == before


def test_a_wrong_list_is_not_published(hub: Hub, atlas: Path) -> None:
    (atlas / "lists").mkdir()
    (atlas / "lists/curves.json").write_text("{}")
    with pytest.raises(PublishFailed, match="is no list of units"):
        put(atlas)


def test_imported_labels_are_published_and_go_with_a_later_version(hub: Hub, atlas: Path, tmp_path: Path) -> None:
    before = data(content(atlas))
    (tmp_path / "families.csv").write_text(f"key,label\n{MODEL}/stem/1,curves\n")
    ma.open(atlas).label(tmp_path / "families.csv", "a toy", "CC0-1.0")
    put(atlas)
    assert data(hub.files(REPO, TAG)) == data(content(atlas))
    assert not list(check(open_atlas(f"{NAME}@{TAG}")))
    assert [each.label for each in ma.open(f"{NAME}@{TAG}").find("curves")] == ["curves"]
    ma.open(atlas).forget_labels("families")
    put(atlas, "2026.11.1")
    assert data(hub.files(REPO)) == before
    assert "- lens `labels_families` removed" in hub.files(REPO)[schema.CARD].decode()


def test_folder_stays_as_it_is(hub: Hub, atlas: Path) -> None:
    before = content(atlas)
    put(atlas)
    assert content(atlas) == before


def test_card_names_the_version_and_loads_it(hub: Hub, atlas: Path) -> None:
    put(atlas)
    card = hub.files(REPO)[schema.CARD].decode()
    assert yaml.safe_load(card.split("---\n")[1])["version"] == VERSION
    assert f'load_dataset("{NAME}")' in card
    assert f"FROM 'hf://datasets/{NAME}@{TAG}/{LENS}/*/*.parquet'" in card
    assert f"url = {{https://huggingface.co/datasets/{NAME}/tree/{TAG}}}" in card
    assert f"- `{LENS}` of `{MODEL}`: 3 units in 1 layer added" in card


def test_same_atlas_again_sends_nothing(hub: Hub, atlas: Path) -> None:
    commit = put(atlas)
    before = sends(hub)
    again = publish.plan(Folder(atlas), NAME, VERSION)
    assert (again.published, bool(again.changes)) == (commit, False)
    assert publish.publish(again) == commit
    assert sends(hub) == before


def test_other_atlas_under_the_same_version_is_refused(hub: Hub, atlas: Path) -> None:
    put(atlas)
    render(atlas, range(5))
    before = sends(hub)
    with pytest.raises(VersionTaken, match=r"2026\.11\.0 of another atlas, [\s\S]*2 units in 1 layer added"):
        put(atlas)
    assert sends(hub) == before


def test_later_version_sends_what_is_new_and_deletes_what_is_gone(hub: Hub, atlas: Path) -> None:
    first = put(atlas)
    two = max(read_manifest(Folder(atlas)).shards)
    (atlas / two).unlink()
    render(atlas, range(6), per_shard=4)  # 2:6 in place of 2:3
    hub.sent.clear()
    plan = publish.plan(Folder(atlas), NAME, "2026.11.1")
    assert (list(plan.changes.remove), plan.changes.num_same) == ([two], 1)
    second = publish.publish(plan)
    assert len(hub.sent) == 2  # a shard and the index
    assert data(hub.files(REPO, "v2026.11.1")) == data(content(atlas))
    assert two in hub.files(REPO, TAG)
    assert hub.tags[REPO] == {TAG: first, "v2026.11.1": second}
    listed = json.loads(hub.files(REPO)[schema.RELEASES])["releases"]
    assert [(each["version"], each["changes"][-1]) for each in listed] == [
        (VERSION, f"`{LENS}` of `{MODEL}`: 3 units in 1 layer added"),
        ("2026.11.1", f"`{LENS}` of `{MODEL}`: 3 units in 1 layer added"),
    ]
    for tag in (TAG, "v2026.11.1"):
        assert not list(check(open_atlas(f"{NAME}@{tag}")))


def test_what_the_owner_put_beside_the_rows_stays(hub: Hub, atlas: Path) -> None:
    put(atlas)
    two = max(read_manifest(Folder(atlas)).shards)
    own = {"LICENSE": b"mine", "DATA_NOTES.md": b"notes", "figures/one.parquet": b"PAR1"}
    card = hub.files(REPO)[schema.CARD] + b"## Notes\n\nUnit 2 is odd.\n"
    hub.commit(REPO, {**own, schema.CARD: card})
    (atlas / two).unlink()
    render(atlas, range(6), per_shard=4)
    plan = publish.plan(Folder(atlas), NAME, "2026.11.1")
    assert list(plan.changes.remove) == [two]
    publish.publish(plan)
    there = hub.files(REPO, "v2026.11.1")
    assert {path: there[path] for path in own} == own
    assert there[schema.CARD].endswith(b"## Notes\n\nUnit 2 is odd.\n")


def test_card_that_was_edited_where_it_is_written_anew_is_not_overwritten(hub: Hub, atlas: Path) -> None:
    put(atlas)
    hub.commit(REPO, {schema.CARD: hub.files(REPO)[schema.CARD].replace(b"# Microscope Atlas", b"# My atlas", 1)})
    render(atlas, range(6))
    with pytest.raises(PublishFailed, match="was edited above the line"):
        publish.plan(Folder(atlas), NAME, "2026.11.1")


def test_two_texts_of_the_owner_are_not_chosen_between(hub: Hub, atlas: Path) -> None:
    put(atlas)
    hub.commit(REPO, {schema.CARD: hub.files(REPO)[schema.CARD] + b"there\n"})
    with (atlas / schema.CARD).open("a") as card:
        card.write("here\n")
    render(atlas, range(6))
    with pytest.raises(PublishFailed, match="make them one"):
        publish.plan(Folder(atlas), NAME, "2026.11.1")


def test_earlier_version_than_the_last_is_refused(hub: Hub, atlas: Path) -> None:
    put(atlas)
    render(atlas, range(5))
    with pytest.raises(VersionTaken, match=r"2026\.9\.0 comes before it"):
        put(atlas, "2026.9.0")


@pytest.mark.parametrize("version", ["2026.11", "v2026.11.0", "2026.13.0", "2026.01.0", "1.0.0", "2026.11.0 "])
def test_what_is_no_version_is_refused(hub: Hub, atlas: Path, version: str) -> None:
    with pytest.raises(InvalidKey, match="expected YEAR"):
        put(atlas, version)
    assert hub.requests == []


def test_atlas_with_a_problem_is_refused_and_the_problem_told(hub: Hub, atlas: Path) -> None:
    (atlas / schema.CARD).unlink()
    with pytest.raises(PublishFailed, match=r"has 1 problems, [\s\S]*README\.md: missing"):
        put(atlas)
    assert hub.requests == []


def test_random_weights_are_refused(hub: Hub, tmp_path: Path) -> None:
    render(tmp_path / "random", kind="random")
    with pytest.raises(PublishFailed, match=f"{MODEL} in .* has random weights"):
        put(tmp_path / "random")
    assert hub.requests == []


def test_repository_of_something_else_is_refused(hub: Hub, atlas: Path) -> None:
    hub.commit(REPO, {"train.csv": b"a,b\n"})
    with pytest.raises(PublishFailed, match="holds something else than an atlas"):
        put(atlas)
    assert hub.files(REPO) == {"train.csv": b"a,b\n"}


def test_more_changes_than_a_commit_takes_are_refused(hub: Hub, atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "MAX_CHANGES", 4)
    with pytest.raises(HubFailed, match="6 files change, and a commit takes 4"):
        put(atlas)
    assert hub.sent == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(r"GET /api/datasets/[^/]*/[^/]*/refs", 502, 2),
        Fault(r"POST .*/preupload/main", 503, 2),
        Fault(r"POST .*/lfs/objects/batch", 504, 2),
        Fault(r"PUT /lfs/.*", 500, 2),
        Fault(r"POST .*/commit/main", 503, 2),
        Fault(r"POST .*/commit/main", 504, 1, after=True),
        Fault(r"POST .*/tag/.*", 503, 2),
        Fault(r"POST .*/tag/.*", 503, 1, after=True),
        Fault(r"POST /api/repos/create", 503, 1, after=True),
    ],
    ids=lambda fault: f"{fault.request} {fault.status}{' lost' * fault.after}",
)
def test_busy_hub_is_asked_again(hub: Hub, atlas: Path, fault: Fault) -> None:
    hub.commit(REPO, {".gitattributes": b""}) if "refs" in fault.request else None
    hub.faults.append(fault)
    commit = put(atlas)
    assert fault.times == 0
    assert len(hub.repos[REPO]) == 2
    assert hub.tags[REPO] == {TAG: commit}
    assert data(hub.files(REPO, TAG)) == data(content(atlas))


def test_hub_that_stays_busy_is_given_up_and_the_next_run_goes_on(hub: Hub, atlas: Path) -> None:
    hub.faults.append(Fault(r"POST .*/commit/main", 503, 3))
    with pytest.raises(HubFailed, match="503"):
        put(atlas)
    assert (len(hub.repos[REPO]), hub.tags) == (1, {})
    sent = len(hub.sent)
    put(atlas)
    assert len(hub.sent) == sent == FILES
    assert data(hub.files(REPO, TAG)) == data(content(atlas))


def test_run_broken_between_commit_and_tag_goes_on_with_the_tag(hub: Hub, atlas: Path) -> None:
    hub.faults.append(Fault(r"POST .*/tag/.*", 403, 1))
    with pytest.raises(HubFailed, match="403: your token does not allow it"):
        put(atlas)
    assert (len(hub.repos[REPO]), hub.tags) == (2, {})
    assert put(atlas) == hub.repos[REPO][1].oid
    assert len(hub.repos[REPO]) == 2


def test_version_that_never_got_its_tag_is_not_among_the_releases(hub: Hub, atlas: Path) -> None:
    hub.faults.append(Fault(r"POST .*/tag/.*", 403, 1))
    with pytest.raises(HubFailed):
        put(atlas)
    put(atlas, "2026.11.1")
    assert [release.version for release in releases.read(open_atlas(f"{NAME}@v2026.11.1"))] == ["2026.11.1"]


def test_commit_of_somebody_else_meanwhile_is_noticed_and_kept(hub: Hub, atlas: Path) -> None:
    hub.before[r"POST .*/commit/main"] = lambda: hub.commit(REPO, {"README.md": b"mine\n"})
    with pytest.raises(HubFailed, match="somebody else committed while this was being sent"):
        put(atlas)
    assert hub.files(REPO)["README.md"] == b"mine\n"
    assert hub.tags == {}
    put(atlas)
    assert len(hub.sent) == FILES
    assert data(hub.files(REPO, TAG)) == data(content(atlas))


def test_commit_whose_answer_is_lost_is_found_beneath_somebody_elses(hub: Hub, atlas: Path) -> None:
    """The Hub is asked again, and by then main is a stranger's commit on top of ours."""
    hub.faults.append(Fault(r"POST .*/commit/main", 503, 1, after=True))

    def stranger() -> None:
        hub.before[r"POST .*/commit/main"] = lambda: hub.commit(REPO, {"NOTES.md": b"mine\n"})

    hub.before[r"POST .*/commit/main"] = stranger
    commit = put(atlas)
    assert hub.tags == {REPO: {TAG: commit}}
    assert "NOTES.md" not in hub.files(REPO, TAG)
    assert "NOTES.md" in hub.files(REPO)
    assert data(hub.files(REPO, TAG)) == data(content(atlas))


def test_atlas_that_a_run_is_writing_is_not_published(commands: Commands, atlas: Path) -> None:
    with Folder(atlas).lock():
        refused = commands("publish", atlas, NAME, "--version", VERSION)
    assert refused.status == 1
    assert "another run is writing" in refused.err


def test_atlas_is_held_while_it_is_published_and_read_only_ones_need_not_be(atlas: Path) -> None:
    with publish.held(Folder(atlas)), pytest.raises(AtlasBusy), Folder(atlas).lock():
        pass
    atlas.chmod(0o555)
    try:
        with publish.held(Folder(atlas)):
            pass
    finally:
        atlas.chmod(0o755)


def test_hub_that_nobody_answers_for_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(hub_client, "WAITS_SECONDS", (1.0, 2.0, 4.0, 8.0, 16.0))
    now = [0.0]
    monkeypatch.setattr(hub_client.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        hub_client.time, "sleep", lambda seconds: (waited.append(seconds), now.append(now.pop() + seconds))
    )
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(HubFailed, match="refused"):
            hub_client.Repo(NAME, "dataset").head()
    assert sum(waited) == 7


def test_hub_that_takes_requests_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(HubFailed, match="timed out"):
            hub_client.Repo(NAME, "dataset").head()
    assert time.monotonic() - start < 5


def test_answer_that_is_no_json_names_the_server_and_what_it_said(hub: Hub) -> None:
    with (
        pytest.raises(HubFailed, match=re.escape(f"{hub.url} answered with what is no JSON") + ".*<h1>Sign in</h1>"),
        hub_client.translated_errors("there"),
    ):
        json.loads("<h1>Sign in</h1>")


def test_tag_of_somebody_else_meanwhile_is_left_alone(hub: Hub, atlas: Path) -> None:
    hub.before[r"POST .*/tag/.*"] = lambda: hub.tags.update({REPO: {TAG: hub.repos[REPO][0].oid}})
    with pytest.raises(HubFailed, match=f"tag {TAG} is {{0}}, expected".format("[0-9a-f]{40}")):
        put(atlas)
    assert hub.tags[REPO] == {TAG: hub.repos[REPO][0].oid}


def test_content_that_arrives_damaged_is_noticed_before_it_has_a_tag(hub: Hub, atlas: Path) -> None:
    path = min(read_manifest(Folder(atlas)).shards)

    def damage() -> None:
        files = hub.repos[REPO][-1].files
        files[path] = files[path][:-1] + b"x"

    hub.before[r"GET .*/tree/.*"] = damage  # after the commit
    with pytest.raises(HubFailed, match=f"does not hold what was sent: {re.escape(path)}"):
        put(atlas)
    assert hub.tags == {}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("request_", [r"POST /api/repos/create", r"POST .*/preupload/.*", r"POST .*/commit/.*"])
def test_token_without_permission_is_told_and_not_shown(hub: Hub, atlas: Path, status: int, request_: str) -> None:
    hub.faults.append(Fault(request_, status, 99))
    with pytest.raises(HubFailed, match=rf"{status}: .*HF_TOKEN") as caught:
        put(atlas)
    assert "hf_nobody" not in str(caught.value)
    assert hub.tags == {}


def test_token_that_an_error_repeats_is_not_shown(hub: Hub) -> None:
    with (
        pytest.raises(HubFailed, match=re.escape("there: illegal header 'Bearer ***'")),
        hub_client.translated_errors("there"),
    ):
        raise ValueError("illegal header 'Bearer hf_nobody'")


@pytest.mark.parametrize(
    ("atlas_", "reason"),
    [
        (f"{NAME}@v1", "there is no such revision"),
        ("someone/else@main", "there is no such repository, or none that your token opens"),
    ],
)
def test_what_is_not_on_the_hub_is_told(hub: Hub, atlas: Path, atlas_: str, reason: str) -> None:
    put(atlas)
    with pytest.raises(HubFailed, match=reason):
        open_atlas(atlas_)


def test_revision_without_an_atlas_is_told(hub: Hub) -> None:
    hub.commit(REPO, {"README.md": b""})
    assert list(check(open_atlas(f"{NAME}@main"))) == [f"{NAME}@main holds no atlas (no {schema.MANIFEST})"]


def test_revision_is_checked_on_its_bytes(hub: Hub, atlas: Path) -> None:
    put(atlas)
    one, two = sorted(read_manifest(Folder(atlas)).shards)
    shard = hub.files(REPO)[one]
    hub.commit(REPO, {one: shard[:99] + b"x" + shard[100:], f"{LENS}/stray.parquet": b""}, deleted=(two,))
    found = list(check(open_atlas(f"{NAME}@main")))
    assert [problem.split(": ", 1) for problem in found] == [
        [one, "its length or sha256 is not the one in the manifest; delete it and run render again"],
        [two, "missing; running render again makes it"],
        [f"{LENS}/stray.parquet", found[2].split(": ", 1)[1]],
    ]
    assert not list(check(open_atlas(f"{NAME}@{TAG}")))


def test_sample_reads_only_so_many_files(hub: Hub, atlas: Path) -> None:
    render(atlas, range(8), per_shard=1)
    put(atlas)
    hub.requests.clear()
    assert not list(check(open_atlas(f"{NAME}@{TAG}"), sample=3))
    assert hub.asked(rf"GET /datasets/.*/{LENS}/.*\.parquet") == 3


def test_published_atlas_that_is_continued_says_so(hub: Hub, atlas: Path) -> None:
    put(atlas)
    for path, file in hub.files(REPO).items():
        (atlas / path).write_bytes(file)
    assert not list(check(Folder(atlas)))
    render(atlas, range(4))
    assert not list(check(Folder(atlas)))
    assert f"What is here was not published; it continues [{NAME}]" in (atlas / schema.CARD).read_text()


def test_command_line_publishes_checks_and_counts(hub: Hub, commands: Commands, atlas: Path) -> None:
    there = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_nobody"}
    dry = commands("publish", atlas, NAME, "--version", VERSION, "--dry-run", environment=there)
    assert (dry.status, hub.repos) == (0, {})
    assert f"{NAME} {TAG}: 6 files, 6 to send" in dry.out
    assert f"+ {schema.MANIFEST}" in dry.out.splitlines()
    done = commands("publish", atlas, NAME, "--version", VERSION, environment=there)
    assert (done.status, "is published: commit" in done.out) == (0, True), done.err
    again = commands("publish", atlas, NAME, "--version", VERSION, environment=there)
    assert (again.status, "there is nothing to do" in again.out) == (0, True), again.err
    checked = commands("check", f"{NAME}@{TAG}", "--sample", 1, environment=there)
    assert (checked.status, checked.out) == (0, f"{NAME}@{TAG}: 12 rows, all in order; 1 of 2 files were read.\n")
    status = commands("status", f"{NAME}@{TAG}", environment=there)
    assert status.out == commands("status", atlas).out
    assert "hf_nobody" not in "".join(ended.out + ended.err for ended in (dry, done, again, checked, status))


def test_space_is_refused_where_there_is_none(hub: Hub, atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_folder", lambda _: atlas / "microscope_space")
    with pytest.raises(PublishFailed, match=r"there is no Space in .*; install the package anew"):
        space.space_files(f"{NAME}@{TAG}")


def test_killed_upload_leaves_no_version_and_goes_on(hub: Hub, commands: Commands, atlas: Path) -> None:
    render(atlas, range(12), per_shard=1)
    there = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_nobody"}
    total = len(read_manifest(Folder(atlas)).shards) + 1  # and the index
    hub.most_sent = 5
    command = commands.start("publish", atlas, NAME, "--version", VERSION, environment=there)
    deadline = time.monotonic() + 60
    while hub.asked("PUT .*") < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(command.pid, signal.SIGKILL)
    assert commands.wait(command).status == -signal.SIGKILL
    assert len(hub.sent) == 5 < total
    assert [set(commit.files) for commit in hub.repos[REPO]] == [{".gitattributes"}]
    assert hub.tags == {}
    hub.most_sent = None
    hub.resume.set()
    ended = commands("publish", atlas, NAME, "--version", VERSION, environment=there)
    assert ended.status == 0, ended.err
    assert len(hub.sent) == len(set(hub.sent)) == total
    assert data(hub.files(REPO, TAG)) == data(content(atlas))


LOAD = """
import json, sys
from datasets import load_dataset

name, tag, split = sys.argv[1:]
whole = load_dataset(name, "feature_visualization", revision=tag)
streamed = load_dataset(name, "feature_visualization", revision=tag, split=split, streaming=True)
some = load_dataset(name, revision=tag, split=split, filters=[("unit", "==", 1)])
rows = [{**row, "image": row["image"].size} for row in whole[split]]
assert [{**row, "image": row["image"].size} for row in streamed] == rows
print(json.dumps([rows, len(some)]))
"""


def test_datasets_loads_the_tag_whole_streaming_and_filtered(hub: Hub, atlas: Path, tmp_path: Path) -> None:
    written = [{**row, "image": [32, 32]} for row in rows(atlas)]
    put(atlas)
    render(atlas, range(5))
    put(atlas, "2026.11.1")  # which is not what is loaded
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    }
    arguments = [sys.executable, "-c", LOAD, NAME, TAG, MODEL]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [written, 4]
    assert hub.ranges  # streaming


@pytest.mark.long
def test_thousand_files_are_sent_once(hub: Hub, atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "large"
    monkeypatch.setattr(os, "fsync", lambda _: None)  # these two take their time, and have their own tests
    monkeypatch.setattr(publish, "check", lambda _: [])
    thousand(atlas, root)
    put(root)
    assert len(hub.sent) == 1000
    sent, before = len(hub.sent), sends(hub)
    put(root)
    assert (len(hub.sent), sends(hub)) == (sent, before)
    assert data(hub.files(REPO, TAG)) == data(content(root))


def thousand(atlas: Path, root: Path) -> None:
    """An atlas of a thousand units, a file each, of one row each."""
    manifest, layer = read_manifest(Folder(atlas)), "head"
    assert organism(MODEL).layer(layer).units >= 1000
    row = rows(atlas)[0]
    made = Manifest(software=manifest.software, models=manifest.models, lenses=manifest.lenses)
    for unit in range(1000):
        units = UnitRange(LENS, MODEL, layer, unit, unit + 1)
        id = content_id(units, manifest.lenses[LENS], manifest.models[MODEL]["weights_sha256"])
        made.shards[units.path] = write_shard(Folder(root), units, id, [{**row, "layer": layer, "unit": unit}])
    made.planned = [UnitRange(LENS, MODEL, layer, 0, 1000)]
    write_manifest(Folder(root), made)
    Folder(root).write(schema.CARD, render_card(made))


SPACE = "---\ntitle: Microscope Atlas\nsdk: gradio\napp_file: app.py\n---\n"


def test_space_holds_exactly_the_folder(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "views").mkdir()
    files = {"README.md": SPACE.encode(), "app.py": b"print()\n", "views/unit.py": b"pass\n", "sheet.jpg": b"\xff\xd8"}
    for path, file in {**files, ".hidden": b"", "__pycache__/app.pyc": b""}.items():
        (folder / path).write_bytes(file)
    hub.commit("spaces/someone/space", {".gitattributes": b"", "old.py": b"", "README.md": b"---\nsdk: static\n---\n"})
    commit = space.deploy(files_in(folder), "someone/space", "Show it")
    assert hub.files("spaces/someone/space", commit) == {".gitattributes": b"", **files}
    before = sends(hub)
    assert space.deploy(files_in(folder), "someone/space", "Show it") == commit
    assert sends(hub) == before


def test_space_is_its_pages_and_the_package_with_what_it_shows_pinned() -> None:
    files = space.space_files(f"{NAME}@{TAG}")
    assert files["atlas.txt"].read().decode() == f"{NAME}@{TAG}\n"
    assert {"README.md", "requirements.txt", "app.py"} <= files.keys()
    assert {"microscope_space/app.py", "microscope_atlas/atlas/schema.py"} <= files.keys()
    assert b"from microscope_space.app import serve" in files["app.py"].read()
    assert not [path for path in files if path.endswith(".pyc") or path.startswith(("tests", "."))]


def test_space_that_does_not_exist_is_made(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(SPACE)
    (tmp_path / "app.py").write_text("print()\n")
    space.deploy(files_in(tmp_path), "someone/new", "Show it")
    assert "app.py" in hub.files("spaces/someone/new")


@pytest.mark.parametrize("readme", ["# No head\n", "---\ntitle: x\n---\n", "---\n- list\n---\n"])
def test_space_that_does_not_say_its_sdk_is_refused(hub: Hub, tmp_path: Path, readme: str) -> None:
    (tmp_path / "README.md").write_text(readme)
    with pytest.raises(PublishFailed, match="does not say the Space's sdk"):
        space.deploy(files_in(tmp_path), "someone/new", "Show it")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["", "atlas", "a/b/c", "/b", "a/", "a b/c", "a--b/c", "a/b.git", "a/" + "b" * 97])
def test_what_is_no_repository_is_refused_before_anybody_is_asked(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="is no repository of the Hub; expected owner/name"):
        publish.plan(Folder(tmp_path), name, VERSION)
    with pytest.raises(InvalidKey, match="is no repository of the Hub; expected owner/name"):
        publish.plan(Folder(tmp_path), NAME, VERSION, space=name)
