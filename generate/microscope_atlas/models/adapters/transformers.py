"""Image networks of Hugging Face transformers: `transformers:facebook/dinov2-base`, or at a revision `...@main`.

A key has no room for the repository's own spelling: `facebook/dinov2-base` is `transformers:facebook.dinov2_base` in
keys and folders. Which repository and commit that is, is noted in the cache when it is asked for by its own name, and
stands in the provenance of an atlas, from where it is noted again.

Of a network of pictures and texts the image tower is taken; of a CLIP that is built as OpenAI's the text tower is kept
beside it. The library is imported only when such a network is asked
for. https://huggingface.co/docs/transformers
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache as once
from functools import partial
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.cache import cache, whole
from microscope_atlas.errors import HubFailed, InvalidKey, NetworkFailed, WeightsError, first_line
from microscope_atlas.hub.cached import offline
from microscope_atlas.hub.repo import SITE, Repo
from microscope_atlas.models.adapters import torchvision, transformers_texts
from microscope_atlas.models.formats.state_dict import read_safetensors
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import UNSTATED, Library, Organism, Texts

PREFIX = "transformers:"
CLASSIFIERS = ("ForImageClassification", "ForImageClassificationWithTeacher")
SOURCE = re.compile(rf"{re.escape(SITE)}/(?P<name>[^/\s]+/[^/\s]+)/tree/(?P<commit>[0-9a-f]{{40}})\b")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MOST_PX = 4096  # on a side
UNNAMED = re.compile(r"LABEL_\d+")  # a class whose name the checkpoint does not say


@dataclass(frozen=True)
class Checkpoint:
    """A repository at a commit."""

    name: str  # `owner/name`
    commit: str

    @property
    def key(self) -> str:
        """What it is called in keys, after the prefix."""
        return self.name.replace("/", ".").replace("-", "_")

    @property
    def note(self) -> Path:
        """The file that says what the key stands for."""
        return _note(self.key)

    @property
    def where(self) -> str:
        """What a provenance says."""
        return f"{SITE}/{self.name}/tree/{self.commit}"

    def remember(self) -> None:
        """Note what the key stands for; InvalidKey where it is another repository's already."""
        if (there := _remembered(self.key)) and there.name != self.name:
            raise InvalidKey(
                f"{self.name} and {there.name} are both {PREFIX}{self.key} in keys; to take {self.name} on this "
                f"machine, remove {self.note}"
            )
        with whole(self.note) as beside:
            beside.write_text(json.dumps(asdict(self)) + "\n")


def organism(name: str) -> Organism:
    """The organism `transformers:OWNER/NAME`, at its newest commit or at that of `@REVISION`; or by its key.

    HubFailed where the Hub does not answer or has no such repository, NetworkFailed without the library or for what is
    no network of pictures.
    """
    checkpoint = _asked(name) if "/" in name else _known(name)
    library, config = _config(checkpoint)
    texts = _texts(library, config, checkpoint)
    model_class, config = _image_model(library, config, checkpoint)
    size, mean, std = _pictures(library, checkpoint)
    called = f"{PREFIX}{checkpoint.key}"

    def build() -> Traced:
        with torchvision.built(called):
            module = model_class._from_config(config, dtype=torch.float32, **_built_with(model_class))
        return Traced(module, mean, std, size)

    classes = _classes(config) if model_class.__name__.endswith(CLASSIFIERS) else None
    return Organism(
        name=called,
        title=f"{checkpoint.name} (transformers)",
        paper=None,
        year=None,
        dataset=UNSTATED,
        input_size=size,
        build=build,
        legacy_ops={},
        sources=(
            Library(
                where=f"{checkpoint.where}, read by transformers {library.__version__}",
                load=partial(_load, model_class, config, checkpoint),
                license=Repo(checkpoint.name, "model").license(checkpoint.commit) or UNSTATED,
            ),
        ),
        name_classes=(lambda: classes) if classes else None,
        texts=texts,
        revision=checkpoint.commit,
    )


def remember(source: str) -> bool:
    """Note the repository and commit that an atlas' provenance states, for its key; whether that is news."""
    if not (found := SOURCE.match(source)):
        return False
    checkpoint = Checkpoint(found["name"], found["commit"])
    if _remembered(checkpoint.key) == checkpoint:
        return False
    checkpoint.remember()
    return True


