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
from microscope_atlas.errors import HubFailed, InvalidKey, NetworkFailed, WeightsError
from microscope_atlas.keys import parse_key
from microscope_atlas.models import catalog, weights
from microscope_atlas.models.adapters import transformers as adapter
from microscope_atlas.models.catalog import organism
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
    assert weights.cached_file(organism("transformers:small.vit")).stem.endswith(f"@{first}")


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
    with pytest.raises(NetworkFailed, match="small/words is a bert of transformers, which does not read pictures"):
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
