"""The dataset card: dataset_card.md with what an atlas holds filled in, as the atlas' README.md.

Its YAML head tells `datasets` of each table (a config) and model (a split). No sizes: with them, `filters=` fails.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.coverage import Coverage, covered
from microscope_atlas.atlas.dictionaries import stated
from microscope_atlas.atlas.manifest import Manifest
from microscope_atlas.atlas.organisms import organisms
from microscope_atlas.atlas.provenance import package
from microscope_atlas.atlas.releases import Release, current
from microscope_atlas.atlas.releases import read as read_releases
from microscope_atlas.atlas.storage import Storage, WritableStorage
from microscope_atlas.atlas.tables import described, feature
from microscope_atlas.keys import Key
from microscope_atlas.pictures.sources import LICENSES
from microscope_atlas.publish.cite import bibtex, dataset_url
from microscope_atlas.publish.credits import photos, shown_sets

EDITED = "README.edited.md"  # a card that somebody has changed where it is written anew
LINE = re.compile(r"^<!-- What stands below this line is yours.*-->\n?", re.MULTILINE)
EXAMPLE = "feature_visualization"  # the lens whose rows the card's commands make again


def template() -> str:
    """dataset_card.md: within the installed package, or at the top of the repository it runs from."""
    here = Path(__file__).parent
    installed = here / "dataset_card.md"
    return (installed if installed.exists() else here.parents[2] / "dataset_card.md").read_text()


def render_card(manifest: Manifest, releases: Sequence[Release] = (), own: str = "") -> str:
    """The card of an atlas, from its manifest and the versions of it that were published; `own` is its owner's text."""
    text = template()
    release = current(releases, manifest)
    if release:  # its examples load this version
        text = re.sub(r"(['\"])microscope-atlas/", rf"\1hf://datasets/{release.repo}@{release.tag}/", text)
        text = text.replace('"microscope-atlas"', f'"{release.repo}"')
    for name, value in {
        "head": _head(manifest, release),
        "cover": f"![Each row a layer: what some of its units see]({schema.COVER})\n" if manifest.cover else "",
        "atlas": f"{release.repo}@{release.tag}" if release else "microscope-atlas",
        "key": _key(manifest),
        "coverage": _coverage(manifest),
        "recipes": _recipes(manifest),
        "sources": _sources(manifest),
        "tables": _tables(manifest),
        "pictures": _pictures(manifest),
        "software": ", and ".join(manifest.every_software),
        "schema": manifest.schema,
        "versions": _versions(releases, release),
        "citation": f"```bibtex\n{bibtex(release)}\n```",
    }.items():
        text = text.replace("{{ " + name + " }}", value)
    return f"{text.rstrip()}\n\n{_line(text)}\n{own}"


def own_text(card: str) -> str:
    """What the owner of an atlas has written below the line that says what is kept."""
    return LINE.split(card, maxsplit=1)[-1] if LINE.search(card) else ""


def is_edited(card: str) -> bool:
    """Whether somebody has changed what stands above that line. Cards without one, of version 0.1, cannot tell."""
    line = LINE.search(card)
    return line is not None and line[0].strip() != _line(card[: line.start()])


def written(storage: Storage) -> str:
    """What the owner has written in the card of an atlas; empty where there is none."""
    if storage.size(schema.CARD) is None:
        return ""
    return own_text(storage.read(schema.CARD).decode(errors="replace"))


def save_card(storage: WritableStorage, manifest: Manifest) -> None:
    """Write the card of an atlas. What its owner wrote stays: below the line, and above it in a file of its own.

    So does a card without the line, which somebody took out; unless version 0.1 wrote it, which had none.
    """
    there = b"" if storage.size(schema.CARD) is None else storage.read(schema.CARD)
    text = there.decode(errors="replace")
    if is_edited(text) or (text and not LINE.search(text) and "microscope-atlas 0.1." not in text):
        storage.write(EDITED, there)
    storage.write(schema.CARD, render_card(manifest, read_releases(storage), own_text(text)))


