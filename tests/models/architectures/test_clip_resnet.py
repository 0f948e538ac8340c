"""CLIP's image towers against the facts known of them, a small twin by PyTorch's own means, and timm's."""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from microscope_atlas.errors import NetworkFailed, WeightsError
from microscope_atlas.models import converted, weights
from microscope_atlas.models.architectures import clip_resnet
from microscope_atlas.models.architectures.clip_resnet import (
    CONTRASTIVE_4X,
    CONTRASTIVE_16X,
    CONTRASTIVE_RN50,
    MEAN,
    STD,
    build,
    read_copy,
    read_openai,
)
from microscope_atlas.models.networks.expanded import composable, compose
from microscope_atlas.models.networks.graph import Graph, fold_batch_norm
from microscope_atlas.models.networks.linearised import differentiate
from microscope_atlas.models.organism import UNSTATED, Organism
from microscope_atlas.models.texts import kept
from microscope_atlas.rendering.ascend import Precision
from tests.models.tiny_clip import CONFIG, random_texts, tiny_clip
from tests.references.clip.make_timm import FOLDER
from tests.references.slim.shared_weights import disagreements

TINY = replace(
    CONTRASTIVE_RN50,
    name="tiny",
    build=partial(build, CONFIG),
    input_size=CONFIG.input_size,
    legacy_ops=clip_resnet._legacy_ops(CONFIG),
    named_only=clip_resnet._named_only(CONFIG),
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP as OpenAI published the large ones: traced, of half precision."""
    path = tmp_path_factory.mktemp("clip") / "tiny.pt"
    size = CONFIG.input_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch would rather export, and warns of every shape that a trace fixes
        traced = torch.jit.trace(tiny_clip(), (torch.rand(1, 3, size, size), torch.tensor([1])), check_trace=False)
        torch.jit.save(traced.half(), path)
    return path


def halved() -> torch.nn.Module:
    """The tiny CLIP with the numbers that half precision leaves of it."""
    return tiny_clip().half().float()


@pytest.mark.parametrize(
    ("organism", "layers", "named_only", "conv_units"),
    [(CONTRASTIVE_RN50, 20, 36, 15_232), (CONTRASTIVE_4X, 30, 56, 33_440), (CONTRASTIVE_16X, 44, 84, 60_864)],
)
def test_layers_are_the_stem_the_blocks_and_the_embedding(
    organism: Organism, layers: int, named_only: int, conv_units: int
) -> None:
    shown = [layer for layer in organism.layers.values() if not layer.named_only]
    assert (len(shown), len(organism.layers) - len(shown)) == (layers, named_only)
    assert [layer.name for layer in shown[:4]] == ["stem_1", "stem_2", "stem_3", "image_block_1_0"]
    assert sum(layer.units for layer in shown if layer.kind == "conv") == conv_units
    assert [layer.name for layer in shown if layer.kind == "dense"] == ["embedding"]


@pytest.mark.parametrize(
    ("organism", "last", "units", "embedding", "heads"),
    [
        (CONTRASTIVE_RN50, "image_block_4_2", 2048, 1024, 32),
        (CONTRASTIVE_4X, "image_block_4_5", 2560, 640, 40),
        (CONTRASTIVE_16X, "image_block_4_7", 3072, 768, 48),
    ],
)
def test_sizes_are_the_published_ones(organism: Organism, last: str, units: int, embedding: int, heads: int) -> None:
    assert organism.layer(last).units == units
    assert organism.layer(last).stride == 32
    assert organism.layer("embedding").units == embedding
    assert len(organism.layer("attnpool_heads").branches) == heads


def test_legacy_ops_count_the_sums_of_a_block() -> None:
    """As Microscope had them: `image_block_3_0_Add_8` of contrastive_16x, and `image_block_2_1_add_3`."""
    ops = {name: layer.legacy_op for name, layer in CONTRASTIVE_16X.layers.items() if layer.legacy_op}
    assert len(ops) == 120
    assert ops["image_block_3_0"] == "image_block_3_0_Add_8_0"
    assert ops["image_block_2_1_relu2"] == "image_block_2_1_add_3_0"
    assert ops["image_block_4_7"] == "image_block_4_7_Add_6_0"
    assert CONTRASTIVE_16X.layer("image_block_3_0").units == 1536


def test_what_is_rendered_where_named_leads_nowhere() -> None:
    ends = {name for edge in CONTRASTIVE_RN50.edges for name in edge}
    assert not [name for name in ends if CONTRASTIVE_RN50.layer(name).named_only]
    assert ("image_block_4_2", "embedding") in CONTRASTIVE_RN50.edges
    assert ("image_block_1_0", "image_block_1_1") in CONTRASTIVE_RN50.edges


def activations(network: Graph, pictures: Tensor, layers: list[str]) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(zip(layers, network(pictures, layers), strict=True))


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, CONFIG.input_size, CONFIG.input_size, generator=torch.Generator().manual_seed(1))


def test_every_layer_agrees_with_pytorchs_own_attention_and_norms(published: Path) -> None:
    """From the file as OpenAI's are, through the network that is rendered, with batch norms folded."""
    tensors = converted.fit(TINY, read_openai(published), "tiny")
    found = weights.network(TINY, converted.Weights(tensors, "", None))  # type: ignore[arg-type]
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    with torch.no_grad():
        expected = halved().visual((pictures() - mean) / std)
    for layer, values in activations(found, pictures(), list(expected)).items():
        assert torch.allclose(values, expected[layer], atol=1e-4 * float(expected[layer].abs().max())), layer


def test_heads_queries_keys_and_values_are_those_that_make_the_embedding(published: Path) -> None:
    """Each by its definition, from the last map."""
    network = build(CONFIG).eval()
    network.load_state_dict(converted.fit(TINY, read_openai(published), "tiny"), strict=False)
    names = ["image_block_4_1", *(f"attnpool_{each}" for each in ("q", "k", "v", "heads")), "embedding"]
    last, q, k, v, heads, embedding = activations(network, pictures(1), names).values()
    pool = halved().visual.attnpool
    places = pool.positional_embedding
    at = last[0].flatten(1).T
    tokens = torch.cat([at.mean(0, keepdim=True), at]) + places
    with torch.no_grad():
        assert torch.allclose(q[0], pool.q_proj(tokens[0]), rtol=1e-4, atol=1e-4)
        for found, project in ((k, pool.k_proj), (v, pool.v_proj)):
            assert found.shape == (1, 128, 2, 2)
            assert torch.allclose(found[0].flatten(1).T, project(tokens[1:]), rtol=1e-4, atol=1e-4)
        for head in (slice(0, 64), slice(64, 128)):
            weights_ = (pool.k_proj(tokens)[:, head] @ pool.q_proj(tokens[0])[head] / 8).softmax(0)
            assert torch.allclose(heads[0, head], weights_ @ pool.v_proj(tokens)[:, head], rtol=1e-4, atol=1e-4)
        assert torch.allclose(embedding, pool.c_proj(heads), rtol=1e-4, atol=1e-4)


def timms(path: Path) -> Path:
    """The tiny tower as timm's copies are named; their stages count from 0."""
    renamed = {}
    for name, value in halved().visual.state_dict().items():
        parts = name.split(".")
        if parts[0] == "attnpool":
            last = {"positional_embedding": ["pos_embed"], "c_proj": ["proj", *parts[2:]]}
            parts = ["head", *last.get(parts[1], [parts[1][0], *parts[2:]])]
        elif parts[0].startswith("layer"):
            kinds = {"conv1": "conv1_1x1.conv", "conv2": "conv2_kxk.conv", "conv3": "conv3_1x1.conv"}
            kinds |= {conv.replace("conv", "bn"): to.replace(".conv", ".bn") for conv, to in kinds.items()}
            inner = {"0": "shortcut.conv.conv", "1": "shortcut.conv.bn"}
            inside = [inner[parts[3]], *parts[4:]] if parts[2] == "downsample" else [kinds[parts[2]], *parts[3:]]
            parts = ["stages", str(int(parts[0][-1]) - 1), parts[1], *inside]
        else:
            parts = ["stem", f"conv{parts[0][-1]}", parts[0][:-1], *parts[1:]]
        renamed[".".join(parts)] = value.clone()
    save_file(renamed, path)
    return path


def test_timms_copy_holds_the_same_weights(published: Path, tmp_path: Path) -> None:
    theirs = converted.fit(TINY, read_copy(timms(tmp_path / "model.safetensors")), "timm")
    ours = converted.fit(TINY, read_openai(published), "openai")
    assert converted.identity(theirs) == converted.identity(ours)


def test_open_clips_copy_holds_the_same_weights(published: Path, tmp_path: Path) -> None:
    save_file(
        {name: value.clone() for name, value in halved().state_dict().items()}, tmp_path / "open_clip.safetensors"
    )
    theirs = converted.fit(TINY, read_copy(tmp_path / "open_clip.safetensors"), "open_clip")
    ours = converted.fit(TINY, read_openai(published), "openai")
    assert converted.identity(theirs) == converted.identity(ours)


def test_nothing_of_the_image_tower_is_left_over(published: Path, tmp_path: Path) -> None:
    wanted = set(converted.expected(TINY.blank()))
    for read, path in ((read_openai, published), (read_copy, timms(tmp_path / "model.safetensors"))):
        assert {name for name in read(path) if not converted.uncounted(name)} == wanted


def test_taken_from_a_file_weights_are_float32(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    taken = weights.take(TINY, published)
    assert {value.dtype for value in taken.tensors.values()} == {torch.float32}
    assert taken.provenance.license == UNSTATED  # it is not OpenAI's file
    assert not taken.provenance.official
    assert taken.provenance.ignored == ()


def test_text_tower_is_kept_beside_the_image_tower_it_belongs_to(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    taken = weights.take(TINY, published)
    tower = kept.load(TINY, taken.sha256)
    expected = {name: value.half().float() for name, value in random_texts().items()}
    assert tower.tensors.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in tower.tensors.items())
    assert tower.provenance.file_sha256 == taken.provenance.file_sha256
    with pytest.raises(WeightsError, match=r"text tower of tiny's weights 0000.* is not here; .* OpenAI's RN50.pt"):
        kept.load(TINY, "0" * 64)


def test_open_clips_copy_holds_the_same_text_tower(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "open_clip.safetensors"
    save_file({name: value.clone() for name, value in halved().state_dict().items()}, copy)
    towers = []
    for path in (published, copy):
        monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / path.stem))
        towers.append(kept.load(TINY, weights.take(TINY, path).sha256).sha256)
    assert towers[0] == towers[1]


def test_of_timms_copy_no_text_tower_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path))
    taken = weights.take(TINY, timms(tmp_path / "model.safetensors"))
    assert not kept.kept_file(TINY, taken.sha256).exists()


