"""Trained weights: fetched or taken, verified, converted, cached; and the network ready to run."""

import hashlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch

from microscope_atlas.atlas.provenance import UNTRAINED, Provenance
from microscope_atlas.cache import cache
from microscope_atlas.errors import UnknownName, WeightsError
from microscope_atlas.models import at_hand, converted, mirror
from microscope_atlas.models.at_hand import cached_file
from microscope_atlas.models.converted import Weights
from microscope_atlas.models.dictionaries.attached import load as dictionary
from microscope_atlas.models.dictionaries.behind import Behind
from microscope_atlas.models.download import Listen, file_hash, obtained, unheard
from microscope_atlas.models.formats.checkpoint import located, parts
from microscope_atlas.models.formats.form import Form, form
from microscope_atlas.models.formats.state_dict import read_tensors
from microscope_atlas.models.networks.graph import Graph, fold_batch_norm
from microscope_atlas.models.networks.network import Network
from microscope_atlas.models.networks.ops import steady_rounding
from microscope_atlas.models.organism import UNSTATED, Library, Organism, Source
from microscope_atlas.models.texts import kept

WeightsKind = Literal["pretrained", "random"]

CPU = torch.device("cpu")


def network(organism: Organism, weights: Weights, device: torch.device = CPU) -> Network:
    """The organism's network with these weights, ready for rendering: frozen, evaluation mode, batch norm folded."""
    network = organism.build().eval()
    network.load_state_dict(weights.tensors, strict=False)  # not strict: batch norms count batches, which nobody reads
    if isinstance(network, Graph):
        fold_batch_norm(network)
    if device.type == "cpu":
        steady_rounding(network)
    network.requires_grad_(False)
    network.to(device)
    network.lay_out()
    return Behind(network, organism.dictionaries, dictionary).eval() if organism.dictionaries else network


def load(
    organism: Organism, kind: WeightsKind = "pretrained", repo: str | None = None, listen: Listen = unheard
) -> Weights:
    """The organism's weights: from the cache, else from the mirror `repo` if one is given, else from its sources.

    Or random ones, for tests and benchmarks. `listen` is told of bytes that are fetched, and of how many.
    """
    if kind not in get_args(WeightsKind):
        raise UnknownName(f"weights {kind!r}; expected one of {', '.join(get_args(WeightsKind))}")
    if kind == "random":
        return random(organism)
    path = cached_file(organism)
    if not path.exists():
        return fetch(organism, repo, listen)
    try:
        return converted.read(path)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete it, and it is made anew") from error


