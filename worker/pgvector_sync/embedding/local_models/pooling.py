"""Turns the vectors of a text's tokens into one vector, in the ways that sentence-transformers names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Mask = NDArray[np.int64]
"""1 for each token that counts, 0 for padding and for a prompt that is left out. Padding is on the right."""


def pool(tokens: Vectors, mask: Mask, modes: Sequence[str]) -> Vectors:
    """Return one vector per text, with the results of several modes next to each other.

    tokens: of shape (texts, tokens, size). A text without a token that counts gives zeros.
    """
    pooled = np.concatenate([POOLINGS[mode](tokens, mask) for mode in modes], axis=1)
    pooled[~mask.any(axis=1)] = 0
    return pooled.astype(np.float32, copy=False)


def _cls(tokens: Vectors, mask: Mask) -> Vectors:
    first: Vectors = tokens[np.arange(len(tokens)), mask.argmax(axis=1)]
    return first


def _last(tokens: Vectors, mask: Mask) -> Vectors:
    last: Vectors = tokens[np.arange(len(tokens)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]
    return last


def _max(tokens: Vectors, mask: Mask) -> Vectors:
    greatest: Vectors = np.where(mask[..., np.newaxis] == 1, tokens, -np.inf).max(axis=1)
    return greatest


def _mean(tokens: Vectors, mask: Mask) -> Vectors:
    return _weighted_sum(tokens, mask) / _at_least_one(mask.sum(axis=1))


def _mean_sqrt_len(tokens: Vectors, mask: Mask) -> Vectors:
    roots: Vectors = np.sqrt(_at_least_one(mask.sum(axis=1)))
    return _weighted_sum(tokens, mask) / roots


def _weighted_mean(tokens: Vectors, mask: Mask) -> Vectors:
    """Weight each token by its position, counted from one."""
    weights = mask * np.arange(1, mask.shape[1] + 1)
    return _weighted_sum(tokens, weights) / _at_least_one(weights.sum(axis=1))


def _weighted_sum(tokens: Vectors, weights: Mask) -> Vectors:
    # a product of matrices, which needs no copy of `tokens`
    total: Vectors = np.matmul(weights[:, np.newaxis].astype(np.float32), tokens)[:, 0]
    return total


def _at_least_one(counts: Mask) -> Vectors:
    return np.maximum(counts, 1).astype(np.float32)[:, np.newaxis]


POOLINGS: dict[str, Callable[[Vectors, Mask], Vectors]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""The modes, by their names in `1_Pooling/config.json`."""
OLD_NAMES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How older exports name the modes, in the order in which several of them are joined."""
