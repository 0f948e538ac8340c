"""Networks of Hugging Face transformers, from a repository on the Hub, against the library's own forward passes."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import microscope_atlas as ma
from microscope_atlas.atlas.folder import Folder
from microscope_atlas.atlas.manifest import read_manifest
from microscope_atlas.errors import HubFailed, InvalidKey, LensFailed, NetworkFailed, WeightsError
from microscope_atlas.keys import parse_key
from microscope_atlas.lenses import clip
from microscope_atlas.models import at_hand, catalog, weights
from microscope_atlas.models.adapters import transformers as adapter
from microscope_atlas.models.catalog import organism
from microscope_atlas.models.texts import kept
from microscope_atlas.models.texts.tower import text_tower
from microscope_atlas.publish.check import check
from microscope_atlas.run.reproduce import reproduce
from tests.hub_double import Hub

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}
DINO = {**{name: value for name, value in SMALL.items() if name != "intermediate_size"}, "mlp_ratio": 2}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
PICTURES = {"do_resize": True, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
PICTURES |= {"size": {"height": 32, "width": 32}}

# model_type -> class of the checkpoint, its settings, what is built of it, the path of a block
KINDS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "vit": ("ViTForImageClassification", {**SMALL, "num_labels": 3}, "ViTForImageClassification", "vit.layers.1"),
    "dinov2": ("Dinov2Model", DINO, "Dinov2Model", "encoder.layer.1"),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel",
        {**DINO, "num_register_tokens": 2},
        "Dinov2WithRegistersModel",
        "encoder.layer.1",
    ),
    "dinov3_vit": ("DINOv3ViTModel", {**SMALL, "num_register_tokens": 2}, "DINOv3ViTModel", "model.layer.1"),
    "clip": (
        "CLIPModel",
        {"vision_config": SMALL, "text_config": TEXT, "projection_dim": 8},
        "CLIPVisionModelWithProjection",
        "vision_model.encoder.layers.1",
    ),
    "siglip": (
        "SiglipModel",
        {"vision_config": SMALL, "text_config": TEXT},
        "SiglipVisionModel",
        "encoder.layers.1",
    ),
    "convnext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "image_size": 32, "num_labels": 3},
        "ConvNextForImageClassification",
        "convnext.encoder.stages.3.layers.0",
    ),
    "swin": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "SwinForImageClassification",
        "swin.encoder.layers.1.blocks.0",
    ),
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MICROSCOPE_ATLAS_CACHE", str(tmp_path / "cache"))
    catalog._foreign.cache_clear()
    return tmp_path / "cache"


def checkpoint(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> dict[str, bytes]:
    """The files of a small checkpoint of that kind, as the library writes them."""
    library = adapter.imported()
    class_name, settings, _, _ = KINDS[kind]
    config = library.AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(library, class_name)(config).to(dtype).save_pretrained(folder)
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    processor = {**PICTURES, "image_processor_type": "ViTImageProcessor"}
    return {
        **files,
        "preprocessor_config.json": json.dumps(processor).encode(),
        "README.md": b"---\nlicense: apache-2.0\n---\nA small one.\n",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_network_is_the_librarys_with_its_trained_weights(kind: str, hub: Hub, tmp_path: Path) -> None:
    hub.commit("models/some-one/a-small_one", checkpoint(tmp_path / "made", kind))
    known = organism("transformers:some-one/a-small_one")
    assert known.name == "transformers:some_one.a_small_one"
    assert (known.input_size, known.channels) == (32, 3)
    given = weights.load(known)
    assert given.provenance.license == "apache-2.0"
    assert given.provenance.source.startswith(f"https://huggingface.co/some-one/a-small_one/tree/{known.revision}, ")
    network = weights.network(known, given)
    _, _, built, block = KINDS[kind]
    width = {"projection_dim": 8} if kind == "clip" else {}  # which the whole model's settings say, not its tower's
    with adapter.quiet(adapter.imported()):
        module = getattr(adapter.imported(), built).from_pretrained(tmp_path / "made", **width).eval()
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = {}
    module.get_submodule(block).register_forward_hook(lambda _, __, out: seen.update(out=out))
    with torch.no_grad():
        module((picture - 0.5) / 0.25)
    theirs = seen["out"][0] if isinstance(seen["out"], tuple) else seen["out"]
    name = block.replace(".", "_")
    if kind not in ("convnext", "swin"):  # whose blocks' outputs are no layers
        ours = network(picture, [name])[0]
        places = theirs[:, theirs.shape[1] - ours.shape[2] * ours.shape[3] :]
        torch.testing.assert_close(ours.flatten(2).mT, places, atol=1e-5, rtol=1e-5)
    logits = [name for name, layer in known.layers.items() if layer.kind == "dense" and not layer.named_only]
    if built.endswith("ForImageClassification"):
        with torch.no_grad():
            torch.testing.assert_close(network(picture, logits[-1:])[0], module((picture - 0.5) / 0.25).logits)


def test_every_kind_shows_its_blocks(hub: Hub, tmp_path: Path) -> None:
    shown = {}
    for kind, (*_, block) in KINDS.items():
        hub.commit(f"models/small/{kind}", checkpoint(tmp_path / kind, kind))
        layers = organism(f"transformers:small/{kind}").layers
        shown[kind] = [name for name in layers if name.startswith(block.replace(".", "_"))]
    assert all(shown.values()), shown


def test_checkpoint_in_half_precision_is_taken_in_float32(hub: Hub, tmp_path: Path) -> None:
    hub.commit("models/small/vit", checkpoint(tmp_path / "made", "vit", torch.bfloat16))
    tensors = weights.load(organism("transformers:small/vit")).tensors
    assert {value.dtype for value in tensors.values()} == {torch.float32}


def test_key_stands_for_the_commit_that_was_asked_for(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    first = hub.commit("models/small/vit", files).oid
    hub.commit("models/small/vit", {"README.md": b"---\nlicense: mit\n---\n"})
    assert organism("transformers:small/vit").revision != first
    assert organism(f"transformers:small/vit@{first}").revision == first
    catalog._foreign.cache_clear()
    assert organism("transformers:small.vit").revision == first
    assert at_hand.cached_file(organism("transformers:small.vit")).stem.endswith(f"@{first}")


def test_key_is_known_from_what_an_atlas_states(hub: Hub, tmp_path: Path) -> None:
    hub.commit("models/small/vit", checkpoint(tmp_path / "made", "vit"))
    with pytest.raises(NetworkFailed, match="name it once as the Hub does: microscope-atlas models transformers:OWNER"):
        organism("transformers:small.vit")
    commit = hub.oid("models/small/vit")
    adapter.remember(f"https://huggingface.co/small/vit/tree/{commit}, read by transformers 5.24.0")
    assert organism("transformers:small.vit").revision == commit


def test_two_repositories_of_one_key_are_refused(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    hub.commit("models/small/a-vit", files)
    hub.commit("models/small/a_vit", files)
    organism("transformers:small/a-vit")
    with pytest.raises(InvalidKey, match=r"small/a_vit and small/a-vit are both transformers:small.a_vit in keys"):
        organism("transformers:small/a_vit")


def test_what_does_not_fit_is_refused_in_a_sentence(hub: Hub, tmp_path: Path) -> None:
    from safetensors.torch import load, save

    files = checkpoint(tmp_path / "made", "vit")
    tensors = load(files["model.safetensors"])
    lacking = save({name: value for name, value in tensors.items() if "classifier" not in name}, {"format": "pt"})
    hub.commit("models/small/lacking", {**files, "model.safetensors": lacking})
    with pytest.raises(WeightsError, match=r"does not fit ViTForImageClassification: missing 2 tensors, classifier"):
        weights.load(organism("transformers:small/lacking"))
    pickled = {name: content for name, content in files.items() if name != "model.safetensors"}
    hub.commit("models/small/pickled", {**pickled, "pytorch_model.bin": b"\x80"})
    with pytest.raises(WeightsError, match=r"has no model.safetensors; files of other formats can hold code"):
        weights.load(organism("transformers:small/pickled"))
    words = json.dumps({"model_type": "bert", "architectures": ["BertModel"]}).encode()
    hub.commit("models/small/words", {**files, "config.json": words})
    with pytest.raises(NetworkFailed, match="small/words is a bert of transformers, which is not taken"):
        organism("transformers:small/words")
    unknown = json.dumps({"model_type": "brand_new"}).encode()
    hub.commit("models/small/unknown", {**files, "config.json": unknown})
    with pytest.raises(NetworkFailed, match=r"small/unknown: transformers [\d.]+ does not read it"):
        organism("transformers:small/unknown")
    bare = {name: content for name, content in files.items() if name != "preprocessor_config.json"}
    hub.commit("models/small/bare", bare)
    with pytest.raises(NetworkFailed, match="small/bare does not say how its pictures are prepared"):
        organism("transformers:small/bare")
    with pytest.raises(HubFailed, match="small/nothing"):
        organism("transformers:small/nothing")


def prepared(hub: Hub, files: dict[str, bytes], **changes: Any) -> Any:
    """The network whose image processor has other settings."""
    processor = {**PICTURES, "image_processor_type": "ViTImageProcessor", **changes}
    hub.commit("models/small/vit", {**files, "preprocessor_config.json": json.dumps(processor).encode()})
    catalog._foreign.cache_clear()
    return organism("transformers:small/vit").build()


def test_scale_of_pictures_is_that_of_the_image_processor(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    byte = torch.tensor([0.0, 51.0, 255.0]).view(1, 3, 1, 1)
    for changes, expected in (
        ({}, (byte / 255 - 0.5) / 0.25),
        ({"rescale_factor": 1 / 127.5}, (byte / 127.5 - 0.5) / 0.25),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [64] * 3}, (byte - 127.5) / 64),
        ({"do_normalize": False}, byte / 255),
    ):
        network = prepared(hub, files, **changes)
        torch.testing.assert_close((byte / 255 - network.mean) / network.std, expected.expand(1, 3, 1, 1))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_mean": [0.5, 0.5]}, "expected three numbers"),
        ({"image_std": [0.0] * 3}, "expected three numbers"),
        ({"image_mean": 0.5}, "not iterable"),
        ({"size": {"height": 32, "width": 48}}, "expected squares of one size"),
        ({"size": {"height": 100_000, "width": 100_000}}, "expected squares of one size"),
        ({"image_processor_type": "EfficientNetImageProcessor", "include_top": True}, "a second time"),
        ({"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True}, "blue, green, red"),
    ],
)
def test_preparation_that_is_not_followed_is_refused(
    hub: Hub, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(NetworkFailed, match=f"small/vit: how its pictures are prepared is not followed here: .*{told}"):
        prepared(hub, checkpoint(tmp_path / "made", "vit"), **changes)


def test_bare_network_needs_no_pooler(hub: Hub, tmp_path: Path) -> None:
    library = adapter.imported()
    library.ViTModel(library.ViTConfig(**SMALL), add_pooling_layer=False).save_pretrained(tmp_path / "made")
    files = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
    processor = json.dumps({**PICTURES, "image_processor_type": "ViTImageProcessor"}).encode()
    hub.commit("models/small/dino", {**files, "preprocessor_config.json": processor})
    known = organism("transformers:small/dino")
    assert "pooler_dense" not in known.layers
    assert weights.load(known).tensors.keys() == weights.random(known).tensors.keys()


def test_files_that_cannot_be_loaded_are_named(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    hub.commit("models/small/cut", {**files, "model.safetensors": files["model.safetensors"][:100]})
    with pytest.raises(WeightsError, match=r"small/cut/tree/\w+ cannot be loaded: "):
        weights.load(organism("transformers:small/cut"))
    whole = files.pop("model.safetensors")
    index = json.dumps({"metadata": {}, "weight_map": {"a": "pytorch_model.bin"}}).encode()
    hub.commit("models/small/mixed", {**files, "model.safetensors.index.json": index, "pytorch_model.bin": whole})
    with pytest.raises(WeightsError, match=r"names pytorch_model.bin, which can hold code and is not read"):
        weights.load(organism("transformers:small/mixed"))


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"model_type": "vit", "hidden_size": "16"}', b"[" * 100_000])
def test_broken_settings_are_refused_in_a_sentence(hub: Hub, tmp_path: Path, broken: bytes) -> None:
    hub.commit("models/small/vit", {**checkpoint(tmp_path / "made", "vit"), "config.json": broken})
    with pytest.raises(NetworkFailed, match=r"small/vit: transformers [\d.]+ does not read it"):
        organism("transformers:small/vit")


def test_name_that_was_asked_for_works_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    hub.commit("models/small/vit", checkpoint(tmp_path / "made", "vit"))
    commit = organism("transformers:small/vit").revision
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    catalog._foreign.cache_clear()
    assert organism("transformers:small/vit").revision == commit


def test_atlas_says_which_commit_its_key_means(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    first = hub.commit("models/small/vit", files).oid
    source = f"https://huggingface.co/small/vit/tree/{first}, read by transformers"
    hub.commit("models/small/vit", {"README.md": b"later"})
    assert organism("transformers:small/vit").revision != first
    catalog.note_origin("transformers:small.vit", source)
    assert organism("transformers:small.vit").revision == first


def test_rows_are_rendered_and_made_again_where_nobody_typed_the_name(
    hub: Hub, tmp_path: Path, own_cache: Path
) -> None:
    hub.commit("models/small/a-vit", checkpoint(tmp_path / "made", "vit"))
    lens = "feature_visualization"
    ma.render(
        tmp_path / "atlas",
        models=["transformers:small/a-vit"],
        layers=["vit_layers_1_mlp"],
        units=[3],
        lenses=[lens],
        settings={lens: {"ascent.steps": 2}},
        device="cpu",
        workers=1,
    )
    atlas = Folder(tmp_path / "atlas")
    assert list(read_manifest(atlas).models) == ["transformers:small.a_vit"]
    assert list(check(atlas)) == []
    (own_cache / "transformers" / "small.a_vit.json").unlink()
    catalog._foreign.cache_clear()
    _, remade = reproduce(atlas, parse_key("transformers:small.a_vit/vit_layers_1_mlp/3"), lens, torch.device("cpu"))
    assert all(row.close for row in remade)


def test_license_is_the_cards_and_a_key_asks_nobody_again(hub: Hub, tmp_path: Path) -> None:
    files = checkpoint(tmp_path / "made", "vit")
    for name, card, expected in (
        ("stated", files["README.md"], "apache-2.0"),
        ("silent", b"No head.\n", "not stated"),
        ("broken", b"---\nlicense: [\n---\n", "not stated"),
        ("none", None, "not stated"),
    ):
        rest = {path: content for path, content in files.items() if path != "README.md"}
        hub.commit(f"models/small/{name}", rest if card is None else {**rest, "README.md": card})
        (source,) = organism(f"transformers:small/{name}").sources
        assert source.license == expected
    hub.requests.clear()
    catalog._foreign.cache_clear()
    organism("transformers:small.stated")
    assert hub.requests == []


def test_texts_of_a_clip_are_embedded_as_the_library_does(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built as OpenAI's, but small: both towers give the library's vectors."""
    library = adapter.imported()
    text = {**TEXT, "hidden_size": 8, "num_attention_heads": 1, "vocab_size": 49_408, "max_position_embeddings": 9}
    text |= {"bos_token_id": 49_406, "eos_token_id": 49_407}
    monkeypatch.setitem(
        KINDS, "clip", ("CLIPModel", {"vision_config": SMALL, "text_config": text, "projection_dim": 6}, "", "")
    )
    hub.commit("models/small/clip", checkpoint(tmp_path / "made", "clip"))
    known = organism("transformers:small/clip")
    given = weights.load(known)
    assert known.texts is not None
    assert known.layer(known.texts.layer).units == 6
    tokens = torch.tensor([[49_406, 320, 49_407, 0], [49_406, 7, 1929, 49_407]])
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with adapter.quiet(library):
        whole = library.CLIPModel.from_pretrained(tmp_path / "made").eval()
    with torch.no_grad():
        told = whole.text_model(input_ids=tokens)
        texts = whole.text_projection(told.pooler_output)
        pictures = whole.visual_projection(whole.vision_model((picture - 0.5) / 0.25).pooler_output)
        tower = text_tower(kept.load(known, given.sha256).tensors)
        torch.testing.assert_close(tower(tokens), texts, atol=1e-5, rtol=1e-4)
    seen = weights.network(known, given)(picture, [known.texts.layer])[0]
    torch.testing.assert_close(seen, pictures, atol=1e-5, rtol=1e-4)
    assert clip.taken("transformers:small/clip") == f"transformers:small.clip@{given.sha256}"
    kept.kept_file(known, given.sha256).unlink()  # of a cache that is older than this
    assert clip.taken("transformers:small/clip") == f"transformers:small.clip@{given.sha256}"
    assert kept.kept_file(known, given.sha256).exists()


def test_clip_whose_texts_are_not_read_here_knows_pictures_alone(hub: Hub, tmp_path: Path) -> None:
    hub.commit("models/small/clip", checkpoint(tmp_path / "made", "clip"))  # of another vocabulary
    assert organism("transformers:small/clip").texts is None
    with pytest.raises(LensFailed, match=r"transformers:small\.clip has no text tower: it knows pictures alone"):
        clip.taken("transformers:small/clip")