def _line(above: str) -> str:
    digest = hashlib.sha256(above.rstrip().encode()).hexdigest()[:12]
    return f"<!-- What stands below this line is yours: it is kept. What stands above is written anew ({digest}). -->"


def agrees(card: str, manifest: Manifest, releases: Sequence[Release]) -> bool:
    """Whether a card is that of an atlas: to the letter where this version wrote it.

    Of a card that another version wrote, in its own words, what `datasets` reads: which files are which config.
    """
    right = render_card(manifest, releases)
    if manifest.software.partition(",")[0] == package():
        above, expected = (LINE.split(text, maxsplit=1)[0].rstrip() for text in (card, right))
        return above == expected and not is_edited(card) and bool(LINE.search(card))
    return _configs(card) is not None and _configs(card) == _configs(right)


def _configs(card: str) -> Any:
    """The configs in a card's YAML head; None where there are none to be read."""
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    try:
        settings = yaml.safe_load(head[1]) if head else None
    except (yaml.YAMLError, RecursionError):
        return None
    configs = settings.get("configs") if isinstance(settings, dict) else None
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return None
    return [{name: config.get(name) for name in ("config_name", "data_files", "default")} for config in configs]


def _head(manifest: Manifest, release: Release | None) -> str:
    """configs, features and tags, as YAML."""
    splits: dict[str, set[str]] = {}
    hashes: dict[str, list[str]] = {}
    for path, shard in sorted(manifest.shards.items()):
        config = manifest.table(shard.units.lens).config
        splits.setdefault(config, set()).add(shard.units.model)
        hashes.setdefault(config, []).append(f"{path} {shard.sha256}")
    if manifest.indexes:
        splits[schema.INDEX.name] = set(manifest.indexes)
        hashes[schema.INDEX.name] = [index.sha256 for _, index in sorted(manifest.indexes.items())]
    configs, infos = [], []
    configs_in_order = [*(table.config for table in schema.TABLES.values()), *sorted(manifest.tables)]
    order = {name: at for at, name in enumerate(dict.fromkeys(configs_in_order))}
    names = sorted(splits, key=lambda name: order[manifest.table(name).name])
    for name in names:
        files = [{"split": schema.split(m), "path": _patterns(manifest, name, m)} for m in sorted(splits[name])]
        default = {"default": True} if name == names[0] else {}
        # `datasets` caches a folder by its last name and this YAML, so this has to change with the rows: else whoever
        # loads an atlas again after it has grown, or another of the same name, gets the rows that were there before
        content = hashlib.sha256("\n".join(hashes[name]).encode()).hexdigest()[:16]
        about = {"description": f"{manifest.table(name).about}; content {content}"}
        configs.append({"config_name": name, **default, **about, "data_files": files})
        columns = manifest.table(name).columns
        infos.append({"config_name": name, "features": [{"name": c.name, **feature(c.type)} for c in columns]})
    head: dict[str, Any] = {
        "pretty_name": "Microscope Atlas",
        **({"version": release.version} if release else {}),
        "license": "cc-by-4.0",
        "task_categories": ["feature-extraction"],
        "tags": ["interpretability", "feature-visualization", "neurons", "vision", "microscope"],
        "configs": configs,
        "dataset_info": infos,
    }
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True)).rstrip()


def _patterns(manifest: Manifest, config: str, model: str) -> str | list[str]:
    """Where a model's rows of a config lie: in one folder, or in one for each of its tables."""
    there = {shard.units.lens for shard in manifest.shards.values() if shard.units.model == model}
    tables = manifest.of_config(config)
    if tables == [config]:
        return schema.shard_pattern(config, model)
    return [schema.shard_pattern(name, model) for name in tables if name in there]


def _key(manifest: Manifest) -> str:
    """Of a unit, for examples."""
    first = min((shard.units for shard in manifest.shards.values()), key=lambda units: (units.lens != EXAMPLE, units))
    return str(Key(first.model, first.layer, first.start))


