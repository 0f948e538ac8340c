"""What the pages say: titles, explanations, warnings and their sources."""

from markupsafe import Markup

from microscope_atlas.atlas import schema
from microscope_atlas.pictures.cuts import cut_of
from microscope_atlas.pictures.sources import DEFAULT
from microscope_space.html.escaped import html

TITLE = "Microscope Atlas"
LEAD = (
    "What does a neuron see? Every unit of the vision networks that interpretability research studies, through every "
    "lens, with the numbers beside the pictures. Choose a network, a layer, a unit."
)

OBJECTIVES = {"channel": "channel", "neuron": "centre neuron"}
DIRECTIONS = {1: "maximised", -1: "minimised"}
METHODS = {
    "fourier": "Fourier",
    "maco": "MaCo",
    "transparent": "transparent",
}
MADE = "made pictures"
SHEETS = {  # that are no feature visualizations, by the method that they state
    "top": "best natural pictures",
    "gratings": "preferred gratings",
    "curves": "preferred curves",
    "colours": "preferred colours",
}
SHEETS_LONG = {
    "top": "Each is the natural picture that excites the unit most, cropped to what it sees there.",
    "gratings": "Each is the grating that the unit responds to most; fine ones look grey when they are this small.",
    "curves": "Each is the curve that the unit responds to most.",
    "colours": "Each is the colour that the unit responds to most.",
}
SHEETS_MADE = "Each is a picture made to {aim} the unit, its {objective}."
METHODS_LONG = {
    "fourier": "Fourier: optimised in decorrelated Fourier space, as Lucid did.",
    "maco": "MaCo: only the phases are optimised; the spectrum is held to that of natural pictures.",
    "transparent": "Transparent: with an opacity, so that what the unit does not need is left out.",
}

