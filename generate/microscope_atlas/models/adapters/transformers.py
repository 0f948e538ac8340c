"""Image networks of Hugging Face transformers: `transformers:facebook/dinov2-base`, or at a revision `...@main`.

A key has no room for the repository's own spelling: `facebook/dinov2-base` is `transformers:facebook.dinov2_base` in
keys and folders. Which repository and commit that is, is noted in the cache when it is asked for by its own name, and
stands in the provenance of an atlas, from where it is noted again.

Of a network of pictures and texts the image tower is taken. The library is imported only when such a network is asked
for. https://huggingface.co/docs/transformers
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache as once
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from microscope_atlas.cache import cache
from microscope_atlas.errors import HubFailed, InvalidKey, NetworkFailed, WeightsError
from microscope_atlas.hub.repo import SITE, Repo
from microscope_atlas.models.adapters import torchvision
from microscope_atlas.models.networks.traced import Traced
from microscope_atlas.models.organism import UNSTATED, Library, Organism

PREFIX = "transformers:"
CLASSIFIERS = ("ForImageClassification", "ForImageClassificationWithTeacher")
SOURCE = re.compile(rf"{re.escape(SITE)}/(?P<name>[^/\s]+/[^/\s]+)/tree/(?P<commit>[0-9a-f]{{40}})\b")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
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
        self.note.parent.mkdir(parents=True, exist_ok=True)
        beside = self.note.with_suffix(".part")
        beside.write_text(json.dumps(asdict(self)) + "\n")
        beside.replace(self.note)


def organism(name: str) -> Organism:
    """The organism `transformers:OWNER/NAME`, at its newest commit or at that of `@REVISION`; or by its key.

    HubFailed where the Hub does not answer or has no such repository, NetworkFailed without the library or for what is
    no network of pictures.
    """
    checkpoint = _asked(name) if "/" in name else _known(name)
    library, config = _config(checkpoint)
    model_class, config = _image_model(library, config, checkpoint)
    size, mean, std = _pictures(library, checkpoint)
    called = f"{PREFIX}{checkpoint.key}"

    def build() -> Traced:
        with torchvision.built(called):
            module = model_class._from_config(config, dtype=torch.float32, attn_implementation="eager")
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
        revision=checkpoint.commit,
    )


def remember(source: str) -> None:
    """Note the repository and the commit that the provenance of an atlas states, for its key."""
    if found := SOURCE.match(source):
        checkpoint = Checkpoint(found["name"], found["commit"])
        if _remembered(checkpoint.key) is None:
            checkpoint.remember()


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
    checkpoint = Checkpoint(repository, Repo(repository, "model").resolve(revision or "main"))
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
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise NetworkFailed(f"{checkpoint.name}: transformers {library.__version__} does not read it: "
                            f"{_first_line(error)}") from error  # fmt: skip


def _image_model(library: ModuleType, config: Any, checkpoint: Checkpoint) -> tuple[Any, Any]:
    """The class that is built, and its configuration: the classifier, else the bare network, of both the image tower.

    A bare network goes without the pooler that some classes add: not every checkpoint has one.
    """
    if hasattr(config, "vision_config"):
        tower = config.vision_config
        if config.model_type == "clip":
            tower.projection_dim = config.projection_dim
            return library.CLIPVisionModelWithProjection, tower
        config = tower
    named = next(iter(getattr(config, "architectures", None) or ()), "")
    if named.endswith(CLASSIFIERS) and hasattr(library, named):
        found = getattr(library, named)
    elif type(config) in library.MODEL_MAPPING:
        found = library.MODEL_MAPPING[type(config)]
        found = found[0] if isinstance(found, tuple | list) else found
    else:
        found = None
    if found is None or getattr(found, "main_input_name", "") != "pixel_values":
        raise NetworkFailed(
            f"{checkpoint.name} is a {config.model_type} of transformers, which does not read pictures alone; "
            "image networks are ViT, DeiT, BEiT, DINOv2, DINOv3, CLIP, SigLIP, ConvNeXt, ResNet, Swin and their kin"
        )
    return found, config


def _pictures(library: ModuleType, checkpoint: Checkpoint) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Pixels on a side, mean and standard deviation, from the image processor."""
    repo = Repo(checkpoint.name, "model")
    try:
        folder = repo.download("preprocessor_config.json", checkpoint.commit).parent
    except HubFailed as error:
        raise NetworkFailed(f"{checkpoint.name} does not say how its pictures are prepared: {error}") from error
    try:
        processor = library.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise NetworkFailed(f"{checkpoint.name}: its image processor is not read: {_first_line(error)}") from error
    stated = processor.crop_size if getattr(processor, "do_center_crop", None) else processor.size
    sides = {stated[side] for side in ("height", "width", "shortest_edge") if stated.get(side)}
    if len(sides) != 1:
        raise NetworkFailed(f"{checkpoint.name}: its pictures are {dict(stated)}; expected squares of one size")
    if not processor.do_normalize:
        return sides.pop(), (0.0,), (1.0,)
    return sides.pop(), tuple(processor.image_mean), tuple(processor.image_std)


def _classes(config: Any) -> tuple[str, ...] | None:
    names = tuple(config.id2label[number] for number in sorted(config.id2label))
    return None if all(UNNAMED.fullmatch(name) for name in names) else names


def _load(model_class: Any, config: Any, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The trained tensors in float32, from safetensors alone; WeightsError where the file lacks any."""
    folder = _fetched(checkpoint)
    try:
        with quiet(imported()):
            trained, told = model_class.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise WeightsError(f"{checkpoint.where}: {_first_line(error)}") from error
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
    if INDEX not in there:
        raise WeightsError(f"{checkpoint.where} has no {WHOLE}; files of other formats can hold code and are not read")
    index = repo.download(INDEX, checkpoint.commit)
    try:
        parts = {str(part) for part in json.loads(index.read_text())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{checkpoint.where}: {INDEX} is damaged: {error!r}") from error
    for part in sorted(parts):
        repo.download(part, checkpoint.commit)
    return index.parent


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
