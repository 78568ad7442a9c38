"""What answers of raters say: means with intervals, agreement, an ordinal mixed model, Bradley-Terry; and how many raters a study needs.

Raters and songs are both samples: another study would have others. So every interval and every test counts both as crossed random
effects; the answers of one rater, or to one song, are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special, stats

DRAWS = 2000  # of the bootstrap
LEVEL = 0.95  # of intervals
# Thresholds and effects of systems have a normal prior with this deviation, in logits: a system that everybody finds great would
# else be infinitely good.
PRIOR = 5.0
# Bradley-Terry's prior, as small; choix adds it to both sides of every comparison.
BRADLEY_TERRY_PRIOR = 0.05
EFFECTS = ("rater", "song", "rater x system", "song x system")
_DEVIATIONS = (0.02, 8.0)  # bounds of the deviations of random effects, in logits


@dataclass(frozen=True)
class Ratings:
    """Answers to one question. Row i: rater `rater[i]` gave system `system[i]`, dancing to song `song[i]`, the rating `value[i]`.

    All four are (N,) whole numbers; raters, songs and systems count from 0, ratings are higher for better.
    """

    rater: np.ndarray
    song: np.ndarray
    system: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True)
class Choices:
    """Answers to one question about pairs. Row i: rater `rater[i]` preferred system `winner[i]` to `loser[i]` for song `song[i]`."""

    rater: np.ndarray
    song: np.ndarray
    winner: np.ndarray
    loser: np.ndarray

    def __len__(self) -> int:
        return len(self.winner)


# --- means -----------------------------------------------------------------------------------------------------------


def _weights(rater: np.ndarray, song: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The weights of the answers in each draw of a bootstrap that draws raters and songs independently (Owen, 2007)."""
    generator = np.random.default_rng(seed)
    raters, rater = np.unique(rater, return_inverse=True)
    songs, song = np.unique(song, return_inverse=True)
    for _ in range(draws):
        of_rater = generator.multinomial(len(raters), np.full(len(raters), 1 / len(raters)))
        of_song = generator.multinomial(len(songs), np.full(len(songs), 1 / len(songs)))
        yield of_rater[rater] * of_song[song]


def smaller_sample(rater: np.ndarray, song: np.ndarray) -> int:
    """Raters or songs, whichever are fewer: what bounds how much can be known."""
    return min(len(np.unique(rater)), len(np.unique(song)))


def expanded_interval(draws: np.ndarray, count: int) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (B,), expanded for a sample of `count` (Hesterberg, 2015): the plain one is too
    narrow by a factor of sqrt(1 - 1/n), and takes quantiles of a normal distribution for those of t. NaN with a sample of one."""
    draws = draws[np.isfinite(draws)]
    if count < 2 or not len(draws):
        return math.nan, math.nan
    wider = math.sqrt(count / (count - 1)) * stats.t.ppf((1 + LEVEL) / 2, count - 1)
    tail = stats.norm.cdf(-wider)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_means(ratings: Ratings, systems: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Mean rating of each system in each draw: (draws, systems); NaN where a draw has no rating of a system."""
    means = np.full((draws, systems), np.nan)
    for row, weight in zip(means, _weights(ratings.rater, ratings.song, draws, seed), strict=True):
        count = np.bincount(ratings.system, weight, systems)
        total = np.bincount(ratings.system, weight * ratings.value, systems)
        np.divide(total, count, out=row, where=count > 0)
    return means


def means(ratings: Ratings, systems: int) -> np.ndarray:
    """Mean rating of each system: (systems,), NaN where there is none."""
    count = np.bincount(ratings.system, minlength=systems)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(ratings.system, ratings.value, systems) / count


