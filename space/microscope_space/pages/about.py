"""What this is, what it cannot show, and how to cite it."""

from html import escape

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.publish.cite import citation, dataset_url
from microscope_space.html import markup, text
from microscope_space.pages import frame as page


def about(atlas: Atlas) -> str:
    """Lenses, limits, license, revision, citation, API."""
    lenses = "".join(
        f"<dt>{escape(table.title)}</dt><dd>{escape(table.about.capitalize())}."
        f"{'' if name in atlas.manifest.lenses else ' <em>Not in this atlas.</em>'}</dd>"
        for name, table in atlas.manifest.every_table.items()
        if name != schema.INDEX.name
    )
    limits = "".join(
        f"<li>{each}</li>"
        for each in (
            text.FEATURE_VISUALIZATION_WARNING,
            text.SAMPLES_WARNING,
            text.TUNING_WARNING,
            text.CONNECTIONS_WARNING,
        )
    )
    weights = "".join(
        f"<li><b>{escape(name)}</b>: {escape(made['provenance']['source'])}, license "
        f"{escape(made['provenance']['license'])}, sha256 <code>{escape(made['weights_sha256'])}</code></li>"
        for name, made in sorted(atlas.manifest.models.items())
    )
    where = (
        f'<a href="{escape(dataset_url(atlas.release.repo))}/tree/{escape(atlas.commit or atlas.release.tag)}">'
        f"{escape(atlas.revision)}</a>"
        if atlas.release
        else escape(atlas.revision)
    )
    cited = escape(citation(atlas.storage.name, atlas.manifest, atlas.release, atlas.commit, None))
    rows = sum(shard.rows for shard in atlas.manifest.shards.values())
    body = (
        f'<h1 tabindex="-1">About</h1><p class="lead">{text.ABOUT}</p>'
        + markup.section("lenses", "Lenses", f'<dl class="terms">{lenses}</dl>')
        + markup.section("limits", "Limits", f"<ul>{limits}</ul>")
        + markup.section(
            "revision",
            "Revision",
            f"<p>{where}; {rows:,} rows, {escape('; '.join(atlas.manifest.every_software))}.</p>",
        )
        + markup.section("weights", "Weights and licenses", f"<p>{text.LICENSE}</p><ul>{weights}</ul>")
        + markup.section(
            "cite", "How to cite", f'<button type="button" data-copy>Copy</button><pre tabindex="0">{cited}</pre>'
        )
        + markup.section("api", "For programs", text.API)
    )
    return page.frame(atlas, "About", body, view="about")