def _coverage(manifest: Manifest) -> str:
    """A table: of each model, layer by layer, how many units are there."""
    there = covered(manifest, (shard.units for shard in manifest.shards.values()))
    lines = ["| model | layer | table | units |", "|---|---|---|---|"]
    lines += [f"| `{c.model}` | `{c.layer}` | `{c.lens}` | {_count(c)} |" for c in there if c.present]
    return "\n".join(lines)


def _count(layer: Coverage) -> str:
    return "the layer" if layer.of == "layer" else f"{layer.present:,}"


def _tables(manifest: Manifest) -> str:
    """Sections for the tables of lenses from outside, with their columns."""
    lines = []
    for name in sorted(manifest.tables):
        table = manifest.table(name)
        lines += [f"### `{name}`", "", f"{table.about.capitalize()}; by `{manifest.tables[name]['lens']}`.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {described(c.type)} | {c.meaning.replace('|', '/')} |" for c in table.columns]
        lines.append("")
    return "".join(f"{line}\n" for line in lines)


def _recipes(manifest: Manifest) -> str:
    lenses = sorted(manifest.lenses.items())
    return "\n".join(f"- `{name}`: `{json.dumps(recipe, sort_keys=True)}`" for name, recipe in lenses)


def _sources(manifest: Manifest) -> str:
    """A table: where each model's weights come from, and under which license."""
    lines = ["| model | network | weights | their license | sha256 of their tensors |", "|---|---|---|---|---|"]
    for name, model in sorted(manifest.models.items()):
        known, source = organisms().get(name), model["provenance"]
        # of a network from outside, its name and its source say what there is to say
        network = f"[{known.title}]({known.paper}), {known.year}, trained on {known.dataset}" if known else name
        lines.append(
            f"| `{name}` | {network} | {source['source']} | {source['license']} | `{model['weights_sha256']}` |"
        )
    made_by = [
        f"- `{name}/{layer}`: {_cell(one.sentence)}"
        for name, model in sorted(manifest.models.items())
        for layer, one in sorted(stated(model).items())
    ]
    lines += ["", "Dictionaries, under their own licenses:", "", *made_by] if made_by else []
    return "\n".join(lines)


def _pictures(manifest: Manifest) -> str:
    """Tables: whom the natural pictures are owed to that rows show."""
    lines = ["| picture | title | author | license |", "|---|---|---|---|"]
    for name, picture in photos(manifest).items():
        license = f"[{picture.license}]({LICENSES[picture.license]})"
        lines.append(f"| `{name}` | [{picture.title}]({picture.url}) | {picture.author} | {license} |")
    if len(lines) == 2:
        lines = ["None is shown here."]
    if others := shown_sets(manifest):
        lines += ["", "Crops of other sets:", "", "| set | revision | license | owed to |", "|---|---|---|---|"]
    for each in others:
        license, credit = (each.terms.license, each.terms.credit) if each.terms else ("not stated", None)
        lines.append(f"| `{_cell(each.name)}` | `{each.revision}` | {_cell(license)} | {_cell(credit or '')} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Somebody's words as plain text in a table of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~&])", r"\\\1", text)


def _versions(releases: Sequence[Release], release: Release | None) -> str:
    """Which version the atlas is, and what each brought."""
    if release:
        lines = [
            f"This is version {release.version} of [{release.repo}]({dataset_url(release.repo)}). With "
            f'`revision="{release.tag}"`, `load_dataset` loads just this one, whatever is published later.'
        ]
    elif releases:
        last = releases[-1]
        lines = [
            f"What is here was not published; it continues [{last.repo}]({dataset_url(last.repo)}) {last.version}."
        ]
    else:
        lines = ["What is here was not published, and has no version."]
    for each in reversed(releases):
        lines += ["", f"### {each.version}", "", *(f"- {change}" for change in each.changes)]
    return "\n".join(lines)
