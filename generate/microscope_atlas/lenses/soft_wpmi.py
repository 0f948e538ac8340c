"""Soft-WPMI: how well each text fits the pictures that excite a unit, as CLIP-Dissect has it.

Oikarinen and Weng 2023, https://arxiv.org/abs/2204.10965, section 3.2, and its code,
https://github.com/Trustworthy-ML-Lab/CLIP-dissect/blob/main/similarity.py. With q(t|x) the softmax over all texts of
`temperature` times the cosine of a picture x with a text t,

    log p(t|B) = sum over x of log(1 + p(x in B) (q(t|x) - 1) + FLOOR)
    score(t)   = log p(t|B) - weight * log(mean over the layer's units of p(t|B))

B are the pictures that excite the unit most: p(x in B) falls evenly from the first to the last of them, and is 0 of all
others, which add nothing. In natural logarithms, so nats.

One thing is otherwise here: a picture that does not excite a unit above zero is in no B, so that of a unit which few
pictures excite, the order of those that do not means nothing.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from microscope_atlas.structure import Count, above, between

FLOOR = 1e-7  # `min_prob`, of the authors' code: a logarithm of nothing is none
AT_ONCE = 1024  # texts that are looked at together
UNITS_AT_ONCE = 16


@dataclass(frozen=True)
class Constants:
    """What the score hangs on; the defaults are the authors'."""

    best: Count = 100  # pictures in B: `top_k`
    temperature: Annotated[float, above(0)] = 10.0  # `a`
    first: Annotated[float, between(0, 1)] = 0.998  # p(x in B) of the picture that excites most: `p_start`
    last: Annotated[float, between(0, 1)] = 0.97  # that towards which it falls: `p_end`
    weight: Annotated[float, between(0, 100)] = 1.0  # of what the text has for all units: `lam`


@dataclass(frozen=True)
class Ranked:
    """The texts that fit units best."""

    scores: Tensor  # (units, most), the highest first; float64
    texts: Tensor  # (units, most), their numbers


def soft_wpmi(pictures: Tensor, texts: Tensor, responses: Tensor, constants: Constants, most: int) -> Ranked:
    """The `most` texts with the highest score of each unit, of equals the earlier in the list first.

    `pictures` (pictures, embedding) and `texts` (texts, embedding) have length 1; `responses` (units, pictures). All
    in float64. Memory is bounded whatever the number of texts.
    """
    numbers, chances = best(responses, constants)
    # what softmax divides by, of each picture
    parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
    norms = torch.stack([(constants.temperature * pictures @ part.T).logsumexp(1) for part in parts]).logsumexp(0)
    most = min(most, len(texts))
    scores = torch.full((len(responses), most), -torch.inf, dtype=torch.float64)
    found = torch.full((len(responses), most), len(texts), dtype=torch.int64)
    for start, part in zip(range(0, len(texts), AT_ONCE), parts, strict=True):
        shares = (constants.temperature * pictures @ part.T - norms[:, None]).exp()
        evidence = torch.cat(
            [
                (1 + p[:, :, None] * (shares[those] - 1) + FLOOR).log().sum(1)
                for first in range(0, len(numbers), UNITS_AT_ONCE)
                for those, p in [(numbers[first : first + UNITS_AT_ONCE], chances[first : first + UNITS_AT_ONCE])]
            ]
        )
        common = evidence.logsumexp(0) - torch.tensor(float(len(evidence)), dtype=torch.float64).log()
        these = torch.arange(start, start + len(part)).expand(len(responses), -1)
        both = torch.cat([scores, evidence - constants.weight * common], 1)
        scores, order = both.sort(dim=1, descending=True, stable=True)
        found = torch.cat([found, these], 1).gather(1, order)[:, :most]
        scores = scores[:, :most]
    return Ranked(scores, found)


def best(responses: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
    """The pictures that excite each unit most, (units, best), and the chance of each to be in B, 0 of unexciting ones.

    Of pictures that excite alike those with lower numbers are first.
    """
    values, numbers = responses.sort(dim=1, descending=True, stable=True)
    values, numbers = values[:, : constants.best], numbers[:, : constants.best]
    falling = torch.arange(constants.best, dtype=torch.float64) / constants.best * (constants.first - constants.last)
    chances = (constants.first - falling)[: values.shape[1]] * (values > 0)
    return numbers, chances