def test_file_with_a_broken_text_tower_is_refused_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    tensors = {name: value.clone() for name, value in halved().state_dict().items() if name != "ln_final.bias"}
    save_file(tensors, tmp_path / "open_clip.safetensors")
    with pytest.raises(WeightsError, match=r"open_clip.safetensors: its text tower lacks ln_final.bias"):
        weights.take(TINY, tmp_path / "open_clip.safetensors")
    assert not (tmp_path / "cache").exists()


def saved(tensors: dict[str, Tensor]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        file = io.BytesIO()
        torch.save(tensors, file)
        path.write_bytes(file.getvalue())

    return write


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"conv1.weight": torch.zeros(1)}, "has no image tower: expected tensors visual.* of a CLIP"),
        ({}, "found none"),
        ({"visual.conv1.weight": torch.zeros(768, 3, 32, 32)}, r"is not of tiny: stem/conv1.weight has shape \(768"),
        (
            {"visual.proj": torch.zeros(3, 3)},
            "is not of tiny: it has no stem/conv1.weight",
        ),
    ],
)
def test_other_networks_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensors: dict[str, Tensor], reason: str
) -> None:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    saved(tensors)(tmp_path / "net.pt")
    with pytest.raises(WeightsError, match=reason) as caught:
        weights.take(TINY, tmp_path / "net.pt")
    assert "net.pt" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_pictures_of_another_size_are_refused_by_the_attention_pool_alone() -> None:
    network = build(CONFIG).eval()
    small = torch.rand(1, 3, 32, 32)
    assert activations(network, small, ["image_block_4_1"])["image_block_4_1"].shape == (1, 128, 1, 1)
    with pytest.raises(NetworkFailed, match="maps of 2 x 2, not of 1 x 1; expected pictures of the network's own size"):
        network(small, ["embedding"])
    fixed = [name for name, layer in TINY.layers.items() if layer.fixed_size]
    assert fixed == ["attnpool_q", "attnpool_k", "attnpool_v", "attnpool_heads", "embedding"]


