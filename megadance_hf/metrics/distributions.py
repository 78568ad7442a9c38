"""Sets of dances: FID and diversity of feature rows `(N, D)`, whether one set scores higher, whether genres are recognised."""

from collections.abc import Sequence

import numpy as np


def normalize_features(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Standardise features (N, D) by mean and standard deviation of the reference (M, D), M >= 2; FID_k, FID_g and DIV use it.

    A feature that is constant in the reference is divided by 1e-10, as in the released code: its differences explode.
    """
    reference = _rows("reference", reference, 2)
    return (np.asarray(features, dtype=np.float64) - reference.mean(0)) / (reference.std(0, ddof=1) + 1e-10)


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance (FID) of two sets of feature rows, two clips or more each; 0 for equal sets.

    From eigenvalues of symmetric matrices: real also where covariances are singular (fewer clips than features), where a
    matrix square root gets imaginary parts.
    """
    features, reference = _rows("features", features, 2), _rows("reference", reference, 2)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, the reference {reference.shape[1]}")
    first, second = np.cov(reference, rowvar=False).reshape(2 * reference.shape[1:]), np.cov(features, rowvar=False)
    second = second.reshape(first.shape)  # one column: cov gives a number
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((features.mean(0) - reference.mean(0)) ** 2).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * shared))


def diversity(features: np.ndarray) -> float:
    """Mean distance between all pairs of rows (DIV); 0 for a single row."""
    features = _rows("features", features, 1)
    if len(features) == 1:
        return 0.0
    squares = (features**2).sum(1)
    # rounding can leave a tiny negative square for equal rows
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * features @ features.T, 0))
    return float(distances[np.triu_indices(len(features), 1)].mean())


def paired_test(higher: Sequence[float], lower: Sequence[float]) -> dict[str, float]:
    """One-sided Wilcoxon signed-rank test: are the numbers of `higher` above their partners in `lower`?

    Returns the number of `pairs`, the mean `difference`, and `p`: 1 without pairs or without any difference.
    """
    from scipy.stats import wilcoxon

    difference = np.asarray(higher, dtype=np.float64) - np.asarray(lower, dtype=np.float64)
    p = float(wilcoxon(difference, alternative="greater").pvalue) if difference.any() else 1.0
    return {"pairs": len(difference), "difference": float(difference.mean()) if len(difference) else 0.0, "p": p}


def _rows(name: str, features: np.ndarray, least: int) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"{name} has shape {features.shape}; expected ({least} or more clips, features)")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return features


# --- genres that a classifier recognises ------------------------------------------------------------------------------


def genre_accuracy(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """Share of a classifier's correct answers (ACC), 0 to 1."""
    predicted, labels = _answers(predicted, labels)
    return float((predicted == labels).mean())


def genre_f1(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """Macro F1, 0 to 1: the mean over the genres that occur in answers or labels; a genre that is never hit counts 0."""
    predicted, labels = _answers(predicted, labels)
    scores = []
    for genre in np.union1d(predicted, labels):
        hits = int(((predicted == genre) & (labels == genre)).sum())
        scores.append(2 * hits / int((predicted == genre).sum() + (labels == genre).sum()))
    return float(np.mean(scores))


def _answers(predicted: Sequence[int], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1 or len(labels) == 0:
        raise ValueError(f"predicted and labels have shapes {predicted.shape} and {labels.shape}; expected (N,) twice")
    return predicted, labels
