"""Means, agreement, the ordinal mixed model, Bradley-Terry, power: on simulated answers whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from megadance_hf.study import statistics
from megadance_hf.study.statistics import Choices, Plan, Ratings

pytest.importorskip("choix")
THRESHOLDS = np.array([-3.0, -1.0, 0.5, 2.5])


def crossed(raters, songs, systems, share=1.0, random=None):
    """Every rater, song and system, or a share of them: three (N,) arrays."""
    rows = (part.ravel() for part in np.meshgrid(range(raters), range(songs), range(systems), indexing="ij"))
    keep = slice(None) if random is None else random.random(raters * songs * systems) < share
    return [row[keep] for row in rows]


def simulate(seed, effects, raters=30, songs=12, deviations=(0.8, 0.4, 0.5, 0.4), share=1.0):
    """Ratings of the cumulative logit model with known effects of systems and deviations of random effects."""
    random = np.random.default_rng(seed)
    rater, song, system = crossed(raters, songs, len(effects), share, random)
    sizes = (raters, songs, (raters, len(effects)), (songs, len(effects)))
    own = [random.normal(0, deviation, size) for deviation, size in zip(deviations, sizes, strict=True)]
    latent = np.array(effects)[system] + own[0][rater] + own[1][song] + own[2][rater, system] + own[3][song, system]
    latent += random.logistic(size=len(latent))
    return Ratings(rater, song, system, 1 + (latent[:, None] > THRESHOLDS).sum(1))


# --- means -----------------------------------------------------------------------------------------------------------


def test_the_bootstrap_draws_raters_and_songs():
    """The same as copying the rows of drawn raters and songs one by one."""
    ratings = simulate(1, (0, 1), raters=5, songs=3, share=0.7)
    fast, slow = statistics.bootstrap_means(ratings, 2, draws=20, seed=4), []
    random = np.random.default_rng(4)
    raters, songs = np.unique(ratings.rater), np.unique(ratings.song)
    for _ in range(20):
        of_rater = random.multinomial(len(raters), np.full(len(raters), 1 / len(raters)))
        of_song = random.multinomial(len(songs), np.full(len(songs), 1 / len(songs)))
        drawn = [[], []]
        for rater, times in zip(raters, of_rater, strict=True):
            for song, again in zip(songs, of_song, strict=True):
                rows = (ratings.rater == rater) & (ratings.song == song)
                for system, value in zip(ratings.system[rows], ratings.value[rows], strict=True):
                    drawn[system] += [value] * (times * again)
        slow.append([np.mean(own) if own else np.nan for own in drawn])
    np.testing.assert_allclose(fast, slow)


def test_intervals_hold_the_truth():
    """Of 120 studies with 20 raters and 8 songs, whose truth is that of all raters and songs, about 95 % of the intervals hold it."""
    random, held = np.random.default_rng(0), []
    for _ in range(120):
        rater, song, system = crossed(20, 8, 2)
        value = 3 + 0.5 * system + random.normal(0, 0.4, 20)[rater] + random.normal(0, 0.3, 8)[song]
        value += random.normal(0, 0.4, (8, 2))[song, system] + random.normal(0, 0.7, len(value))
        drawn = statistics.bootstrap_means(Ratings(rater, song, system, value), 2, draws=300)
        for estimates, truth in ((drawn[:, 0], 3.0), (drawn[:, 1] - drawn[:, 0], 0.5)):
            low, high = statistics.expanded_interval(estimates, 8)
            held.append(low <= truth <= high)
    assert 0.92 <= np.mean(held) <= 0.99


def test_one_rater_or_one_song_tells_nothing_about_others():
    ratings = simulate(0, (0, 1), raters=1)
    drawn = statistics.bootstrap_means(ratings, 2, draws=50)
    assert all(map(math.isnan, statistics.expanded_interval(drawn[:, 0], 1)))
    assert statistics.ordinal_model(ratings, 2) is None
    np.testing.assert_array_equal(np.isnan(statistics.means(ratings, 3)), [False, False, True])


# --- agreement -------------------------------------------------------------------------------------------------------


def test_alpha_is_that_of_krippendorff():
    """The example of his "Computing Krippendorff's Alpha-Reliability" (2011): four observers, twelve units, ordinal 0.815."""
    table = """
        1 2 3 3 2 1 4 1 2 . . .
        1 2 3 3 2 2 4 1 2 5 . 3
        . 3 3 3 2 3 4 2 2 5 1 .
        1 2 3 3 2 4 4 1 2 5 1 .
    """
    cells = [row.split() for row in table.strip().splitlines()]
    rows = [(r, u, 0, int(cell)) for r, row in enumerate(cells) for u, cell in enumerate(row) if cell != "."]
    assert statistics.agreement(Ratings(*np.array(rows).T)) == pytest.approx(0.815, abs=5e-4)


@given(some.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_alpha_of_agreement_and_of_chance(seed):
    random = np.random.default_rng(seed)
    rater, song, system = crossed(30, 20, 3)
    of_clip = random.integers(1, 6, (20, 3))
    of_clip[0, :2] = (1, 5)
    assert statistics.agreement(Ratings(rater, song, system, of_clip[song, system])) == pytest.approx(1)
    assert abs(statistics.agreement(Ratings(rater, song, system, random.integers(1, 6, len(song))))) < 0.06


def test_alpha_without_differences_is_unknown():
    rater, song, system = crossed(3, 4, 2)
    assert math.isnan(statistics.agreement(Ratings(rater, song, system, np.full(len(song), 4))))
    assert math.isnan(statistics.agreement(simulate(0, (0, 1), raters=1)))


# --- ordinal mixed model -----------------------------------------------------------------------------------------------


def test_without_random_effects_it_is_statsmodels_ordered_model():
    ordered = pytest.importorskip("statsmodels.miscmodels.ordinal_model")
    ratings = simulate(2, (0, 0.7, 1.5), deviations=(0, 0, 0, 0))
    design = (ratings.system[:, None] == [1, 2]).astype(float)
    found = ordered.OrderedModel(ratings.value, design, distr="logit").fit(method="bfgs", disp=False)
    model = statistics.ordinal_model(ratings, 3, random_effects=())
    np.testing.assert_allclose(model.effects[1:], found.params[:2], atol=0.01)  # the prior's pull
    np.testing.assert_allclose(np.sqrt(np.diag(model.covariance)[1:]), found.bse[:2], rtol=0.02)


@pytest.mark.versions
def test_effects_and_deviations_are_recovered():
    """Ten studies of 30 raters and 12 songs: effects within their standard errors, deviations without bias."""
    effects, deviations = (0, 0.8, 2.0), (0.8, 0.4, 0.5, 0.4)
    models = [statistics.ordinal_model(simulate(seed, effects), 3) for seed in range(10)]
    scaled = [(m.compare(k, 0)[0] - effects[k]) / m.compare(k, 0)[1] for m in models for k in (1, 2)]
    assert abs(np.mean(scaled)) < 0.7 and 0.5 < np.std(scaled) < 1.5
    assert np.mean(np.abs(scaled) < stats.t.ppf(0.975, 11)) >= 0.85
    np.testing.assert_allclose(np.mean([m.deviations for m in models], axis=0), deviations, atol=0.12)


def test_equal_systems_are_seldom_called_different():
    """15 studies of two equal systems with preferences of raters and songs: the plain logit model would find most of them different."""
    found = [
        statistics.ordinal_model(simulate(seed, (0, 0), songs=8, raters=16), 2).compare(0, 1)[2] for seed in range(15)
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.2


def test_a_system_that_everybody_finds_great_has_a_finite_effect():
    rater, song, system = crossed(6, 4, 2)
    model = statistics.ordinal_model(Ratings(rater, song, system, np.where(system, 5, 2)), 2)
    difference, error, p = model.compare(1, 0)
    assert 2 < difference < 30 and math.isfinite(error) and 0 <= p <= 1
    assert statistics.ordinal_model(Ratings(rater, song, system, np.full(len(song), 4)), 2) is None


# --- pairs -------------------------------------------------------------------------------------------------------------


@pytest.mark.versions
def test_strengths_are_recovered():
    strengths, random = np.array([-0.7, 0.0, 0.7]), np.random.default_rng(5)
    rater, song, pair = crossed(30, 10, 3)
    left, right = np.array([(0, 1), (0, 2), (1, 2)])[pair].T
    wins = random.random(len(pair)) < 1 / (1 + np.exp(strengths[right] - strengths[left]))
    choices = Choices(rater, song, np.where(wins, left, right), np.where(wins, right, left))
    found, drawn = statistics.bradley_terry(choices, 3, draws=200)
    assert found.sum() == pytest.approx(0, abs=1e-6)
    for system in range(3):
        low, high = statistics.expanded_interval(drawn[:, system], 10)
        assert low < strengths[system] < high and high - low < 1
    assert statistics.bootstrap_p(found[2] - found[0], drawn[:, 2] - drawn[:, 0], 10) < 0.001
    assert math.isnan(statistics.bootstrap_p(1.0, drawn[:, 0], 1))


def test_holm():
    adjusted = statistics.holm([0.01, 0.04, 0.03, math.nan, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, math.nan, 0.02])
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).random(20) ** 3
    np.testing.assert_allclose(statistics.holm(p), multitest.multipletests(p, method="holm")[1])


# --- how many raters ---------------------------------------------------------------------------------------------------


def simulated_power(plan, raters, studies, seed=0):
    """How often the difference is found: means over everything a rater saw, then a test over the two-way table of differences."""
    random, found = np.random.default_rng(seed), 0
    for _ in range(studies):
        shape = (raters, plan.songs)
        noise = math.sqrt(
            2 * plan.noise**2 * plan.systems * plan.songs / plan.trials
        )  # a song seen by some of the raters only
        table = plan.difference + random.normal(0, noise, shape)
        table += random.normal(0, math.sqrt(2) * plan.rater, (raters, 1)) + random.normal(
            0, math.sqrt(2) * plan.song, (1, plan.songs)
        )
        of_rater, of_song = table.mean(1).var(ddof=1) / raters, table.mean(0).var(ddof=1) / plan.songs
        rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
        error = math.sqrt(
            max(of_rater + of_song - (rest**2).sum() / (raters - 1) / (plan.songs - 1) / table.size, 1e-9)
        )
        degrees = min(raters, plan.songs) - 1
        found += abs(table.mean()) / error > stats.t.ppf(1 - plan.alpha / plan.comparisons / 2, degrees)
    return found / studies


@pytest.mark.parametrize("raters", [10, 30])
def test_power_is_how_often_the_difference_is_found(raters):
    plan = Plan(0.35, systems=3, songs=20, trials=30)
    assert plan.power(raters) == pytest.approx(simulated_power(plan, raters, 1500), abs=0.06)
    equal = Plan(1e-9, systems=3, songs=20, trials=30)
    assert equal.power(raters) == pytest.approx(0.05, abs=1e-3)


@given(some.floats(0.1, 2), some.integers(2, 40), some.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_raters_needed_is_the_smallest_number(difference, songs, comparisons):
    plan = Plan(difference, systems=4, songs=songs, trials=2 * songs, comparisons=comparisons)
    needed = plan.raters_needed()
    if needed is None:
        assert plan.power(1000) < 0.8
    else:
        assert plan.power(needed) >= 0.8 > plan.power(needed - 1)


def test_deviations_are_found_in_an_earlier_study():
    random = np.random.default_rng(3)
    rater, song, system = crossed(40, 40, 4)
    value = 3 + random.normal(0, 0.4, 40)[rater] + random.normal(0, 0.2, 40)[song] + 0.2 * system
    value += random.normal(0, 0.35, (40, 4))[rater, system] + random.normal(0, 0.25, (40, 4))[song, system]
    value += random.normal(0, 0.8, len(value))
    found = statistics.spread(Ratings(rater, song, system, value), 4)
    np.testing.assert_allclose(found, (0.35, 0.25, 0.8), atol=0.05)
