"""Every column and path of an atlas, and the version of this schema. Nothing else names a column.

A table is a dataset config of its own: `load_dataset("microscope-atlas", "feature_visualization")`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from microscope_atlas.atlas.organisms import Kind
from microscope_atlas.atlas.tables import FLOATS, IMAGE, Column, Table, list_of
from microscope_atlas.errors import unknown

SCHEMA_VERSION = "1"  # changes when a column or path changes its meaning; new columns and tables do not change it

MANIFEST = "atlas.json"
CARD = "README.md"
COVER = "cover.jpg"  # the card's picture
RELEASES = "releases.json"  # of a published atlas: its versions
LISTS = "lists"  # folder of lists of units, whose files their owner writes
LIST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # a list's name


UNIT_KEY = (
    Column("model", pa.string(), "organism, `inceptionv1_caffe`", key=True),
    Column("layer", pa.string(), "layer, `inception_4c`", key=True),
    Column("unit", pa.int32(), "channel of a convolutional layer, neuron of a dense one, from 0", key=True),
)

LAYER_KEY = UNIT_KEY[:2]

SEED = Column("seed", pa.int64(), "seed of the row's own random stream")
FLAG = Column("flag", pa.string(), "what is wrong with it: `nan`, `flat` or `dead`; null if nothing", optional=True)

ROBUST_SCORE = Column(
    "robust_score",
    pa.float32(),
    "as `score`, the mean over random views of the picture, turned, scaled and shifted as while it was made: what of "
    "the score does not hang on one way of looking. `recipe` says how many: `robust_views`. Null where not finite",
    optional=True,
    setting="robust_views",
)

PROVENANCE = (
    Column("recipe", pa.string(), "every setting that the row depends on, as JSON"),
    Column("weights_sha256", pa.string(), "sha256 of the network's tensors"),
    Column("software", pa.string(), "versions of this package and of PyTorch"),
    Column("device", pa.string(), "what it was made on: `cpu`, or the accelerator's name"),
)

# of feature_visualization: each method, and what it shows, objectives and directions
METHODS: dict[str, tuple[tuple[str, int], ...]] = {
    "fourier": (("channel", 1), ("neuron", 1), ("channel", -1), ("neuron", -1)),
    "maco": (("channel", 1),),
    "transparent": (("channel", 1), ("neuron", 1)),
}
FAMILIES = ("gratings", "curves", "colours")  # of synthetic_tuning


def views(method: str, kind: Kind = "conv", neuron_of_dense: bool = False) -> list[tuple[str, int]]:
    """What a method shows of a unit of a layer of this kind, objectives and directions.

    A dense unit has one position, where `neuron` is the same objective as `channel`; version 0.1 made both.
    """
    both = kind != "dense" or neuron_of_dense
    return [shown for shown in METHODS[method] if both or shown[0] == "channel"]


def _visualizations(settings: Mapping[str, Any], kind: Kind = "conv") -> int:
    variants = int(settings["variants"]) if "fourier" in settings["methods"] else 0
    both = bool(settings.get("neuron_of_dense", True))
    return sum(len(views(method, kind, both)) for method in settings["methods"]) + variants


FEATURE_VISUALIZATION = Table(
    "feature_visualization",
    "one image made to excite, or to silence, a unit",
    (
        *UNIT_KEY,
        Column("method", pa.string(), "how it was made: `fourier`, `maco` or `transparent`", key=True),
        Column(
            "objective",
            pa.string(),
            "`channel`: mean over all positions; `neuron`: the centre position, which of dense units is all they have",
            key=True,
        ),
        Column("direction", pa.int8(), "+1 maximised, -1 minimised", key=True, descending=True),
        Column("variant", pa.int8(), "0 alone; from 1, a set made to differ from one another", key=True),
        Column("image", IMAGE, "the picture; null where rendering failed", optional=True),
        Column(
            "opacity",
            IMAGE,
            "gray, as large as the picture, white where it counts: of `maco` where its gradient was, of `transparent` "
            "its opacity; null for `fourier`, and where rendering failed",
            optional=True,
        ),
        Column(
            "score",
            pa.float32(),
            "the objective on the picture, before it was encoded, times the direction: higher is better; in the unit's "
            "own activation, taken before the rectifier for direction -1 and for ReLU6; null where it is not finite",
            optional=True,
        ),
        Column(
            "agreement",
            pa.float32(),
            "how alike the network finds it and the other variants of its unit: mean cosine between Gram matrices of "
            "the layer, 0 to 1; null for variant 0",
            optional=True,
        ),
        ROBUST_SCORE,
        FLAG,
        SEED,
        *PROVENANCE,
    ),
    count=_visualizations,
    count_dense=lambda settings: _visualizations(settings, "dense"),
)

DEEPDREAM = Table(
    "deepdream",
    "one image that excites all units of a layer",
    (
        *LAYER_KEY,
        Column("start", pa.string(), "what it started from: `noise`, or a picture's name, `temple`", key=True),
        Column("image", IMAGE, "the picture; null where rendering failed", optional=True),
        Column(
            "score",
            pa.float32(),
            "mean square of the layer on the picture, before it was encoded; null where it is not finite",
            optional=True,
        ),
        ROBUST_SCORE,
        FLAG,
        SEED,
        *PROVENANCE,
    ),
    level="layer",
    count=lambda settings: len(settings["starts"]),
    title="DeepDream",
    shows_pictures=True,
)

CARICATURE = Table(
    "caricature",
    "what a layer keeps of a real picture, exaggerated",
    (
        *LAYER_KEY,
        Column("source", pa.string(), "name of the real picture, `astronaut`", key=True),
        Column("image", IMAGE, "the caricature; null where rendering failed", optional=True),
        Column(
            "score",
            pa.float32(),
            "dot product of the layer's activations of the caricature and of the real picture, over that of the real "
            "picture with itself, times a power of their cosine, which the recipe states: 1 for a copy; null where it "
            "is not finite",
            optional=True,
        ),
        Column(
            "cosine",
            pa.float32(),
            "cosine between the layer's activations of the caricature and of the real picture, -1 to 1: how much of "
            "what the layer sees in the one it sees in the other; null where it is not finite",
            optional=True,
        ),
        ROBUST_SCORE,
        FLAG,
        SEED,
        *PROVENANCE,
    ),
    level="layer",
    count=lambda settings: len(settings["sources"]),
    shows_pictures=True,
)


SYNTHETIC_TUNING = Table(
    "synthetic_tuning",
    "a unit's responses to one family of made stimuli",
    (
        *UNIT_KEY,
        Column("family", pa.string(), "`gratings`, `curves` or `colours`", key=True),
        Column("x_axis", pa.string(), "what is varied along a row of `responses`, with its unit; it is circular"),
        Column("y_axis", pa.string(), "what is varied from row to row, with its unit"),
        Column("x_values", FLOATS, "its values along a row"),
        Column("y_values", FLOATS, "its value in each row"),
        Column(
            "responses",
            list_of(FLOATS),
            "one list for each of `y_values`: activations of the centre neuron, behind the layer's rectifier but "
            "before a ReLU6, the largest over what is nested",
        ),
        Column(
            "preferred_x",
            pa.float32(),
            "where along `x_axis` the peak is; null with a flag, and where there is nothing to prefer: a hue of black "
            "or white, a side of straight lines",
            optional=True,
        ),
        Column("preferred_y", pa.float32(), "where along `y_axis` the peak is; null with a flag", optional=True),
        Column("nested_axes", list_of(pa.string()), "what `responses` are the largest over, with its unit"),
        Column("preferred_nested", FLOATS, "the value of each of these at the peak; null with a flag", optional=True),
        Column("peak", pa.float32(), "the largest response; null where one is not finite", optional=True),
        Column(
            "width",
            pa.float32(),
            "of the peak along `x_axis` at `preferred_y`, in its unit: full width at half height between the least "
            "response of the family and the peak; null where responses stay above that, and with a flag",
            optional=True,
        ),
        Column(
            "blank", pa.float32(), "the response to plain grey, without a stimulus; null if not finite", optional=True
        ),
        Column("image", IMAGE, "the stimulus at the peak; null with a flag", optional=True),
        FLAG,
        *PROVENANCE,
    ),
    count=lambda settings: len(FAMILIES),
)

CONNECTIONS = Table(
    "connections",
    "a unit of a layer before or after that a unit is wired to, with their expanded weights",
    (
        *UNIT_KEY,
        Column("towards", pa.string(), "where the other unit is: `input`, nearer the picture, or `output`", key=True),
        Column("other_layer", pa.string(), "its layer, reached without passing a third", key=True),
        Column("sign", pa.int8(), "+1 excitatory, -1 inhibitory", key=True, descending=True),
        Column("rank", pa.int8(), "0 is the strongest of its sign in that layer", key=True),
        Column("other_unit", pa.int32(), "the unit it is wired to"),
        Column(
            "strength",
            pa.float32(),
            "what is ranked: the L2 norm of the kernel's weights of that sign, before it was cropped",
        ),
        Column("weight", pa.float32(), "signed sum of the kernel's weights, before it was cropped"),
        Column("norm", pa.float32(), "L2 norm of the whole kernel, before it was cropped"),
        Column(
            "kernel",
            list_of(FLOATS),
            "signed weights of the middle 5 x 5 positions, rows from top to bottom: how much the later unit's centre "
            "position, before its rectifier, rises with the earlier unit's activation there; zero beyond the kernel",
        ),
        Column("extent", pa.int16(), "positions on the longer side of the layers' kernels, before they were cropped"),
        FLAG,
        *PROVENANCE,
    ),
)

CLASS = pa.struct(
    [
        ("name", pa.string()),
        ("mean", pa.float32()),
        ("num_pictures", pa.int32()),
        ("top_share", pa.float32()),
    ]
)
PLACE = pa.struct([("x", pa.float32()), ("y", pa.float32()), ("trustworthiness", pa.float32())])
NEIGHBOUR = pa.struct(
    [("model", pa.string()), ("layer", pa.string()), ("unit", pa.int32()), ("correlation", pa.float32())]
)

UNITS = Table(
    "units",
    "one unit, what the other tables say of it in brief",
    (
        *UNIT_KEY,
        Column(
            "kind", pa.string(), "`conv`: a channel; `dense`: a neuron; `tokens`: a feature of tokens, on their grid"
        ),
        Column("branch", pa.string(), "node of its layer's concatenation that it comes from, or null", optional=True),
        Column("class_name", pa.string(), "of a logit: the class it stands for, where that is known", optional=True),
        Column(
            "thumbnail",
            IMAGE,
            "its `channel` picture of direction +1, by method `fourier`, 64 px; JPEG, quality 75; null where there is "
            "none",
            optional=True,
        ),
        Column("mean", pa.float32(), "as in `responses`", optional=True),
        Column("maximum", pa.float32(), "as in `responses`", optional=True),
        Column("quantiles", FLOATS, "as in `responses`", optional=True),
        Column("sparsity", pa.float32(), "as in `responses`", optional=True),
        Column("flag", pa.string(), "as in `responses`: `nan` or `dead`; null if nothing", optional=True),
        Column(
            "nearest",
            list_of(NEIGHBOUR),
            "up to 10 other units of the model that respond most alike: highest Pearson correlation of their "
            "`responses` first, to five decimals; empty where they do not vary",
        ),
        Column("nearest_elsewhere", list_of(NEIGHBOUR), "the same among the atlas' other models"),
        Column(
            "visualizations",
            list_of(
                pa.struct(
                    [
                        ("method", pa.string()),
                        ("objective", pa.string()),
                        ("direction", pa.int8()),
                        ("variant", pa.int8()),
                        ("score", pa.float32()),
                        ("natural", pa.float32()),
                        ("flag", pa.string()),
                    ]
                )
            ),
            "its rows of `feature_visualization`; `natural` is the score over what the unit's 16 best natural pictures "
            "reach on average by the same objective and direction, null where that is not above 0",
        ),
        Column(
            "agreement", pa.float32(), "mean of its variants' `agreement`; null where there are none", optional=True
        ),
        Column("classes", list_of(CLASS), "as in `responses`", optional=True, setting="classes"),
        Column("class_selectivity", pa.float32(), "as in `responses`", optional=True, setting="classes"),
        Column(
            "layer_map",
            PLACE,
            "its place on a map of the layer, on which units that answer alike lie near each other (t-SNE of their "
            "correlations), and how far that holds of the whole map: trustworthiness at 10 neighbours, 0 to 1; null "
            "where its responses do not vary, and of layers of fewer than 21 such units or more than 4,096",
            optional=True,
            setting="perplexity",
        ),
        Column(
            "model_map",
            PLACE,
            "the same on a map of the units of all layers that the atlas has of the model; of more than 4,096 so many, "
            "evenly spaced, are laid out, and each other falls where the one of them lies that answers most like it",
            optional=True,
            setting="perplexity",
        ),
        Column("legacy_url", pa.string(), "where OpenAI Microscope showed it; null where it did not", optional=True),
        *PROVENANCE,
    ),
    reads={"responses": "atlas", "feature_visualization": "layer"},
    count=lambda settings: 1,
)

SHEETS = Table(
    "sheets",
    "one picture with a small tile for every unit of a layer",
    (
        *LAYER_KEY,
        Column(
            "lens",
            pa.string(),
            "table that the tiles are from: `feature_visualization`; `dataset_samples`, the best of each unit; "
            "`synthetic_tuning`, the stimulus that excites it most",
            key=True,
        ),
        Column(
            "method",
            pa.string(),
            "of the pictures shown, as all of these; of samples their bucket, of stimuli their family",
            key=True,
        ),
        Column("objective", pa.string(), "`channel` or `neuron`", key=True),
        Column("direction", pa.int8(), "+1 maximised, -1 minimised", key=True, descending=True),
        Column(
            "image",
            IMAGE,
            "JPEG, quality 55; the tile at place p of `units` is in row p // `columns`, column p % `columns`; where "
            "`units` is null, unit u is at place u, striped if it has no picture",
            optional=True,
        ),
        Column("tile", pa.int16(), "px on a side of a tile"),
        Column("columns", pa.int16(), "tiles side by side"),
        Column("num_units", pa.int32(), "tiles: one for each of `units`, or where that is null for each of the layer"),
        Column("num_pictures", pa.int32(), "units with a picture"),
        Column(
            "units",
            list_of(pa.int32()),
            "units that have a tile, in their order, where not all of the layer have a picture; null where all have",
            optional=True,
            setting="only_made",
        ),
        *PROVENANCE,
    ),
    level="layer",
    reads={"feature_visualization": "layer", "dataset_samples": "layer", "synthetic_tuning": "layer"},
)

INDEX = Table(
    "index",
    "where the bytes of an image lie",
    (
        *LAYER_KEY,
        Column("table", pa.string(), "the table that the image is in", key=True),
        Column("file", pa.string(), "the file that holds it, within the atlas", key=True),
        Column("row", pa.int32(), "its row in that file, from 0", key=True),
        Column("column", pa.string(), "the column that it is in", key=True),
        Column("unit", pa.int32(), "the unit that it shows; null where it shows a layer", optional=True),
        Column("name", pa.string(), "its file name: the key of its row, joined by hyphens"),
        Column("offset", pa.int64(), "of its first byte in the file"),
        Column("length", pa.int32(), "of the encoded image, in bytes"),
        Column("file_sha256", pa.string(), "sha256 of the file"),
    ),
    level="layer",
)

SAMPLE = pa.struct(
    [
        ("bucket", pa.string()),
        ("rank", pa.int16()),
        ("picture", pa.int32()),
        ("activation", pa.float32()),
        ("x", pa.int16()),
        ("y", pa.int16()),
    ]
)
NATURAL = pa.struct([("objective", pa.string()), ("direction", pa.int8()), ("activation", pa.float32())])

RESPONSES = Table(
    "responses",
    "what natural pictures do to a unit",
    (
        *UNIT_KEY,
        Column("mean", pa.float32(), "activation, over all positions of all pictures; null for `nan`", optional=True),
        Column("maximum", pa.float32(), "the strongest activation in any picture; null for `nan`", optional=True),
        Column(
            "quantiles",
            FLOATS,
            "of `responses`, at probabilities 0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99 and 1; empty for `nan`",
        ),
        Column("sparsity", pa.float32(), "share of all positions at or below zero; null for `nan`", optional=True),
        Column(
            "responses",
            FLOATS,
            "the strongest activation in each of at most 2,048 pictures, evenly spaced in the set: of n, number "
            "floor(i n / 2,048) is the i-th; of a dictionary's layer of fewer, 16,777,216 responses in all, and "
            "`max_responses` in `recipe` says of how many; the same pictures for every unit; empty for `nan`",
        ),
        Column(
            "samples",
            list_of(SAMPLE),
            "pictures by their strongest activation, and where it is, column and row of the layer's map, null for "
            "neurons: the `top` 16 of all, and of those in `responses` 4 from each bucket, between two quantiles "
            "(`0.9-0.99`, `0.75-0.9`, `0.5-0.75`, `0.25-0.5`, `0-0.25`), and 4 at `random`; rank 0 is the strongest",
        ),
        Column(
            "natural",
            list_of(NATURAL),
            "each objective and direction of `feature_visualization`, and its score on the 16 pictures that are best "
            "by it, their mean; `neuron` at its best position, not the centre. Visualizations' scores compare with it",
        ),
        Column(
            "classes",
            list_of(CLASS),
            "up to 5 classes that excite it most, where the pictures' classes are known: the mean response to all "
            "of a class's pictures, below zero taken as 0, how many these are, and which share of the `top` samples is "
            "of it; none whose mean is 0; null where the set has no classes, and for `nan`",
            optional=True,
            setting="classes",
        ),
        Column(
            "class_selectivity",
            pa.float32(),
            "(a - b) / (a + b), a the highest mean of any class, b the mean over those of all other classes: 0 answers "
            "all alike, 1 one alone (Morcos et al. 2018, arXiv:1803.06959); null where `classes` is null or empty",
            optional=True,
            setting="classes",
        ),
        Column(
            "flag",
            pa.string(),
            "`nan`: not finite; `dead`: behind a rectifier, and above zero in no picture; null if nothing",
            optional=True,
        ),
        *PROVENANCE,
    ),
    count=lambda settings: 1,
)

DATASET_SAMPLES = Table(
    "dataset_samples",
    "one natural picture, and how it excites a unit",
    (
        *UNIT_KEY,
        Column(
            "bucket",
            pa.string(),
            "`top`: of all pictures; between two quantiles of the pictures' strongest activations: `0.9-0.99`, "
            "`0.75-0.9`, `0.5-0.75`, `0.25-0.5`, `0-0.25`; or `random`",
            key=True,
            order=("top", "0.9-0.99", "0.75-0.9", "0.5-0.75", "0.25-0.5", "0-0.25", "random"),
        ),
        Column("rank", pa.int16(), "within the bucket; 0 is the strongest", key=True),
        Column("activation", pa.float32(), "the unit's strongest in the picture; null for `nan`", optional=True),
        Column("picture", pa.int32(), "its number in the set, from 0; null for `nan`", optional=True),
        Column(
            "image",
            IMAGE,
            "what the unit sees where it is excited most: its receptive field, cut at the picture's border; the whole "
            "picture for neurons; null where the atlas only points at pictures, and for `nan`",
            optional=True,
        ),
        *(
            Column(
                side,
                pa.int16(),
                f"{edge} edge of what the unit sees, px in the picture at the network's input size; null for `nan`",
                optional=True,
            )
            for side, edge in (("left", "left"), ("top", "upper"), ("right", "right"), ("bottom", "lower"))
        ),
        Column(
            "set",
            pa.string(),
            "name of the picture set; where its pictures are crops of fewer photos, `recipe` says of how many: "
            "`num_photos`",
        ),
        Column("revision", pa.string(), "of the set's content: a dataset's commit, or a hash"),
        Column("flag", pa.string(), "the unit's in `responses`: `nan` or `dead`; null if nothing", optional=True),
        *PROVENANCE,
    ),
    reads={"responses": "layer"},
    shows_pictures=True,
)

TEXTS = Table(
    "texts",
    "a text of a word list that goes with what excites a unit",
    (
        *UNIT_KEY,
        Column("rank", pa.int16(), "0 is the text with the highest score", key=True),
        Column("text", pa.string(), "as the word list has it; null with a flag", optional=True),
        Column(
            "score",
            pa.float32(),
            "of a unit of the embedding: the text's coordinate there, its embedding normalised; of any other: cosine, "
            "-1 to 1, between the text's embedding, less the list's mean, and that of the unit's best natural "
            "pictures, less the set's mean; null with a flag",
            optional=True,
        ),
        Column(
            "num_pictures",
            pa.int16(),
            "natural pictures that stand for the unit: of the `top` ones of `responses` those above 0; null for units "
            "of the embedding, which need none",
            optional=True,
        ),
        Column("words", pa.string(), "name of the word list"),
        Column("words_revision", pa.string(), "sha256 of the word list"),
        Column("text_tower_sha256", pa.string(), "sha256 of the text tower's tensors"),
        Column(
            "flag",
            pa.string(),
            "the unit's in `responses`: `nan` or `dead`; `flat`: its pictures are no others than the set's; null if "
            "nothing",
            optional=True,
        ),
        *PROVENANCE,
    ),
    reads={"responses": "layer"},
)

SCORES = Table(
    "scores",
    "what a unit's natural pictures have in common, in numbers",
    (
        *UNIT_KEY,
        Column(
            "clarity",
            pa.float32(),
            "how alike its strongest samples are, from 0, as random ones are, to 1, all the same: (`likeness` - "
            "`random_likeness`) / (1 - `random_likeness`); below 0 if they are less alike than that; null with a flag",
            optional=True,
        ),
        Column(
            "likeness",
            pa.float32(),
            "mean cosine between the embeddings of two of its strongest samples; SemanticLens' clarity; null with a "
            "flag",
            optional=True,
        ),
        Column(
            "random_likeness",
            pa.float32(),
            "the same of random samples of the layer's units, of different pictures; null where all are of one",
            optional=True,
        ),
        Column(
            "polysemanticity",
            pa.float32(),
            "how far the two clusters are apart that its strongest samples fall into: 1 less the cosine of their "
            "means; null with a flag",
            optional=True,
        ),
        Column(
            "clusters",
            list_of(pa.int16()),
            "samples in each of the clusters that stand out, 2 to 4 of them, the largest first; all in one where none "
            "do; empty with a flag",
        ),
        Column(
            "redundancy",
            pa.float32(),
            "highest cosine of the mean embedding of its strongest samples with that of another unit of the layer in "
            "the atlas; null with a flag, and where there is none",
            optional=True,
        ),
        Column("twin", pa.int32(), "the unit whose samples are so much alike", optional=True),
        Column(
            "correlation",
            pa.float32(),
            "highest Pearson correlation of its `responses` with those of another unit of the layer, to five decimals; "
            "null where they do not vary, or there is none",
            optional=True,
        ),
        Column("answers_like", pa.int32(), "the unit whose responses correlate so much", optional=True),
        Column("num_samples", pa.int16(), "samples that were looked at: its strongest, those above 0 where any is"),
        Column("embedding", pa.string(), "network that embeds, `efficientnet_lite0`"),
        Column("embedding_layer", pa.string(), "its layer that does, averaged over places"),
        Column("embedding_sha256", pa.string(), "sha256 of its tensors"),
        Column(
            "flag",
            pa.string(),
            "why it has no scores: `nan` or `dead`, as in `responses`, or `few` samples; null if nothing",
            optional=True,
        ),
        *PROVENANCE,
    ),
    reads={"responses": "whole", "dataset_samples": "whole"},
    count=lambda settings: 1,
)

LEANING = pa.struct([("class", pa.int32()), ("name", pa.string()), ("logit", pa.float32())])
FALLEN = pa.struct(
    [
        ("picture", pa.int32()),
        ("x", pa.int16()),
        ("y", pa.int16()),
        ("left", pa.int16()),
        ("top", pa.int16()),
        ("right", pa.int16()),
        ("bottom", pa.int16()),
        ("cosine", pa.float32()),
    ]
)

PICTURE_SET = (
    Column("set", pa.string(), "name of the picture set"),
    Column("revision", pa.string(), "of the set's content: a dataset's commit, or a hash"),
)

ACTIVATION_ATLAS = Table(
    "activation_atlas",
    "one cell of a map of what a layer's activations hold",
    (
        *LAYER_KEY,
        Column("zoom", pa.int8(), "of the map; 0 is the coarsest", key=True),
        Column("row", pa.int16(), "of the cell in the map, from 0 at the top", key=True),
        Column("column", pa.int16(), "of the cell in the map, from 0 at the left", key=True),
        Column("grid", pa.int16(), "cells along a side of the map at this zoom; those too empty have no row"),
        Column("image", IMAGE, "the picture; null where rendering failed", optional=True),
        Column(
            "score",
            pa.float32(),
            "on the picture, before it was encoded: how far the layer's activations reach along the cell's direction, "
            "times a power of the cosine between the two, which the recipe states; null where it is not finite",
            optional=True,
        ),
        Column(
            "cosine",
            pa.float32(),
            "between `mean` and the layer's mean activations of the picture, -1 to 1: how far the picture shows the "
            "cell; null where it is not finite",
            optional=True,
        ),
        ROBUST_SCORE,
        FLAG,
        SEED,
        Column("num_vectors", pa.int32(), "activations that fall into the cell, each of a place of a picture"),
        Column("mean", FLOATS, "of these: a number for each unit of the layer"),
        Column(
            "classes",
            list_of(LEANING),
            "up to 5 classes whose logits are highest on the pictures that fall here, each as often as it does, less "
            "what they are on average over the map; of pictures, not of places; empty where classes have no names",
        ),
        Column(
            "samples",
            list_of(FALLEN),
            "up to 9 pictures that fall here, each at the place whose activations are most like `mean`: its number in "
            "the set, the place's column and row in the layer's map, what the place sees in px of the picture at the "
            "network's input size, and the cosine",
        ),
        Column(
            "photos",
            IMAGE,
            "what these places see, side by side in their order; null where the atlas only points at pictures",
            optional=True,
        ),
        *PICTURE_SET,
        Column("num_placed", pa.int32(), "activations on the whole map"),
        Column("num_left_out", pa.int32(), "activations that were looked at and have no direction: all zero, or `nan`"),
        *PROVENANCE,
    ),
    level="layer",
    shows_pictures=True,
)

MEMBER = pa.struct([("unit", pa.int32()), ("weight", pa.float32())])
STRONG = pa.struct([*list(FALLEN)[:-1], ("weight", pa.float32())])

GROUPS = Table(
    "groups",
    "one group of units that a layer's activations are made up of",
    (
        *LAYER_KEY,
        Column("group", pa.int16(), "of the layer, from 0, the one that makes up most first", key=True),
        Column("image", IMAGE, "the picture made for its direction; null where rendering failed", optional=True),
        Column(
            "score",
            pa.float32(),
            "on the picture, before it was encoded: how far the layer's activations reach along `direction`, times a "
            "power of the cosine between the two, which the recipe states; null where it is not finite",
            optional=True,
        ),
        Column(
            "cosine",
            pa.float32(),
            "between `direction` and the layer's mean activations of the picture, -1 to 1: how far the picture shows "
            "the group; null where it is not finite",
            optional=True,
        ),
        ROBUST_SCORE,
        FLAG,
        SEED,
        Column(
            "share",
            pa.float32(),
            "of the squared activations, rectified, that the group makes up, 0 to 1; those of a layer's groups add up "
            "to `explained`",
        ),
        Column(
            "strongest",
            list_of(MEMBER),
            "up to 10 units of the layer that have most of `direction`, and how much: the square is the unit's part",
        ),
        Column("direction", FLOATS, "a number for each unit of the layer, none below 0, of length 1; all 0 if `dead`"),
        Column(
            "samples",
            list_of(STRONG),
            "up to 9 pictures, each at the place where the group is strongest: the picture's number in the set, the "
            "place's column and row in the layer's map, what the place sees in px of the picture at the network's "
            "input size, and how much of `direction` is in the activations there",
        ),
        Column(
            "photos",
            IMAGE,
            "what these places see, side by side in their order; null where the atlas only points at pictures, or "
            "there are none",
            optional=True,
        ),
        Column(
            "explained",
            pa.float32(),
            "by all groups together, of the squared activations, rectified: 1 less the squared error that they leave",
        ),
        Column(
            "rectified",
            pa.float32(),
            "of the squared activations that is not below 0, and so counts: 1 behind a rectifier",
        ),
        Column("num_vectors", pa.int32(), "activations that were looked at, each of a place of a picture"),
        Column("num_left_out", pa.int32(), "others, which have no direction: all zero, or `nan`"),
        *PICTURE_SET,
        *PROVENANCE,
    ),
    level="layer",
    count=lambda settings: int(settings["groups"]),
    shows_pictures=True,
)

LICENSE = "CC-BY-4.0"  # of labels that are computed here

# of every table of labels, all of which are the config `labels`
LABEL_COLUMNS = (
    *UNIT_KEY,
    Column(
        "method",
        pa.string(),
        "how somebody came by the label: `clip_dissect`, `class_selectivity`, or what its importer calls it",
        key=True,
    ),
    Column("rank", pa.int16(), "among the unit's labels by this method and table; 0 is the first", key=True),
    Column("label", pa.string(), "what the unit is said to be for, in words"),
    Column("score", pa.float32(), "how well it fits, as `measure` has it; null where nobody says", optional=True),
    Column(
        "measure", pa.string(), "what `score` measures, with unit and range; null where there is none", optional=True
    ),
    Column(
        "source",
        pa.string(),
        "where it comes from: word list and CLIP, or set of pictures, with their hashes; of imported ones what their "
        "importer states",
    ),
    Column(
        "source_sha256",
        pa.string(),
        "sha256 of what its words were taken from: the word list, the classes of the pictures, the imported file",
    ),
    Column("license", pa.string(), "of the label; of imported ones as their importer states it"),
    Column(
        "embedding",
        list_of(pa.float16()),
        "of `clip_dissect`, with rank 0: the unit's direction in the embedding that pictures and texts share, of "
        "length 1, without what all pictures of the set and all texts of the list have in common; null elsewhere",
        optional=True,
    ),
    *PROVENANCE,
)
LEAST_SAID = ("label", "method", "source", "license", "score", "measure")  # wherever a label is shown
LABELS = Table("labels", "a label of a unit, with who says so", LABEL_COLUMNS)
LABELS_CLASS_SELECTIVITY = replace(
    LABELS,
    name="labels_class_selectivity",
    about="the class of pictures that a unit answers far more than others",
    title="Labels by class selectivity",
    reads={"responses": "layer"},
)
LABELS_CLIP_DISSECT = replace(
    LABELS,
    name="labels_clip_dissect",
    about="a text of a word list that fits the pictures which excite a unit, by a CLIP",
    title="Labels by CLIP-Dissect",
    reads={"responses": "whole"},
)
GIVEN_LABELS = re.compile(r"labels(_[A-Za-z0-9_]{1,99})?")  # tables of labels that were imported, and all together

# in the order of the card; the first that an atlas has is what load_dataset loads unasked
TABLES = {
    table.name: table
    for table in (
        UNITS,
        FEATURE_VISUALIZATION,
        DATASET_SAMPLES,
        SYNTHETIC_TUNING,
        CONNECTIONS,
        TEXTS,
        SCORES,
        LABELS_CLIP_DISSECT,
        LABELS_CLASS_SELECTIVITY,
        RESPONSES,
        DEEPDREAM,
        CARICATURE,
        ACTIVATION_ATLAS,
        GROUPS,
        SHEETS,
        INDEX,
    )
}


def table(name: str) -> Table:
    """The table called `name`; UnknownName with the nearest names where there is none.

    Beside ours, tables of labels that were imported, `labels_NAME`; `labels` is all that are labels.
    """
    if name not in TABLES and GIVEN_LABELS.fullmatch(name):
        return _given_labels(name)
    if name not in TABLES:
        raise unknown("table", name, f"schema {SCHEMA_VERSION}", TABLES)
    return TABLES[name]


@lru_cache(maxsize=64)
def _given_labels(name: str) -> Table:
    return replace(LABELS, name=name)


def is_ours(path: str, tables: Collection[str]) -> bool:
    """Whether a file of an atlas is one that this package writes, by its path within it; all others are its owner's."""
    rows = path.endswith(".parquet") and path.partition("/")[0] in tables
    return rows or path in (MANIFEST, CARD, COVER, RELEASES) or list_name(path) is not None


def list_path(name: str) -> str:
    """Path within the atlas of a list of units."""
    return f"{LISTS}/{name}.json"


def list_name(path: str) -> str | None:
    """The name of the list of units that a path is of; None where it is of none."""
    name = path.removeprefix(f"{LISTS}/").removesuffix(".json")
    return name if path == list_path(name) and LIST.fullmatch(name) else None


def split(model: str) -> str:
    """A model's name where split names and paths are wanted: `timm:resnet50` -> `timm.resnet50`."""
    return model.replace(":", ".")


def shard_path(table: str, model: str, layer: str, start: int, stop: int) -> str:
    """Path within the atlas of the shard with the layer's units from `start` to `stop`; sorts by unit in a layer."""
    return f"{table}/{split(model)}/{layer}.{start:05}-{stop:05}.parquet"


def shard_pattern(table: str, model: str) -> str:
    """Path pattern of a model's shards in one table."""
    return f"{table}/{split(model)}/*.parquet"


def index_path(model: str) -> str:
    """Path within the atlas of the index of a model's images."""
    return f"{INDEX.name}/{split(model)}/{INDEX.name}.parquet"