def random(organism: Organism) -> Weights:
    """Untrained weights, the same in every run: He-normal kernels, so that activations keep their scale."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, value in converted.expected(organism.build()).items():
        if name.endswith("running_var") or _scales(name, value):
            tensors[name] = torch.ones_like(value)
        elif name.endswith("running_mean") or (isinstance(value, torch.nn.Parameter) and value.dim() < 2):
            tensors[name] = torch.zeros_like(value)
        elif isinstance(value, torch.nn.Parameter):
            fan_in = max(1, value.shape[1:].numel())  # an axis may be empty, as of prompts that are not used
            tensors[name] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:  # a constant of the network's own
            tensors[name] = value.to(torch.float32)
    return Weights(tensors, converted.identity(tensors), UNTRAINED)


def _scales(name: str, value: torch.Tensor) -> bool:
    """Whether a tensor is a factor a channel, of a norm or of a block's branch: at zero it would turn that off.

    Other parameters of one axis are biases, by whatever name: `bias`, `in_proj_bias`, `q_bias`, `beta`.
    """
    last = name.rpartition(".")[2]
    is_bias = "bias" in last or last == "beta"
    return value.dim() < 2 and not is_bias and (last == "weight" or isinstance(value, torch.nn.Parameter))


def fetch(organism: Organism, repo: str | None = None, listen: Listen = unheard) -> Weights:
    """Weights from the first that gives them, the mirror `repo` or one of the sources, converted into the cache."""
    sources = [source for source in organism.sources if isinstance(source, Library) or not source.lacks]
    attempts = [partial(_obtain, organism, source, listen) for source in sources]
    if repo:
        attempts.insert(0, partial(_copy, organism, repo))
    refusals = []
    for attempt in attempts:
        try:
            return attempt()
        except WeightsError as error:
            if any(isinstance(source, Library) and not source.lasting for source in organism.sources):
                raise  # a user's own code, which no file stands in for
            refusals.append(f"\n  {error}")
    raise WeightsError(
        f"no source of weights for {organism.name} answered:{''.join(refusals)}\n"
        f"Where you have the file: microscope-atlas weights {organism.name} --from FILE"
    )


def take(organism: Organism, path: Path, source: Source | None = None, partial: bool = False) -> Weights:
    """Weights from a file at hand, converted into the cache. `source` says where the file came from, if not by hand.

    With a text tower in it, that is kept beside them; so are names of classes. `partial`: layers that the file has no
    tensors for are left out.

    Raises WeightsError where the file cannot be read, is damaged, or is of another network; the cache stays as it was.
    """
    file = located(path)
    if not file.is_file():
        raise WeightsError(f"there is no file {file}")
    given = source or _source_of(organism, path)
    read = given.read(path)
    wants = converted.expected(organism.blank())
    read = converted.unscoped(read, wants)
    lacking = at_hand.lacking(organism, read, wants)
    if lacking and not partial:
        first, wanted = next((name, value) for name, value in wants.items() if name not in read)
        raise WeightsError(
            f"{path} is not all of {organism.name}: it has no {first}, expected with shape {tuple(wanted.shape)}, "
            f"and so no layer {', '.join(lacking)}{f'; {given.lacks}' if given.lacks else ''}. --partial takes the rest"
        )
    if lacking:
        organism = at_hand.without(organism, lacking)
    tensors = converted.fit(organism, read, str(path))
    official = source is not None or _stated(given, file)
    provenance = Provenance(
        source=", without ".join([source.where if source else path.name, *([", ".join(lacking)] if lacking else [])]),
        file_sha256=_sha256(file),
        license=given.license if official else UNSTATED,  # another file may hold anything, by anybody
        official=official,
        ignored=tuple(sorted(name for name in read if name not in tensors and not converted.uncounted(name))),
    )
    weights = Weights(tensors, converted.identity(tensors), provenance, lacking)
    tower = kept.tower_in(organism, path, provenance)
    converted.write(cached_file(organism), weights)
    if tower:
        kept.keep(organism, weights.sha256, tower)
    if organism.classes_in and (names := at_hand.names_within(path, organism.classes_in)):
        at_hand.take_names(organism, names, str(path))
    return weights


def _obtain(organism: Organism, source: Source | Library, listen: Listen) -> Weights:
    if isinstance(source, Library):
        return _borrow(organism, source)
    with obtained(source, cache() / "downloads", listen) as path:
        try:
            taken = take(organism, path, source)
        except WeightsError as error:
            raise WeightsError(f"{source.where}: {error}") from error
    if organism.classes_in and "://" in organism.classes_in:
        _obtain_names(organism, organism.classes_in)
    return taken


def _obtain_names(organism: Organism, where: str) -> None:
    """Fetch the names of its classes; where they are not to be had they stay unknown, as all that shows them says."""
    with suppress(WeightsError), obtained(Source(where, read_tensors, UNSTATED), cache() / "downloads") as path:
        at_hand.take_names(organism, at_hand.names_in(path), where)


def _copy(organism: Organism, repo: str) -> Weights:
    weights = mirror.fetch(organism, repo)
    converted.write(cached_file(organism), weights)
    return weights


def _borrow(organism: Organism, library: Library) -> Weights:
    """Weights that a library loads, converted; into the cache only where their name stands for them for good."""
    tensors = converted.fit(organism, library.load(), library.where)
    provenance = Provenance(library.where, file_sha256="", license=library.license, official=True)
    weights = Weights(tensors, converted.identity(tensors), provenance)
    if library.lasting:
        converted.write(cached_file(organism), weights)
        kept.obtain(organism, weights.sha256, provenance)
    return weights


def _sha256(file: Path) -> str:
    """Of a file; of a checkpoint that has several, of the hashes of each, in hexadecimal, one behind another."""
    files = parts(file)
    if len(files) == 1:
        return file_hash(file, "sha256")
    return hashlib.sha256("".join(file_hash(each, "sha256") for each in files).encode()).hexdigest()


def _stated(source: Source, path: Path) -> bool:
    """Whether a file is the one that its publisher states a hash of."""
    stated = {"sha1": source.sha1, "sha256": source.sha256}
    return any(each is not None and each == file_hash(path, algorithm) for algorithm, each in stated.items())


def _source_of(organism: Organism, path: Path) -> Source:
    """The source whose files are of the form that this one is, by its content; WeightsError where there is none."""
    sources = [source for source in organism.sources if isinstance(source, Source)]
    own = Source(path.name, read_tensors, UNSTATED, forms=(Form.STATE_DICT, Form.SAFETENSORS))
    found = form(path)
    if known := next((source for source in sources or [own] if found in source.forms), None):
        return known
    taken = dict.fromkeys(each for source in sources or [own] for each in source.forms)
    where = "".join(f"\n  {source.where}" for source in sources)
    raise WeightsError(
        f"{path} is {found}, or incomplete; {organism.name} takes {', '.join(taken)}{where and f', such as{where}'}"
    )