FEATURE_VISUALIZATION = (
    "Pictures made from noise to excite the unit, or to silence it. Below each: its score in the unit's own "
    "activation, and how many times what the 16 best natural pictures reach on average."
)
FEATURE_VISUALIZATION_WARNING = html(
    "Made pictures can mislead. Shown the extremes of a unit, people told which pictures excite it in 92% of trials "
    'with natural examples and 82% with made ones (<a href="https://arxiv.org/abs/2010.12606">Borowski et al. '
    "2021</a>); and made pictures can take other paths through a network than natural ones do (<a "
    'href="https://arxiv.org/abs/2306.04719">Geirhos et al. 2024</a>). Read them beside the samples.'
)
SAMPLES = (
    "Natural pictures, cropped to what the unit sees where it is excited most. The small frame marks where in the "
    "picture that is; the number is the activation there."
)
SAMPLES_WARNING = (
    "The strongest pictures alone say little about what a unit does in the rest of its range: look at the lower "
    "buckets, too. All of them are from one set of pictures, and what is not in the set cannot be seen here."
)
TUNING = (
    "How strongly the centre neuron responds to made stimuli, dark to bright. The ring marks the peak; the stimulus "
    "there is beside it."
)
TUNING_WARNING = "A simple stimulus is not what most units of late layers are for: a faint answer here means little."
CONNECTIONS = html(
    'The units it is wired to, by expanded weights: <b class="plus">red</b> excites, <b class="minus">blue</b> '
    "inhibits, place by place; over each unit's picture are its weights. Strongest first. Each leads to its unit."
)
CONNECTIONS_WARNING = (
    "Weights are what can happen, not what does: they leave out how often a unit is active, and rectifiers between "
    "two layers are taken as open."
)
TEXTS = (
    "Texts of a word list, those first that go best with the natural pictures that excite the unit, in the embedding "
    "that pictures and texts share. The number is a cosine."
)
TEXTS_WARNING = (
    "A text goes with the pictures, and may name something else that they share: no proof that the unit reads it. What "
    "neither the pictures nor the list hold cannot be found."
)
TEXTS_EXACT = (
    "Texts of a word list, those first whose embedding is largest in this unit, which is one of its coordinates. The "
    "number is that coordinate."
)
TEXTS_EXACT_WARNING = "A text may be large in many coordinates: one alone is seldom a concept."
MAP = (
    "What the layer tells apart: its activations at {placed} places of natural pictures, laid out so that alike ones "
    "lie near each other. Each cell is a picture made for the mean of those that fall into it."
)
MAP_LINK = "what the layer tells apart, as a map"
MAP_HOW = "Each cell leads to what fell into it. Turn the wheel over the map to come nearer, drag to move."
MAP_WHOLE = "The map as a picture."
MAP_CLASSES = "Classes whose logits are higher on these pictures than on all"
MAP_PHOTOS = "What falls here"
MAP_WARNING = (
    "Near on the map is alike to the layer; far is not unlike, and left, right, up and down mean nothing. Classes are "
    "those of the whole pictures: no proof that this part of them makes for the class."
)
GROUPS = (
    "What the layer's activations over many natural pictures are made up of, found by non-negative factorisation (Olah "
    "et al. 2018): each group is a direction, a few units together. Beside its picture are places where it is "
    "strongest, and the units that have most of it; the square of a unit's number is its part."
)
GROUPS_LINK = "what its activations are made up of"
RECTIFIED = "What is below zero counts as zero: {rectified} of the squared activations are not."
GROUPS_WARNING = (
    "Another number of groups gives other groups, and other factorisations do as well: a group is one way to read a "
    "layer, no part that the network has."
)
UNIT_MAP = (
    "Units that answer the same natural pictures alike lie near each other. Near is all that counts: how far apart "
    "groups lie, and how wide they are, says nothing. Trustworthiness is 1 where all neighbours here are neighbours in "
    "truth. Turn the wheel over the map to come nearer, drag to move."
)
NETWORK_MAP = (
    "Units of all layers of the network: each square shows one, framed in the colour of how deep its layer is."
)
NETWORK_MAP_LINK = "A map of the units of all layers"
NETWORK_MAP_HOW = (
    "A square with a number stands for so many units, and leads nearer to them; one without leads to its unit. Turn "
    "the wheel over the map to enlarge it, drag to move."
)
NO_NETWORK_MAP = (
    "This network has no map: one takes 21 units or more whose responses vary, and the lens units of this version."
)
NO_NETWORKS = "This atlas has no rows yet, and so no networks."
NO_UNITS = "This atlas has no rows of a single unit of this layer."
NO_SHEET = (
    "This atlas has no small pictures of this layer's units, which the lens units makes. Each unit has its own page."
)
NO_MAP = (
    "This layer has no map: one takes 21 units or more, 4,096 at most, whose responses vary, and the lens units of "
    "this version."
)
SCORES = (
    "What its {num} strongest samples have in common, by what {embedding} finds alike, layer {layer} (after "
    "SemanticLens, Dreyer et al. 2025)."
)
CLARITY = "0 where they are as unlike as random samples of the layer, 1 where they are all the same"
LIKENESS = "mean cosine between two of them; of random samples {random}"
POLYSEMANTICITY = "how far apart the two clusters are that they fall into: 0 not at all"
REDUNDANCY = "of 1, where its samples are the same; highest with"
CORRELATION = "of its responses, highest with"
SCORES_WARNING = (
    "Pictures can be alike in what the unit does not look at, and unlike to another network although it sees the same: "
    "an edge in a dog and in a car. Low clarity is no proof that a unit means nothing."
)
LABELS = "What somebody says that it is for, with who says so. Labels of several sources need not agree."
LABELS_WARNING = (
    "A label is a claim: that words go with what excites the unit, or with some of it, is no proof that it is for that."
)
LABELS_SHOWN = "Words below pictures are labels; "
MEANT = "Units whose pictures are nearest to these words, as a CLIP sees both; the number is a cosine, -1 to 1:"
NO_TOWER = (
    "The text tower of the CLIP that labels were made with is not here, or cannot be read: units can be found by their "
    "labels alone."
)
BY_MEANING = "Search by meaning instead"
BY_NAME = "Search by names and labels instead"
CLASSES = (
    "Classes of the natural pictures that excite it most, by its mean response. Selectivity is 0 where it answers all "
    "classes alike, and 1 where it answers one alone (Morcos et al. 2018)."
)
CLASSES_WARNING = (
    "A class says what the pictures are of, not what in them excites the unit: one for water answers ships."
)
NEAREST = "Units whose responses to the same natural pictures are correlated most; the number is Pearson's correlation."
STATISTICS = "The strongest activation in each of the natural pictures, as a histogram, and what it sums up to."

