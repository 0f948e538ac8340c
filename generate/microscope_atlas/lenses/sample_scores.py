"""What the samples of a unit have in common, in numbers, from their embeddings; no words are needed.

Dreyer et al. 2025, "Mechanistic understanding and validation of large AI models with SemanticLens",
https://doi.org/10.1038/s42256-025-01084-w, whose measures these are, v_i being the n embeddings, of length 1 here:

    likeness          mean of cos(v_i, v_j) over all pairs i != j: (|sum v|^2 - n) / (n (n - 1)); their "clarity"
    polysemanticity   1 - cos(m_1, m_2), of the means of the two clusters that k-means finds
    redundancy        the highest cosine of a unit's mean embedding with that of another unit

Where k-means leaves one sample alone, that is no second meaning: then, as in their code, it is the mean of
1 - cos(v_i, m), m being the mean of all.
"""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MOST_CLUSTERS = 4
STRUCTURE = 0.25  # mean silhouette, at and below which there is none (Kaufman and Rousseeuw 1990)
STARTS = 10  # of k-means, of which the best is taken
SEED = 0  # of these, the same for all: units with the same samples have the same scores


def likeness(vectors: Tensor) -> float:
    """Mean cosine over all pairs of (samples, embedding), each of length 1; two or more samples."""
    count = len(vectors)
    return float((vectors.double().sum(0).square().sum() - count) / (count * (count - 1)))


def likeness_between(vectors: Tensor, owners: Tensor) -> float | None:
    """Mean cosine over the pairs that have not the same owner, (samples,); None where there is none."""
    apart = owners[:, None] != owners[None]
    return float((vectors.double() @ vectors.double().T)[apart].mean()) if apart.any() else None


def polysemanticity(vectors: Tensor) -> float:
    """How far the two clusters of (samples, embedding) are apart: 0 not at all, 1 at a right angle; 0 of equal ones."""
    if (vectors == vectors[0]).all():
        return 0.0
    labels = clustered(vectors, 2)
    if np.bincount(labels, minlength=2).min() < 2:
        return float(1 - F.cosine_similarity(vectors.double(), vectors.double().mean(0)[None]).mean())
    one, other = (vectors[torch.from_numpy(labels == label)].double().mean(0) for label in (0, 1))
    return float(1 - F.cosine_similarity(one, other, dim=0))


def clusters(vectors: Tensor) -> list[int]:
    """How many samples each cluster has, the largest first; one of all where no parting into 2 to 4 stands out.

    That with the highest mean silhouette is taken, where it is above 0.25: by how much samples are nearer to their own
    cluster than to the next.
    """
    from sklearn.metrics import silhouette_score

    values = vectors.double().numpy()
    best, sizes = STRUCTURE, [len(values)]
    for count in range(2, min(MOST_CLUSTERS, len(np.unique(values, axis=0)), len(values) - 1) + 1):
        labels = clustered(vectors, count)
        if len(np.unique(labels)) < 2:
            continue
        if (score := float(silhouette_score(values, labels))) > best:
            best, sizes = score, sorted(np.bincount(labels).tolist(), reverse=True)
    return sizes


def clustered(vectors: Tensor, count: int) -> np.ndarray:
    """The cluster of each of (samples, embedding), by k-means; the same on a machine, however many cores it has."""
    from sklearn.cluster import KMeans  # slow to import, and seldom needed
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct samples than clusters
        labels = KMeans(count, n_init=STARTS, random_state=SEED).fit(vectors.double().numpy()).labels_
    return np.asarray(labels)


def nearest(means: Tensor) -> list[tuple[int, float] | None]:
    """To each of (units, embedding) the other whose mean points most alike, and the cosine, to five decimals.

    Of equals the first; None where there is no other.
    """
    directions = F.normalize(means.double(), dim=1)
    found: list[tuple[int, float] | None] = []
    for at, own in enumerate(directions):
        cosines = (directions @ own * 1e5).round()
        cosines[at] = -torch.inf
        best = int(cosines.argmax()) if len(cosines) > 1 else at
        found.append((best, float(cosines[best]) / 1e5) if best != at else None)
    return found
