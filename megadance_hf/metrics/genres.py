"""Whether the genre of a dance is recognised: accuracy (ACC) and F1 of a classifier's answers."""

from collections.abc import Sequence

import numpy as np


def genre_accuracy(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """Share of correct answers (ACC), 0 to 1."""
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
