from itertools import pairwise

from microscope_atlas.models.architectures.efficientnet_lite import EFFICIENTNET_LITE0
from microscope_atlas.models.architectures.inceptionv1 import INCEPTIONV1
from microscope_atlas.models.catalog import CATALOG
from microscope_atlas.models.networks.graph import edges


def test_heads_branch_off_mixed4a_and_mixed4d() -> None:
    shown = [name for name, layer in INCEPTIONV1.layers.items() if not layer.named_only]
    trunk = [name for name in shown if name.startswith(("conv", "mixed"))] + ["softmax2"]
    heads = [
        *(("mixed4a", "head0_bottleneck"), ("head0_bottleneck", "nn0"), ("nn0", "softmax0")),
        *(("mixed4d", "head1_bottleneck"), ("head1_bottleneck", "nn1"), ("nn1", "softmax1")),
    ]
    assert sorted(INCEPTIONV1.edges) == sorted([*pairwise(trunk), *heads])


def test_residual_connections_do_not_pass_a_layer() -> None:
    layers = list(EFFICIENTNET_LITE0.layers)
    assert EFFICIENTNET_LITE0.edges == list(pairwise(layers))


def test_a_layer_left_out_is_passed_through() -> None:
    found = edges(INCEPTIONV1.build(), ["mixed4a", "mixed4c", "nn0"])
    assert found == [("mixed4a", "mixed4c"), ("mixed4a", "nn0")]


def test_nodes_between_two_layers_join_all_ways() -> None:
    found = edges(EFFICIENTNET_LITE0.build(), ["blocks_3", "blocks_4/expand", "blocks_4"])
    assert found == [("blocks_3", "blocks_4/expand"), ("blocks_4/expand", "blocks_4"), ("blocks_3", "blocks_4")]


def test_edges_run_from_input_to_logits() -> None:
    for organism in CATALOG.values():
        place = {name: at for at, name in enumerate(organism.layers)}
        assert all(place[a] < place[b] for a, b in organism.edges)
        reached = {b for _, b in organism.edges}
        leading = {name for name, layer in organism.layers.items() if not layer.named_only}
        assert leading - reached == {next(iter(organism.layers))}
        assert reached <= leading
