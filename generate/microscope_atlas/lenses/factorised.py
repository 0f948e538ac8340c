"""Activations taken apart into groups of units that go together, by non-negative matrix factorisation.

    activations (vectors, units)  ~  weights (vectors, groups) x directions (groups, units)        none below zero

Lee and Seung 1999. As nothing is taken away again, a group is a part that is there or not; so Olah et al. 2018 find the
"neuron groups" of a picture, https://distill.pub/2018/building-blocks. There are many ways to take the same activations
apart: the start is no matter of chance (NNDSVDa, Boutsidis and Gallopoulos 2008), and one thread computes, so that a
machine gives the same bytes each time, however many cores it has.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from microscope_atlas.rendering.objectives import TINY

ITERATIONS = 200  # at most; between 50 and 200, on inception_4c, what is explained grows by less than 0.001
TOLERANCE = 1e-4  # of the gradients' sum to that at the start, at which it ends
SWEEPS = 100  # over all groups, in which weights for given directions are found
EMPTY = 1e-10  # share of the squared weights, below which a group has none


class Factorised(NamedTuple):
    """Groups of units, the one that explains most first."""

    weights: Tensor  # (vectors, groups), none below zero: how much of each group is in each vector
    directions: Tensor  # (groups, units), none below zero, of length 1; all zero of a group that nothing is left for
    explained: float  # 1 - |activations - weights x directions|^2 / |activations|^2


def factorised(activations: Tensor, groups: int, seed: int) -> Factorised:
    """The groups of activations, (vectors, units), float32, none below zero and not all zero.

    ValueError where there are more groups than vectors or units, or activations that cannot be taken apart.
    """
    if not 1 <= groups <= min(activations.shape):
        raise ValueError(f"{groups} groups, expected 1 to {min(activations.shape)}: no more than vectors or units")
    if not (activations.isfinite().all() and (activations >= 0).all() and activations.any()):
        raise ValueError("expected activations that are finite, none below zero and not all zero")
    from sklearn.decomposition import NMF  # slow to import, and seldom needed
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    model = NMF(groups, init="nndsvda", random_state=seed % 2**32, max_iter=ITERATIONS, tol=TOLERANCE)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # how far it came is told by `explained`
        weights = torch.from_numpy(model.fit_transform(activations.float().numpy()))
    directions = torch.from_numpy(model.components_)
    lengths = directions.norm(dim=1, keepdim=True)
    weights, directions = weights * lengths.T, directions / lengths.clamp(min=TINY)
    most = weights.double().square().sum(0)
    weights[:, most <= EMPTY * most.sum()] = 0
    directions[most <= EMPTY * most.sum()] = 0
    order = most.sort(descending=True, stable=True).indices
    weights, directions = weights[:, order], directions[order]
    left = (activations - weights @ directions).double().square().sum()
    return Factorised(weights, directions, 1 - (left / activations.double().square().sum()).item())


def weights_for(activations: Tensor, directions: Tensor) -> Tensor:
    """How much of each group is in other activations, (vectors, units) -> (vectors, groups), none below zero.

    The weights that leave least of each vector, by coordinate descent: what a group is due, given all others.
    """
    products, between = activations @ directions.T, directions @ directions.T
    weights = torch.zeros_like(products)
    for _ in range(SWEEPS):
        for group, length in enumerate(between.diagonal().tolist()):
            if length:
                due = products[:, group] - weights @ between[:, group] + weights[:, group] * length
                weights[:, group] = (due / length).clamp(min=0)
    return weights