@pytest.mark.parametrize("precision", get_args(Precision))
def test_attention_does_not_depend_on_companions(precision: Precision) -> None:
    """Nor do gradients through it, in whatever precision a row may be made."""
    network = weights.network(TINY, weights.random(TINY))
    layers = [name for name, layer in TINY.layers.items() if layer.fixed_size]

    def shown(given: Tensor) -> list[Tensor]:
        given = given.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            values = network(given, layers)
        return [*values, torch.autograd.grad(values[-1].float().square().sum(), given)[0]]

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        together = shown(pictures(8))
        for count in (2, 5):
            both = zip([*layers, "gradient"], shown(pictures(8)[:count]), together, strict=True)
            assert not [name for name, alone, all_ in both if not torch.equal(alone, all_[:count])]
    finally:
        torch.set_num_threads(before)


def test_connections_between_blocks_have_a_closed_form_and_equal_gradients() -> None:
    network = weights.network(TINY, weights.random(TINY))
    shown = [name for name, layer in TINY.layers.items() if not layer.named_only]
    for earlier, later in TINY.edges:
        between = (network, earlier, later, shown)
        assert composable(*between) == (later != "embedding")  # attention has none
        if later != "embedding":
            found = torch.cat(list(compose(*between, CONFIG.input_size, 64)))
            assert torch.allclose(found, torch.cat(list(differentiate(*between, CONFIG.input_size, 64))), atol=1e-6)


def test_input_is_normalised_as_published() -> None:
    network = build(CONFIG)
    (given,) = network(torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]), ["input"])
    expected = [[-m / s for m, s in zip(MEAN, STD, strict=True)], [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)]]
    assert torch.allclose(given[:, :, 0, 0], torch.tensor(expected), atol=1e-5)


def test_folded_norms_leave_the_attention_pools_projections_alone() -> None:
    network = build(CONFIG).eval()
    before = network.get_submodule("attnpool/k_proj").weight.clone()
    fold_batch_norm(network)
    assert torch.equal(network.get_submodule("attnpool/k_proj").weight, before)


@pytest.mark.parametrize(
    "organism",
    [
        pytest.param(CONTRASTIVE_RN50, marks=pytest.mark.long, id="contrastive_rn50"),
        pytest.param(CONTRASTIVE_4X, marks=pytest.mark.hours, id="contrastive_4x"),
        pytest.param(CONTRASTIVE_16X, marks=pytest.mark.hours, id="contrastive_16x"),
    ],
)
def test_every_layer_agrees_with_timm(organism: Organism) -> None:
    off = disagreements(organism, organism.input_size, FOLDER)
    assert list(off) == list(organism.layers)
    assert max(off.values()) < 1e-4
