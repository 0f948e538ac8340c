"""What this is, what it cannot show, and how to cite it."""

from microscope_atlas.atlas import schema
from microscope_atlas.atlas.reader import Atlas
from microscope_atlas.publish.cite import citation, dataset_url
from microscope_space.html import links, markup, text
from microscope_space.html.escaped import NOTHING, html, joined
from microscope_space.pages.frame import Page


def about(atlas: Atlas) -> Page:
    """Lenses, limits, license, revision, citation, API."""
    lenses = joined(
        html(
            "<dt>{}</dt><dd>{}.{}</dd>",
            table.title,
            table.about.capitalize(),
            NOTHING if name in atlas.manifest.lenses else html(" <em>Not in this atlas.</em>"),
        )
        for name, table in atlas.manifest.every_table.items()
        if name != schema.INDEX.name
    )
    limits = joined(
        html("<li>{}</li>", each)
        for each in (
            text.FEATURE_VISUALIZATION_WARNING,
            text.SAMPLES_WARNING,
            text.TUNING_WARNING,
            text.CONNECTIONS_WARNING,
        )
    )
    weights = joined(
        html(
            "<li><b>{}</b>: {}, license {}, sha256 <code>{}</code></li>",
            name,
            made["provenance"]["source"],
            made["provenance"]["license"],
            made["weights_sha256"],
        )
        for name, made in sorted(atlas.manifest.models.items())
    )
    where = f"{dataset_url(atlas.release.repo)}/tree/{atlas.commit or atlas.release.tag}" if atlas.release else None
    revision = html(
        "<p>{}; {} rows, {}.</p>",
        markup.linked(where, atlas.revision),
        f"{atlas.num_rows:,}",
        "; ".join(atlas.every_software),
    )
    cited = citation(atlas.called, atlas.manifest, atlas.release, atlas.commit, None, atlas.identity)
    body = html(
        '<h1 tabindex="-1">About</h1><p class="lead">{}</p>{}{}{}{}{}{}',
        text.ABOUT,
        markup.section("lenses", "Lenses", html('<dl class="terms">{}</dl>', lenses)),
        markup.section("limits", "Limits", html("<ul>{}</ul>", limits)),
        markup.section("revision", "Revision", revision),
        markup.section("weights", "Weights and licenses", html("<p>{}</p><ul>{}</ul>", text.LICENSE, weights)),
        markup.section(
            "cite",
            "How to cite",
            html('<button type="button" data-copy>Copy</button><pre tabindex="0">{}</pre>', cited),
        ),
        markup.section("api", "For programs", text.api(links.address())),
    )
    return Page("About", body, text.ABOUT, view="about")
