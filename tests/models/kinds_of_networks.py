"""Kinds of networks that users bring, each as a function for `own:`: what works, and what is refused with a reason."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from microscope_atlas import Trained
from tests.models.networks.transformers import Transformer

Build = Callable[[], Trained]


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


class Small(nn.Module):
    """Two convolutions and logits."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def maps(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))))

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.maps(x).mean((2, 3)))


def small() -> Small:
    module = seeded(Small)
    assert isinstance(module, Small)
    return module


def changed(**forward: Any) -> nn.Module:
    """The small network with other methods or attributes."""
    kind = type("Changed", (Small,), forward)
    return seeded(kind)


def of(module: nn.Module, size: int = 32, **settings: Any) -> Trained:
    return Trained(module, input_size=size, **settings)


# what works


class Cifar(nn.Module):
    """PyTorch's own tutorial on CIFAR-10, which flattens by `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(3, 6, 5), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x))).view(-1, 400)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def cifar_tutorial() -> Trained:
    return of(seeded(Cifar))


def five_axes() -> Trained:
    module = small()
    module.register_parameter("prior", nn.Parameter(torch.zeros(1, 2, 3, 4, 5)))
    return of(module)


def group_norm() -> Trained:
    return of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 4, 3))))


class FixedSize(nn.Module):
    """A patch embedding that takes one size alone, as vision transformers do, and a head behind tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 8, stride=8)
        self.mlp = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == 64, f"Input height ({x.shape[-1]}) doesn't match model (64)."
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.mlp(tokens).relu().mean(1))


def fixed_size() -> Trained:
    return of(seeded(FixedSize), size=64)


def transformer() -> Trained:
    return of(seeded(Transformer), classes=tuple("abcde"))