def agreement(ratings: Ratings) -> float:
    """Krippendorff's alpha for ordinal ratings: 1 where raters agree on every clip, 0 where they do as by chance; NaN where nothing
    can be said. (The Python packages that compute it are under the GPL.)"""
    _, clip = np.unique(np.stack([ratings.song, ratings.system]), axis=1, return_inverse=True)
    values, category = np.unique(ratings.value, return_inverse=True)
    counts = np.zeros((clip.max() + 1, len(values)))  # of each rating of each clip
    np.add.at(counts, (clip.ravel(), category), 1)
    counts = counts[counts.sum(1) > 1]
    sizes = counts.sum(1, keepdims=True)
    coincidences = (counts / (sizes - 1)).T @ counts - np.diag((counts / (sizes - 1)).sum(0))
    totals = coincidences.sum(0)
    middle = np.cumsum(totals) - totals / 2
    distance = (middle[:, None] - middle) ** 2
    expected = (np.outer(totals, totals) * distance).sum()
    if not expected:
        return math.nan
    return float(1 - (totals.sum() - 1) * (coincidences * distance).sum() / expected)


def spread(ratings: Ratings, systems: int) -> tuple[float, float, float]:
    """Deviations in points, as `Plan` takes them: of raters' own preferences for a system, of what a song does to a system, of single
    ratings around those. Moments of what remains when means of systems, raters and songs are taken away; NaN where nothing repeats."""
    rest = ratings.value - means(ratings, systems)[ratings.system]
    for key in (ratings.rater, ratings.song):
        count = np.maximum(np.bincount(key), 1)
        rest = rest - (np.bincount(key, rest) / count)[key]

    def shared(key: np.ndarray) -> float:
        """Mean product of two different ratings with the same key."""
        count, total, squares = (np.bincount(key, weight) for weight in (np.ones(len(key)), rest, rest**2))
        pairs = (count * (count - 1)).sum()
        return float((total**2 - squares).sum() / pairs) if pairs else math.nan

    # Taking away the mean of a rater takes away a part of what differs between his systems.
    kept = 1 - 1 / systems
    rater = max(shared(ratings.rater * systems + ratings.system) / kept, 0.0)
    song = max(shared(ratings.song * systems + ratings.system) / kept, 0.0)
    return math.sqrt(rater), math.sqrt(song), math.sqrt(max(float((rest**2).mean()) - rater - song, 0.0))


# --- ordinal mixed model -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrdinalModel:
    """A cumulative logit model: logit P(rating <= c) = threshold_c - (effect of the system + random effects).

    Attributes:
        effects: (K,) log odds of a better rating, against the first system.
        covariance: (K, K) of the effects.
        thresholds: one fewer than there are different ratings.
        deviations: of the random effects, in logits: `EFFECTS`.
        degrees: degrees of freedom of tests, the smaller of raters and songs minus one.
    """

    effects: np.ndarray
    covariance: np.ndarray
    thresholds: np.ndarray
    deviations: np.ndarray
    degrees: int

    def compare(self, first: int, second: int) -> tuple[float, float, float]:
        """Log odds of a better rating of system `first` than of `second`, standard error, two-sided p value."""
        difference = float(self.effects[first] - self.effects[second])
        covariance = self.covariance
        error = math.sqrt(
            max(covariance[first, first] + covariance[second, second] - 2 * covariance[first, second], 1e-12)
        )
        return difference, error, float(2 * stats.t.sf(abs(difference) / error, max(self.degrees, 1)))


def ordinal_model(ratings: Ratings, systems: int, random_effects: Sequence[str] = EFFECTS) -> OrdinalModel | None:
    """Fit the model to ratings of `systems` systems; None where all ratings are the same, or there is one rater or one song.

    Raters, songs, and the interactions of both with the systems are random effects: a rater is mild or strict and likes one system
    more than others do; so is a song. statsmodels has no ordinal model with random effects. Their deviations maximise the likelihood
    after a Laplace approximation of the integral over random effects, thresholds and effects (restricted likelihood).
    """
    values, category = np.unique(ratings.value, return_inverse=True)
    degrees = smaller_sample(ratings.rater, ratings.song) - 1
    if len(values) < 2 or degrees < 1 and random_effects:
        return None
    fit = _OrdinalFit(ratings, category, len(values), systems, tuple(random_effects))
    logs = np.zeros(0)
    if random_effects:
        bounds = [tuple(np.log(_DEVIATIONS))] * len(random_effects)
        options = {"eps": 1e-3, "maxiter": 60, "ftol": 1e-6}
        start = np.full(len(random_effects), math.log(0.5))
        logs = optimize.minimize(fit.cost, start, method="L-BFGS-B", bounds=bounds, options=options).x
    fit.cost(logs)
    fit.finish()
    effects, thresholds = fit.theta[fit.effects].copy(), fit.theta[fit.thresholds].copy()
    return OrdinalModel(effects, fit.covariance[fit.effects, fit.effects], thresholds, np.exp(logs), degrees)


