"""Writes tests/references/dictionaries/: small dictionaries as the libraries themselves save them, with their codes.

Run by hand, in an environment of its own: sae-lens 6.54.12 (with transformer_lens 2.16.1), overcomplete 0.3.0, saev
0.1.0, einops, beartype, jaxtyping, typeguard, beside this package's torch. What these import and do not use here may be
absent: an empty module stands in for it.

    python -m tests.references.make_dictionaries

`index.json` has versions and the sha256 of every file. Of each dictionary `codes.safetensors` has the library's own
`encode` of the same inputs.
"""

import hashlib
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "dictionaries"
WIDTH, UNITS, PLACES = 6, 24, 10


def imported(name: str):
    """A module, with stand-ins for what it imports and this machine lacks."""
    while True:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            assert error.name and not error.name.startswith(name.split(".")[0]), error
            sys.modules[error.name] = MagicMock()
            for loaded in [each for each in sys.modules if each.split(".")[0] == name.split(".")[0]]:
                del sys.modules[loaded]


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Weights of which about half of the codes are above zero."""
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=stream) * 0.5)
    return module.eval()


def saelens(inputs: torch.Tensor, codes: dict[str, torch.Tensor]) -> None:
    library = imported("sae_lens.saes")
    sae = imported("sae_lens.saes.sae")
    standard = imported("sae_lens.saes.standard_sae")
    topk = imported("sae_lens.saes.topk_sae")
    jump = imported("sae_lens.saes.jumprelu_sae")
    transcoder = imported("sae_lens.saes.transcoder")
    batch = imported("sae_lens.saes.batchtopk_sae")
    said = sae.SAEMetadata(model_name="tiny", hook_name="blocks.1.hook_mlp_out")
    sizes = {"d_in": WIDTH, "d_sae": UNITS, "metadata": said}
    made = {
        "standard": standard.StandardSAE(standard.StandardSAEConfig(**sizes)),
        "layer_norm": standard.StandardSAE(standard.StandardSAEConfig(**sizes, normalize_activations="layer_norm")),
        "unit_norm": standard.StandardSAE(
            standard.StandardSAEConfig(**sizes, normalize_activations="constant_norm_rescale")
        ),
        "unshifted": standard.StandardSAE(standard.StandardSAEConfig(**sizes, apply_b_dec_to_input=False)),
        "topk": topk.TopKSAE(topk.TopKSAEConfig(**sizes, k=3)),
        "topk_rescaled": topk.TopKSAE(topk.TopKSAEConfig(**sizes, k=3, rescale_acts_by_decoder_norm=True)),
        "jumprelu": jump.JumpReLUSAE(jump.JumpReLUSAEConfig(**sizes)),
        "transcoder": transcoder.Transcoder(
            transcoder.TranscoderConfig(**sizes, d_out=WIDTH, apply_b_dec_to_input=False)
        ),
    }
    for name, each in made.items():
        fill(each)
        each.save_model(FOLDER / f"saelens_{name}")
        codes[f"saelens_{name}"] = each.encode(inputs)
    trained = batch.BatchTopKTrainingSAE(batch.BatchTopKTrainingSAEConfig(d_in=WIDTH, d_sae=UNITS, k=3, metadata=said))
    fill(trained)
    trained.topk_threshold.fill_(0.7)
    trained.save_inference_model(FOLDER / "saelens_batchtopk")
    codes["saelens_batchtopk"] = sae.SAE.load_from_disk(FOLDER / "saelens_batchtopk").encode(inputs)
    assert library


def overcomplete(inputs: torch.Tensor, codes: dict[str, torch.Tensor]) -> None:
    sys.modules["overcomplete.visualization"] = MagicMock()  # which asks for an older matplotlib
    library = imported("overcomplete.sae")
    norm = torch.nn.BatchNorm1d
    modules = imported("overcomplete.sae.modules")
    normed = modules.MLPEncoder(WIDTH, UNITS, nb_blocks=0, norm_layer=norm)
    made = {
        "relu": (library.SAE(WIDTH, UNITS), {"class": "SAE"}),
        "batch_norm": (library.SAE(WIDTH, UNITS, encoder_module=normed), {"class": "SAE"}),
        "topk": (library.TopKSAE(WIDTH, UNITS, top_k=3), {"class": "TopKSAE", "top_k": 3}),
        "jump": (library.JumpSAE(WIDTH, UNITS), None),
        "batchtopk": (library.BatchTopKSAE(WIDTH, UNITS, top_k=4), None),
    }
    for name, (each, told) in made.items():
        fill(each)
        path = FOLDER / f"overcomplete_{name}.pt"
        torch.save(each.state_dict(), path)
        if told:
            path.with_name(f"{path.name}.json").write_text(json.dumps(told) + "\n")
        if name != "batchtopk":
            codes[path.name] = each.encode(inputs)[1]


def saev(inputs: torch.Tensor, codes: dict[str, torch.Tensor]) -> None:
    nn, config = imported("saev.nn"), imported("saev.config")
    made = fill(nn.SparseAutoencoder(config.SparseAutoencoder(d_vit=WIDTH, exp_factor=4)))
    nn.dump(str(FOLDER / "saev_0_1.pt"), made)
    codes["saev_0_1.pt"] = made(inputs)[1]


def main() -> None:
    from microscope_atlas.models.adapters import torchvision

    torchvision.imported()  # which transformers imports, and cannot by itself beside a PyTorch without CUDA
    FOLDER.mkdir(exist_ok=True)
    inputs, codes = torch.randn(PLACES, WIDTH, generator=torch.Generator().manual_seed(0)), {}
    with torch.no_grad():
        saelens(inputs, codes)
        overcomplete(inputs, codes)
        saev(inputs, codes)
    made = {name: value.detach().contiguous().clone() for name, value in codes.items()}
    save_file({"inputs": inputs, **made}, FOLDER / "codes.safetensors")
    files = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.name != "index.json")
    index = {
        "versions": {name: version(name) for name in ("sae-lens", "overcomplete", "saev", "torch", "safetensors")},
        "sha256": {str(path.relative_to(FOLDER)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (FOLDER / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