BUCKETS = {
    "top": "Strongest",
    "0.9-0.99": "0.9 to 0.99 quantile",
    "0.75-0.9": "0.75 to 0.9",
    "0.5-0.75": "0.5 to 0.75",
    "0.25-0.5": "0.25 to 0.5",
    "0-0.25": "below 0.25",
    "random": "Random",
}

FLAGS = {
    "nan": "Not finite: a number came out that is none.",
    "flat": "The picture has no structure: nothing was found that changes the unit.",
    "dead": "Not above zero in what was shown for this; other pictures may excite it.",
    "few": "Too few pictures excite it to say more.",
}

AXES = {
    "orientation_degrees": "orientation, degrees",
    "direction_degrees": "direction, degrees",
    "hue_degrees": "hue, degrees",
    "frequency_cycles_per_px": "cycles per px",
    "curvature_per_px": "curvature, per px",
}


def direction(number: int) -> str:
    """`maximised`, of +1; whatever else a row may hold, by its number."""
    return DIRECTIONS.get(number, f"direction {number}")


def not_rendered(lens: str, where: str) -> str:
    """What a section says where the atlas has no rows for it."""
    return f"This atlas has no {schema.table(lens).title.lower()} of {where}."


def no_picture(lens: str, where: str) -> str:
    """What a section says where the atlas has rows, and none of them a picture that can be shown there."""
    return f"This atlas has rows of {schema.table(lens).title.lower()} of {where}, and no such picture."


def picture_set(name: str, revision: str) -> str:
    """A set of natural pictures, and of how many photos its pictures are crops."""
    cut = cut_of(revision) if name == DEFAULT else None
    return f"{name}, {f'crops of {len(cut.photos)} photos, ' if cut else ''}revision {revision[:12]}"


ABOUT = (
    "Microscope Atlas continues OpenAI Microscope: the same networks under the same names, each unit through every "
    "lens, with a score, a recipe and the weights' hash in every row, and with the code that made them."
)
LICENSE = "Rendered pictures are under CC BY 4.0. Each network's weights, and natural pictures, have their own license:"
LISTS = "Units that belong together, with a sentence each: of this atlas, or your own."
AMONG = html(
    'Expanded weights between units of the list: <b class="plus">red</b> excites, <b class="minus">blue</b> inhibits, '
    "place by place, the strongest first. Of each unit the atlas keeps the strongest connections alone."
)
NOT_AMONG = "Among the strongest connections of these units, which are those that the atlas keeps, is none to another."
OWN_LIST = (
    "Keys with commas between them, and a sentence for each with bars between. The link of the page holds all of it."
)
GRAPH = "Layers from the input on; an arrow leads from a layer to those that read it."
NO_GRAPH = "Layers by name: how they are wired is known of the catalog's networks alone."
WRONG = "There is nothing at this link"
LOST = "These rows cannot be read just now: they are damaged, or the Hub does not answer."
UNEXPECTED = "These rows hold what this page does not expect. Here they are as they are."
UNREADABLE = "This cannot be read just now"
UNREADABLE_WHY = "Its rows are damaged, or the Hub does not answer. Other pages may well work; this one may, later."


def api(address: str) -> Markup:
    """How programs ask the Space at this address."""
    return html(
        "<p>Every page is JSON too, with links to its pictures: with <code>json/</code> before its path, as in "
        "<code>{}json/MODEL/LAYER/UNIT</code>. <code>{}openapi.json</code> describes it. Where the Space runs with the "
        "extra <code>mcp</code>, <code>{}mcp</code> is a server of MCP's tools <code>search</code>, <code>unit</code>, "
        "<code>layer</code> and <code>picture</code>.</p>"
        "<p>Gradio's endpoints are <code>unit</code>, <code>layer</code>, <code>search</code>, "
        "<code>caricature</code>, <code>probe</code> and <code>why</code>:</p>"
        '<pre tabindex="0">from gradio_client import Client\n\n'
        'Client("{}").predict("inceptionv1_caffe", "inception_4c", 447, api_name="/unit")</pre>'
        "<p>A card of a unit for other web pages: <code>/embed/MODEL/LAYER/UNIT</code>. Links to OpenAI Microscope "
        "work here when its host is replaced by this one: <code>/models/inceptionv1/mixed4c_0/447</code>. The dataset "
        "itself is read with <code>load_dataset</code>.</p>",
        *(address,) * 4,
    )