class _OrdinalFit:
    """Mode and curvature of the log posterior for given deviations.

    Parameters: thresholds, with -1000 and 1000 as the lowest and highest, effects of systems, standardised random effects; `unknown` of
    them are estimated, `theta` holds all. The probability of rating c is F(upper) - F(lower), where both are linear in a few
    parameters of each row, those in `columns`: the threshold above and the one below, the system, a level of each random effect.
    """

    def __init__(
        self, ratings: Ratings, category: np.ndarray, categories: int, systems: int, names: tuple[str, ...]
    ) -> None:
        columns = [category + 1, category, categories + 1 + ratings.system]
        self.sizes, size = [], categories + 1 + systems
        for name in names:
            kind, _, crossed = name.partition(" x ")
            key = ratings.rater if kind == "rater" else ratings.song
            levels, level = np.unique(key * systems + ratings.system if crossed else key, return_inverse=True)
            columns.append(size + level)
            self.sizes.append(len(levels))
            size += len(levels)
        self.columns = np.stack(columns, 1)
        self.cells = (self.columns[:, :, None] * size + self.columns[:, None, :]).ravel()  # of the Hessian
        self.unknown = np.setdiff1d(np.arange(size), [0, categories, categories + 1])
        self.thresholds = slice(1, categories)
        self.effects = slice(categories + 1, categories + 1 + systems)
        self.precision = np.full(size, PRIOR**-2)
        self.precision[self.effects.stop :] = 1
        self.theta = np.zeros(size)
        self.theta[[0, categories]] = -1e3, 1e3
        shares = np.cumsum(np.bincount(category, minlength=categories))[:-1] / len(category)
        self.theta[self.thresholds] = special.logit(shares)
        self.covariance = np.zeros((size, size))

    def cost(self, logs: np.ndarray) -> float:
        """Minus the approximate log likelihood of the logs of the deviations. Leaves the mode in `theta`, and its covariance."""
        slopes = -np.concatenate([[1.0], np.exp(logs)])
        above, below = np.concatenate([[1, 0], slopes]), np.concatenate([[0, 1], slopes])
        value, gradient, hessian = self._posterior(self.theta, above, below)
        for _ in range(50):
            step = np.linalg.solve(hessian, gradient)
            if gradient @ step < 1e-8:
                break
            length = 1.0
            while True:
                theta = self.theta.copy()
                theta[self.unknown] += length * step
                new = self._posterior(theta, above, below)
                if new[0] >= value or length < 1e-6:
                    break
                length /= 2
            self.theta, (value, gradient, hessian) = theta, new
        self.hessian = hessian
        return -value + np.linalg.slogdet(hessian)[1] / 2

    def finish(self) -> None:
        """Set `covariance` from the Hessian at the mode."""
        self.covariance[np.ix_(self.unknown, self.unknown)] = np.linalg.inv(self.hessian)

    def _posterior(
        self, theta: np.ndarray, above: np.ndarray, below: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Log posterior, its gradient, and minus its Hessian, for slopes of the two bounds in the parameters of a row."""
        size, rows = len(theta), theta[self.columns]
        F_a, F_b = special.expit(rows @ above), special.expit(rows @ below)
        p = F_a - F_b
        if p.min() <= 1e-300:  # thresholds out of order: the step was too long
            return -math.inf, np.zeros(len(self.unknown)), np.eye(len(self.unknown))
        f_a, f_b = F_a * (1 - F_a), F_b * (1 - F_b)
        g_a, g_b = f_a / p, -f_b / p
        h_aa = g_a**2 - f_a * (1 - 2 * F_a) / p
        h_bb = g_b**2 + f_b * (1 - 2 * F_b) / p
        h_ab = g_a * g_b
        slopes = g_a[:, None] * above + g_b[:, None] * below
        gradient = np.bincount(self.columns.ravel(), slopes.ravel(), size) - self.precision * theta
        both = np.outer(above, below)
        cells = (
            h_aa[:, None] * np.outer(above, above).ravel()
            + h_bb[:, None] * np.outer(below, below).ravel()
            + h_ab[:, None] * (both + both.T).ravel()
        )
        hessian = np.bincount(self.cells, cells.ravel(), size * size).reshape(size, size) + np.diag(self.precision)
        unknown = theta[self.unknown]
        value = np.log(p).sum() - (self.precision[self.unknown] * unknown**2).sum() / 2
        return float(value), gradient[self.unknown], hessian[np.ix_(self.unknown, self.unknown)]


# --- pairs -------------------------------------------------------------------------------------------------------------


def bradley_terry(choices: Choices, systems: int, draws: int = DRAWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Strengths of the systems, whose differences are the log odds of being preferred: (systems,), and bootstrap draws (draws, systems).

    They add up to 0.
    """
    import choix

    def fit(weight: np.ndarray) -> np.ndarray:
        wins = np.zeros((systems, systems))
        np.add.at(wins, (choices.winner, choices.loser), weight)
        return choix.ilsr_pairwise_dense(wins, alpha=BRADLEY_TERRY_PRIOR)

    strengths = fit(np.ones(len(choices)))
    drawn = [fit(weight) for weight in _weights(choices.rater, choices.song, draws, seed) if weight.any()]
    return strengths, np.array(drawn)


def bootstrap_p(estimate: float, draws: np.ndarray, count: int) -> float:
    """Two-sided p value of a difference: t test with the standard error of its bootstrap draws and `count - 1` degrees of freedom."""
    if count < 2:
        return math.nan
    error = float(np.nanstd(draws)) * math.sqrt(count / (count - 1))
    return float(2 * stats.t.sf(abs(estimate) / error, count - 1)) if error > 0 else math.nan


def holm(p: Sequence[float]) -> np.ndarray:
    """p values adjusted for their number by Holm's method; those that are NaN stay so and do not count."""
    p = np.asarray(p, float)
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known])]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1.0)
    return adjusted


