"""How an atlas, and one of its units, is cited: BibTeX, links that last, and whom weights and pictures are owed to."""

from collections.abc import Iterator, Sequence
from urllib.parse import urlencode

from microscope_atlas.atlas import lists, releases, schema
from microscope_atlas.atlas.dictionaries import stated
from microscope_atlas.atlas.manifest import Manifest, read_manifest
from microscope_atlas.atlas.present import refuse_absent
from microscope_atlas.atlas.releases import Release, current, identity
from microscope_atlas.atlas.storage import Storage
from microscope_atlas.hub.repo import SITE
from microscope_atlas.keys import Key
from microscope_atlas.publish.credits import photos, shown_sets

AUTHOR = "The Microscope Atlas contributors"
TITLE = "Microscope Atlas: every unit of the vision networks that interpretability research studies"
LICENSE = "CC BY 4.0"  # of what was rendered


def bibtex(release: Release | None, revision: str | None = None, note: str | None = None) -> str:
    """An entry for an atlas: of a release, at its tag or the commit `revision`; None: of one that is not published."""
    entry = {"title": TITLE, "author": f"{{{AUTHOR}}}"}
    if release:
        url = f"{dataset_url(release.repo)}/tree/{revision or release.tag}"
        entry |= {"year": release.year, "version": release.version, "publisher": "Hugging Face", "url": url}
    else:
        note = "; ".join(filter(None, [note, "not published"]))
    if note:
        entry["note"] = note.replace("_", r"\_")
    name = f"microscope_atlas_{release.version.replace('.', '_')}" if release else "microscope_atlas"
    return "\n".join([f"@misc{{{name},", *(f"  {field} = {{{value}}}," for field, value in entry.items()), "}"])


def dataset_url(repo: str) -> str:
    """The page of a dataset on the Hub."""
    return f"{SITE}/datasets/{repo}"


def cite(storage: Storage, key: Key | None = None, of: str | None = None) -> str:
    """What a paper needs to cite an atlas, or a model, layer or unit of it, or the list of units called `of`.

    UnknownName where that is not in it.
    """
    manifest = read_manifest(storage)
    release = current(releases.read(storage), manifest)
    if of is not None:
        lists.read(storage, of)
        return cite_list(storage.name, manifest, release, storage.commit, of)
    return citation(storage.name, manifest, release, storage.commit, key)


def citation(
    name: str,
    manifest: Manifest,
    release: Release | None,
    commit: str | None,
    key: Key | None,
    sha256: str | None = None,
    shards: Sequence[str] | None = None,
) -> str:
    """The same for an atlas that was read: its name, what it holds, the release that it is, its commit on the Hub.

    Who cites many keys may give the manifest's identity and the files about a key, which take time in a large atlas.
    """
    if shards is None:
        shards = _shards(manifest, key) if key else []
    about = [f"key {key}"] if key else []
    if not release:
        about.append(f"manifest with sha256 {sha256 or identity(manifest)}")
    lines = [bibtex(release, commit, "; ".join(about) or None), ""]
    if release:
        revision = commit or release.tag
        lines.append(f"{dataset_url(release.repo)}/tree/{revision}")
        lines += [f"{dataset_url(release.repo)}/blob/{revision}/{path}" for path in shards]
        if release.space:
            lines.append(space_url(release.space, key, revision))
    else:
        lines.append(f"{name} is not published: no link leads to it.")
    lines += ["", f"Rendered images: {LICENSE}. Weights:"]
    for each, model in sorted(manifest.models.items()):
        if key is None or key.model == each:
            origin = model["provenance"]
            lines.append(f"  {each}: {origin['source']}, license {origin['license']}, sha256 {model['weights_sha256']}")
    made_by = [
        f"  {each}/{layer}: {one.sentence}"
        for each, model in sorted(manifest.models.items())
        for layer, one in sorted(stated(model).items())
        if key is None or (key.model == each and key.layer in (None, layer))
    ]
    lines += ["", "Dictionaries, under their own licenses:", *made_by] if made_by else []
    labels = [f"  {line}" for line in _labels(manifest)]
    lines += ["", "Labels:", *labels] if labels else []
    shown, others = photos(manifest), shown_sets(manifest)
    if shown or others:
        lines += ["", "Natural pictures:"]
        lines += [f"  {each}: {s.title}, {s.author}, license {s.license}, {s.url}" for each, s in shown.items()]
    lines += [
        f"  {each.name}, revision {each.revision}: {each.terms or 'nobody has stated a license'}" for each in others
    ]
    return "\n".join(lines)


def cite_list(name: str, manifest: Manifest, release: Release | None, commit: str | None, of: str) -> str:
    """What a paper needs to cite a list of units of an atlas that was read."""
    about = [f"list {of}"] if release else [f"list {of}", f"manifest with sha256 {identity(manifest)}"]
    lines = [bibtex(release, commit, "; ".join(about)), ""]
    if not release:
        return "\n".join([*lines, f"{name} is not published: no link leads to it."])
    revision = commit or release.tag
    lines.append(f"{dataset_url(release.repo)}/blob/{revision}/{schema.list_path(of)}")
    if release.space:
        lines.append(f"{SITE}/spaces/{release.space}?{urlencode({'list': of, 'revision': revision})}")
    return "\n".join(lines)


def space_url(space: str, key: Key | None, revision: str) -> str:
    """The Space's view of a key at a revision of the dataset."""
    where = {"model": key.model, "layer": key.layer, "unit": key.unit} if key else {}
    asked = {name: value for name, value in {**where, "revision": revision}.items() if value is not None}
    return f"{SITE}/spaces/{space}?{urlencode(asked)}"


def _labels(manifest: Manifest) -> Iterator[str]:
    """Who says what units are for, a line a table of labels; each label says so itself as well."""
    for name in manifest.of_config(schema.LABELS.name):
        recipe = manifest.lenses.get(name)
        if recipe is None:
            continue
        if name in manifest.given_labels:
            stated = recipe.get("stated", {})
            source, license = stated.get("source", "as its rows state"), stated.get("license", "as its rows state")
            yield f"{name}: {source}, license {license}; {recipe.get('file')}, sha256 {recipe.get('file_sha256')}"
        else:
            made_from = ", ".join(str(recipe[each]) for each in ("clip", "words") if each in recipe)
            yield f"{name}: made here{f' with {made_from}' if made_from else ''}, license {LICENSE}"


def _shards(manifest: Manifest, key: Key) -> list[str]:
    """The files that hold rows about a key; UnknownName where there are none."""
    refuse_absent(manifest, key)
    return [
        path
        for path, shard in sorted(manifest.shards.items())
        if shard.units.model == key.model
        and key.layer in (None, shard.units.layer)
        and (key.unit is None or shard.units.start <= key.unit < shard.units.stop)
    ]