@cache
def _trained_on_stripes(channels: int) -> dict[str, Tensor]:
    """Weights that tell upright stripes from level ones, trained on the spot."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Small(channels)
        optimiser = torch.optim.Adam(module.parameters(), 0.02)
        at = torch.linspace(0, 12.0, 16)
        for _ in range(40):
            wave = torch.sin(at[None, :] * (0.5 + torch.rand(16, 1)) + 6 * torch.rand(16, 1))[:, None, None, :]
            upright = torch.arange(16) % 2 == 0
            stripes = wave.expand(16, 1, 16, 16)
            stripes = torch.where(upright[:, None, None, None], stripes, stripes.transpose(2, 3)) / 2 + 0.5
            loss = F.cross_entropy(module(stripes.expand(16, channels, 16, 16)), upright.long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert loss < 0.1
        return {name: value.detach() for name, value in module.state_dict().items()}


def grey() -> Trained:
    module = Small(1)
    module.load_state_dict(_trained_on_stripes(1))
    return of(module, channels=1, mean=(0.5,), std=(0.5,), license="CC0-1.0")


def with_opacity() -> Trained:
    module = Small(4)
    module.load_state_dict(_trained_on_stripes(4))
    return of(module, channels=4, mean=(0.5,), std=(0.5,), license="CC0-1.0")


def half() -> Trained:
    return of(small().half())


def bfloat16() -> Trained:
    return of(small().bfloat16())


class Lazy(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.LazyConv2d(6, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


def lazy() -> Trained:
    torch.manual_seed(0)
    return of(Lazy())


def compiled() -> Trained:
    return of(torch.compile(small()))  # type: ignore[arg-type]


def compiled_inside() -> Trained:
    return of(nn.Sequential(torch.compile(small())))  # type: ignore[arg-type]


def compiled_in_place() -> Trained:
    module = small()
    module.compile()
    return of(module)


def data_parallel() -> Trained:
    return of(nn.DataParallel(small()))


def traced_by_fx() -> Trained:
    return of(torch.fx.symbolic_trace(small()))


def transposed() -> Trained:
    return of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 5, 4, 2, 1))))


def called_twice() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(self.conv1(x)) + self.conv2(self.conv1(x) * 2)))


# what is shown in part


def with_attention() -> Trained:
    class Attentive(Small):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.maps(x).flatten(2).transpose(1, 2)
            return self.fc(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    return of(seeded(Attentive))


def aux_heads() -> Trained:
    def forward(self: Any, x: Tensor) -> Any:
        maps = self.maps(x)
        return (
            (self.fc(maps.mean((2, 3))), self.aux(maps.mean((2, 3)))) if self.training else self.fc(maps.mean((2, 3)))
        )

    module = changed(forward=forward)
    module.aux = seeded(lambda: nn.Linear(8, 4))
    return of(module)


def one_dimensional() -> Trained:
    module = changed(forward=lambda self, x: self.fc(self.along(self.maps(x).flatten(2)).mean(2)))
    module.along = seeded(lambda: nn.Conv1d(8, 8, 3))
    return of(module)


def three_dimensional() -> Trained:
    module = changed(forward=lambda self, x: self.fc(self.over(self.maps(x)[:, :, None]).mean((2, 3, 4))))
    module.over = seeded(lambda: nn.Conv3d(8, 8, (1, 3, 3)))
    return of(module)


def functional() -> Trained:
    def maps(self: Any, x: Tensor) -> Tensor:
        return F.conv2d(self.conv1(x), self.conv2.weight, self.conv2.bias)

    return of(changed(maps=maps))


def functional_of_its_own() -> Trained:
    class Kernel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(8, 6, 3, 3) / 8)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.kernel)

    module = small()
    module.conv2 = seeded(Kernel)  # type: ignore[assignment]
    return of(module)


def matrix_product() -> Trained:
    module = changed(forward=lambda self, x: self.maps(x).mean((2, 3)) @ self.weights)
    module.weights = nn.Parameter(torch.ones(8, 4))
    return of(module)


def picture_by_picture() -> Trained:
    def maps(self: Any, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.conv2(self.conv1(picture[None]))) for picture in x])

    return of(changed(maps=maps))


def windows() -> Trained:
    def maps(self: Any, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return self.conv2(torch.cat(first.chunk(2, 3))).unflatten(0, (2, -1)).mean(0)

    return of(changed(maps=maps))


def scripted_inside() -> Trained:
    module = small()
    module.conv2 = torch.jit.script(nn.Sequential(module.conv2, nn.ReLU()))
    return of(module)


# what is refused with a reason


def no_grad() -> Trained:
    return of(changed(forward=torch.no_grad()(Small.forward)))


def mixed_tokens() -> Trained:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Linear(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.mlp(F.unfold(x, 4, stride=4)).mean(1)

    return of(seeded(Mixer))


def without_units() -> Trained:
    return of(nn.Sequential(nn.AvgPool2d(2), nn.ReLU()))


def scripted() -> Trained:
    return of(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())))


def traced_by_jit() -> Trained:
    return of(torch.jit.trace(small(), torch.zeros(1, 3, 32, 32)))


def exported() -> Trained:
    return of(torch.export.export(small(), (torch.zeros(2, 3, 32, 32),)))  # type: ignore[arg-type]


def exported_module() -> Trained:
    return of(torch.export.export(small(), (torch.zeros(2, 3, 32, 32),)).module())


def the_class() -> Trained:
    return of(Small)  # type: ignore[arg-type]


def always_training() -> Trained:
    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return nn.Module.train(self, True)

    return of(changed(train=train))


def training_norm() -> Trained:
    class Norm(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Norm":
            return super().train(True)

    return of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), Norm(8), nn.ReLU())))


def dropout_on() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(F.dropout(self.conv1(x), 0.5))))


def random_each_time() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(self.conv1(x) + torch.rand_like(x[:, :1, ::2, ::2]))))


def counts_its_calls() -> Trained:
    def maps(self: Any, x: Tensor) -> Tensor:
        self.count = getattr(self, "count", 0) + 1
        return self.conv2(self.conv1(x)) * self.count

    return of(changed(maps=maps, forward=lambda self, x: self.fc(self.maps(x).mean((2, 3)))))


def mixes_its_batch() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(self.conv1(x) - self.conv1(x).mean(0, keepdim=True))))


def batch_statistics() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(F.batch_norm(self.conv1(x), None, None, training=True))))


def batch_of_two() -> Trained:
    return of(changed(maps=lambda self, x: self.conv2(self.conv1(x).view(2, 6, 16, 16))))


def branches() -> Trained:
    def maps(self: Any, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return self.conv2(first.tanh() if x.mean() > 0.75 else first.relu())

    return of(changed(maps=maps))


def wrong_channels() -> Trained:
    return of(Small(1))


def attribute_error() -> Trained:
    return of(changed(maps=lambda self, x: self.conv3(x)))


def fails() -> Trained:
    raise FileNotFoundError("mine.pt")


def other_weights_each_time() -> Trained:
    return of(Small())


def list_of_pictures() -> Trained:
    def maps(self: Any, x: Any) -> Tensor:
        if not isinstance(x, list):
            raise TypeError("expected a list of pictures")
        return self.conv1(torch.stack(x))

    return of(changed(maps=maps))


def long_names() -> Trained:
    module: nn.Module = nn.Conv2d(3, 4, 3)
    for _ in range(5):
        module = nn.ModuleDict({"a" * 60: module})
    return of(_First(module))


class _First(nn.Module):
    """Runs the one module within a nest of dictionaries."""

    def __init__(self, nest: nn.Module):
        super().__init__()
        self.nest = nest

    def forward(self, x: Tensor) -> Tensor:
        *_, innermost = self.nest.modules()
        return innermost(x)


def other_classes() -> Trained:
    return of(small(), classes=("a", "b", "c"))


WORKS: tuple[Build, ...] = (
    *(cifar_tutorial, five_axes, group_norm, fixed_size, transformer, grey, with_opacity, half, bfloat16, lazy),
    *(compiled, compiled_inside, compiled_in_place, data_parallel, traced_by_fx, transposed, called_twice),
)
IN_PART: dict[Build, str] = {
    with_attention: "attention used as a function",
    aux_heads: "aux not called",
    one_dimensional: "along 1-d convolution",
    three_dimensional: "over 3-d convolution",
    functional: "conv2 used as a function",
    functional_of_its_own: "conv2 used as a function",
    matrix_product: " used as a function, fc not called",
    picture_by_picture: "conv1 picture by picture, conv2 picture by picture",
    windows: "conv2 parts of pictures",
    scripted_inside: "conv2 TorchScript",
    called_twice: "conv1 later calls, conv2 later calls",
}
REFUSED: dict[Build, str] = {
    no_grad: "has no layer to show: 3 of 3 modules are not shown: no gradient 3",
    without_units: "has no layer to show: none of its modules is a convolution or a dense layer",
    scripted: "is TorchScript, whose parts no hook can watch; give the module that it was made from",
    traced_by_jit: "is TorchScript",
    exported: r"module='ExportedProgram'\); expected a torch.nn.Module; of an exported program the module before",
    exported_module: r"refuses eval\(\).*an exported program; give the module that it was made from",
    the_class: r"Trained\(module='Small'\); expected a module, not its class: call it",
    always_training: "after eval.. some of its modules are still training: itself, conv1",
    training_norm: "still training: 1;",
    dropout_on: r"dropout is on in its forward pass; expected F.dropout\(..., training=self.training\)",
    random_each_time: "conv2 answers otherwise when it is shown the same pictures again",
    counts_its_calls: "fc answers otherwise when it is shown the same pictures again",
    mixes_its_batch: "conv2 mixes the pictures of a batch",
    batch_statistics: "conv2 mixes the pictures of a batch",
    batch_of_two: "its forward pass fails on 3 pictures of 3 x 32 x 32: RuntimeError: shape",
    branches: "its forward pass goes other ways for other pictures: at step [0-9]+ of noise Relu.*of white ones Tanh",
    wrong_channels: r"fails on 2 pictures of 3 x 32 x 32: .*; its first convolution reads 1: Trained\(channels=1\)",
    attribute_error: "fails on 2 pictures of 3 x 32 x 32: AttributeError: 'Changed' object has no attribute 'conv3'",
    fails: "the function fails: FileNotFoundError: mine.pt",
    list_of_pictures: "TypeError: expected a list of pictures",
    long_names: "has a name of [0-9]+ characters; file systems and keys take 200",
    other_classes: "3 classes are named, but the last dense layer has 4 units; expected a name for each logit",
}