# --- how many raters ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a study is expected to be like. Deviations are in points of the scale.

    Attributes:
        difference: of the mean ratings of two systems that is to be found.
        systems, songs, trials: trials are clips that a rater rates, at most songs x systems.
        rater: deviation of raters' own preferences for a system.
        song: deviation of what a song does to a system.
        noise: deviation of single ratings around those.
        comparisons: tests that Holm's method has to count.
        alpha: share of false alarms.
    """

    difference: float
    systems: int
    songs: int
    trials: int
    rater: float = 0.35
    song: float = 0.35
    noise: float = 0.8
    comparisons: int = 1
    alpha: float = 0.05

    @cached_property
    def rest(self) -> float:
        """Variance of the difference that no number of raters removes."""
        return 2 * self.song**2 / self.songs

    def power(self, raters: int) -> float:
        """Probability that the difference is found, by a t test with the smaller of raters and songs minus one degrees of freedom; the
        level is that of the first step of Holm's method, so it is a lower bound."""
        degrees = min(raters, self.songs) - 1
        if degrees < 1:
            return 0.0
        each = self.trials / self.systems  # ratings of a system by one rater
        variance = self.rest + 2 * (self.rater**2 + self.noise**2 / each) / raters
        shift = self.difference / math.sqrt(variance)
        limit = stats.t.ppf(1 - self.alpha / self.comparisons / 2, degrees)
        found = stats.nct.sf(limit, degrees, shift) + stats.nct.cdf(-limit, degrees, shift)
        return float(found) if math.isfinite(found) else float(shift > limit)  # scipy gives up on large shifts

    def raters_needed(self, power: float = 0.8, most: int = 1000) -> int | None:
        """The smallest number of raters with that power, None where `most` do not have it: then only more songs help."""
        if self.power(most) < power:
            return None
        low, high = 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(middle) >= power else (middle, high)
        return high