@once
def imported() -> ModuleType:
    """transformers, or NetworkFailed with the command that installs it."""
    torchvision.imported()  # whose operators it imports, and cannot by itself beside a PyTorch without CUDA
    try:
        import transformers
    except ImportError as error:
        raise NetworkFailed(
            f"transformers cannot be imported ({error}); pip install 'microscope-atlas[transformers]'"
        ) from error
    library: ModuleType = transformers
    return library


def _asked(name: str) -> Checkpoint:
    repository, _, revision = name.partition("@")
    repo = Repo(repository, "model")
    checkpoint = Checkpoint(repository, repo.resolve_and_note(revision or "main"))
    checkpoint.remember()
    return checkpoint


def _known(key: str) -> Checkpoint:
    if found := _remembered(key):
        return found
    raise NetworkFailed(
        f"which repository {PREFIX}{key} is was not asked for on this machine yet; name it once as the Hub does: "
        f"microscope-atlas models {PREFIX}OWNER/NAME"
    )


def _remembered(key: str) -> Checkpoint | None:
    note = _note(key)
    try:
        return Checkpoint(**json.loads(note.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise NetworkFailed(f"{note} is damaged ({error}); remove it") from error


def _note(key: str) -> Path:
    return cache() / "transformers" / f"{key}.json"


def _config(checkpoint: Checkpoint) -> tuple[ModuleType, Any]:
    repo = Repo(checkpoint.name, "model")
    folder = repo.download("config.json", checkpoint.commit).parent
    library = imported()
    try:
        return library, library.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever a file of settings leads to in the library
        raise NetworkFailed(
            f"{checkpoint.name}: transformers {library.__version__} does not read it: {first_line(error)}"
        ) from error


def _image_model(library: ModuleType, config: Any, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The class that is built, and its configuration: the classifier, else the bare network or image tower."""
    named = str(next(iter(getattr(config, "architectures", None) or ()), ""))
    if named.endswith(CLASSIFIERS) and hasattr(library, named):
        found = getattr(library, named)
    elif config.model_type == "clip":
        config.vision_config.projection_dim = config.projection_dim
        found, config = library.CLIPVisionModelWithProjection, config.vision_config
    else:
        config = getattr(config, "vision_config", config)
        found = library.MODEL_MAPPING.get(type(config), None)
        found = found[0] if isinstance(found, tuple | list) else found
    if getattr(found, "main_input_name", "") != "pixel_values":
        raise NetworkFailed(
            f"{checkpoint.name} is a {config.model_type} of transformers, which is not taken for a network of pictures "
            "alone; those are ViT, DeiT, BEiT, DINOv2, DINOv3, CLIP, SigLIP, ConvNeXt, ResNet, Swin and their kin"
        )
    return found, config


def _texts(library: ModuleType, config: Any, checkpoint: Checkpoint) -> Texts | None:
    """Where texts come in, of a CLIP whose text tower is read here; None of all others."""
    if config.model_type != "clip" or not transformers_texts.is_read(config):
        return None
    text = config.text_config
    text.projection_dim = config.projection_dim

    def load() -> dict[str, Tensor]:
        return transformers_texts.named(_load(library.CLIPTextModelWithProjection, text, checkpoint))

    return Texts(
        "visual_projection",
        lambda path: transformers_texts.named(read_safetensors(path)),
        f"{WHOLE} of {checkpoint.name}",
        load,
    )


def _built_with(model_class: Any) -> dict[str, Any]:
    """What it is built with beside its configuration: attention written out, and no pooler where that may be chosen.

    Not every checkpoint of a bare network has a pooler.
    """
    optional = "add_pooling_layer" in signature(model_class.__init__).parameters
    return {"attn_implementation": "eager"} | ({"add_pooling_layer": False} if optional else {})


def _pictures(library: ModuleType, checkpoint: Checkpoint) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Pixels on a side, mean and standard deviation, from the image processor."""
    repo = Repo(checkpoint.name, "model")
    try:
        folder = repo.download("preprocessor_config.json", checkpoint.commit).parent
    except HubFailed as error:
        raise NetworkFailed(f"{checkpoint.name} does not say how its pictures are prepared: {error}") from error
    try:
        return _prepared(library.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False))
    except Exception as error:  # whatever a file of settings leads to in the library
        raise NetworkFailed(
            f"{checkpoint.name}: how its pictures are prepared is not followed here: {first_line(error)}"
        ) from error


def _prepared(processor: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """What an image processor does to bytes, as pixels on a side, mean and deviation of pictures in [0, 1].

    ValueError for what is more than a size, a scale and a normalisation.
    """
    stated = processor.crop_size if getattr(processor, "do_center_crop", None) else processor.size
    sides = {stated[side] for side in ("height", "width", "shortest_edge") if stated.get(side)}
    if len(sides) != 1 or not 0 < next(iter(sides)) <= MOST_PX:
        raise ValueError(f"sizes {sorted(sides)}; expected squares of one size, up to {MOST_PX} px")
    if getattr(processor, "do_flip_channel_order", False):
        raise ValueError("its channels are in the order blue, green, red")
    if getattr(processor, "rescale_offset", False) or getattr(processor, "include_top", False):
        raise ValueError("it shifts or divides pictures a second time")
    scale = 255.0 * processor.rescale_factor if processor.do_rescale else 255.0  # of pictures in [0, 1]
    mean = tuple(float(each) for each in processor.image_mean) if processor.do_normalize else (0.0,)
    std = tuple(float(each) for each in processor.image_std) if processor.do_normalize else (1.0,)
    if {len(mean), len(std)} - {1, 3} or not all(each > 0 for each in std) or not scale > 0:
        raise ValueError(f"mean {mean} and deviation {std}; expected three numbers each, the latter above 0")
    return sides.pop(), tuple(each / scale for each in mean), tuple(each / scale for each in std)


def _classes(config: Any) -> tuple[str, ...] | None:
    stated = getattr(config, "id2label", None)
    if not isinstance(stated, dict) or not all(isinstance(name, str) for name in stated.values()):
        return None
    names = tuple(stated[number] for number in sorted(stated))
    return None if all(UNNAMED.fullmatch(name) for name in names) else names


def _load(model_class: Any, config: Any, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The trained tensors in float32, from safetensors alone; WeightsError where the file lacks any."""
    folder = _fetched(checkpoint)
    try:
        with quiet(imported()):
            trained, told = model_class.from_pretrained(
                folder,
                config=config,
                **_built_with(model_class),
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below
            )
    except Exception as error:  # whatever a damaged file, or one of another format, leads to in the library
        raise WeightsError(f"{checkpoint.where} cannot be loaded: {first_line(error)}") from error
    for what in ("missing_keys", "mismatched_keys"):
        if lacking := sorted(str(name) for name in told.get(what) or ()):
            raise WeightsError(
                f"{checkpoint.where} does not fit {model_class.__name__}: {what.replace('_keys', '')} "
                f"{len(lacking)} tensors, {', '.join(lacking[:3])}"
            )
    return {name: value.clone() for name, value in trained.state_dict().items()}


@contextmanager
def quiet(library: ModuleType) -> Iterator[None]:
    """The library logs nothing but errors: a tower's checkpoint has tensors of the other tower, which it lists."""
    logging = library.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _fetched(checkpoint: Checkpoint) -> Path:
    """The folder of the Hub's cache that holds its safetensors; WeightsError where there are none."""
    repo = Repo(checkpoint.name, "model")
    there = repo.sizes(checkpoint.commit)
    if WHOLE in there:
        return repo.download(WHOLE, checkpoint.commit).parent
    if INDEX not in there and offline():
        raise WeightsError(f"the weights of {checkpoint.where} are not in the Hub's cache, and HF_HUB_OFFLINE is set")
    if INDEX not in there:
        raise WeightsError(f"{checkpoint.where} has no {WHOLE}; files of other formats can hold code and are not read")
    index = repo.download(INDEX, checkpoint.commit)
    try:
        parts = {str(part) for part in json.loads(index.read_text())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{checkpoint.where}: {INDEX} is damaged: {error!r}") from error
    if others := [part for part in sorted(parts) if not part.endswith(".safetensors")]:
        raise WeightsError(f"{checkpoint.where}: {INDEX} names {others[0]}, which can hold code and is not read")
    for part in sorted(parts):
        repo.download(part, checkpoint.commit)
    return index.parent
