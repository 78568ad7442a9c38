"""From answers to the table: who is excluded, whether the truth of simulated raters is found, what is written."""

import json
import math
import re

import numpy as np
import pytest
from study_raters import (
    SYSTEMS,
    THRESHOLDS,
    WORTH,
    answer_directly,
    answer_over_http,
    made_up_study,
    make_study,
    serving,
)

from megadance_hf.cli import command as cli
from megadance_hf.cli import study as command
from megadance_hf.study import design
from megadance_hf.study.answers import Answer
from megadance_hf.study.design import Study, StudyError
from megadance_hf.study.report import catch_score, exclusions, markdown, report

pytest.importorskip("choix")
RATERS, CARELESS = 30, 6


def true_means(songs):
    """Mean rating of each system by all possible raters: an average over their mildness, taste and noise."""
    random, found = np.random.default_rng(0), {}
    for system, worth in WORTH.items():
        latent = worth + 0.1 * random.integers(0, songs, 200_000)
        latent += np.hypot(0.5, 0.3) * random.normal(size=200_000) + random.logistic(size=200_000)
        found[system] = 1 + (latent[:, None] > np.array(THRESHOLDS)).sum(1).mean()
    return found


def order_of(question):
    return sorted(question["systems"], key=lambda name: -question["systems"][name]["mean"])


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    folder = made_up_study(tmp_path_factory.mktemp("report") / "study", songs=6, raters=RATERS)
    answer_directly(folder, RATERS, CARELESS)
    return folder, report(folder, draws=400)


# --- the truth is found ------------------------------------------------------------------------------------------------


@pytest.mark.versions
def test_the_order_and_the_means_are_those_of_the_simulation(answered):
    _, results = answered
    truth = true_means(6)
    for question in results["included"]["questions"].values():
        assert order_of(question) == ["truth", "ours", "nearest"]
        for system in SYSTEMS:
            row = question["systems"][system]
            assert row["low"] < truth[system] < row["high"] and row["high"] - row["low"] < 1.5, system
            assert sum(row["shares"]) == pytest.approx(1)
        for row in question["comparisons"]:
            assert row["low"] < truth[row["first"]] - truth[row["second"]] < row["high"]
            assert row["p_holm"] >= row["p"]
            wanted = WORTH[row["first"]] - WORTH[row["second"]]
            assert abs(row["log_odds"] - wanted) < 3 * row["error"] + 0.3
        assert 0.1 < question["alpha"] < 0.6
        assert question["deviations_in_logits"]["rater"] == pytest.approx(0.5, abs=0.3)
    strongest = [row for row in results["included"]["questions"]["DQ"]["comparisons"] if row["first"] == "nearest"]
    assert strongest[0]["p_holm"] < 0.05


def test_the_careless_are_found_and_nobody_else(answered):
    folder, results = answered
    assert results["raters"]["excluded"] == results["reasons"]["catch trials"] == CARELESS
    assert results["reasons"]["too fast"] == results["reasons"]["not played"] == 0
    assert (results["included"]["raters"], results["everyone"]["raters"]) == (RATERS - CARELESS, RATERS)
    # careless raters pull systems together
    spread = [
        np.ptp([row["mean"] for row in results[part]["questions"]["DQ"]["systems"].values()])
        for part in ("included", "everyone")
    ]
    assert spread[0] > spread[1]
    database = Study(folder)
    assert database.design.raters == RATERS


@pytest.mark.versions
def test_pairs(tmp_path):
    folder = made_up_study(tmp_path / "study", songs=6, raters=RATERS, mode="pairs", trials=18)
    answer_directly(folder, RATERS, CARELESS)
    results = report(folder, draws=300)
    assert CARELESS - 2 <= results["raters"]["excluded"] <= CARELESS + 1
    for question in results["included"]["questions"].values():
        assert order_of(question) == ["truth", "ours", "nearest"]
        assert sum(row["mean"] for row in question["systems"].values()) == pytest.approx(0, abs=1e-6)
        for row in question["comparisons"]:
            assert row["low"] < row["difference"] < row["high"] and row["p_holm"] >= row["p"]
    text = markdown(results)
    assert "Strengths of Bradley-Terry" in text and "Krippendorff" not in text
    assert sorted(path.name for path in (folder / "report").iterdir()) == ["means.png", "report.json", "report.md"]


@pytest.mark.slow
def test_thirty_raters_over_http_by_the_commands(tmp_path, capsys):
    """Made from files, served by a process, answered by 30 raters with requests of their own, closed, reported."""
    folder = make_study(tmp_path, songs=4, seconds=0.5, names=1, raters=30)  # of 60 other names three exclude 8
    with serving(folder) as (_, address, _):
        assert answer_over_http(address, folder, RATERS, CARELESS) == RATERS * 16
        assert cli.main(["study", "report", str(folder)]) == 2
        assert "still open" in capsys.readouterr().err
        assert cli.main(["study", "close", str(folder)]) == 0
    assert "is closed: 30 raters, 30 of them finished, 480 answers, 0 withdrew" in capsys.readouterr().out
    assert cli.main(["study", "report", str(folder), "--out", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    found = results["raters"]["excluded"]
    print(f"{found} excluded, {CARELESS} careless")
    assert CARELESS - 1 <= found <= CARELESS + 1
    truth = true_means(4)
    for question in results["included"]["questions"].values():
        assert order_of(question) == ["truth", "ours", "nearest"]
        assert all(row["low"] < truth[name] < row["high"] for name, row in question["systems"].items())


# --- exclusions ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(made_up_study(tmp_path_factory.mktemp("rules") / "study", songs=6, trials=18, seconds=2.0))


def answers_of(study, rater, rate, **content):
    """One rater's answers: `rate(clip)` gives all three ratings."""
    found = []
    for position, trial in enumerate(study.trials(rater)):
        values = dict.fromkeys(study.design.questions, rate(study.clips[trial.clips[0]]))
        given = {"values": values, "played": 2.0, "seconds": 5.0, "focus": 0, "plays": 1} | content
        found.append(Answer(rater, position, trial, given, 10.0))
    return found


def test_who_is_excluded(study):
    def good(clip):
        return 2 if clip.distortion else 4

    cases = {
        0: (answers_of(study, 0, good), []),
        1: (answers_of(study, 1, lambda clip: 3), ["catch trials"]),
        2: (answers_of(study, 2, lambda clip: 4 if clip.distortion else 2), ["catch trials"]),
        3: (answers_of(study, 3, good, seconds=0.5), ["too fast"]),
        4: (answers_of(study, 4, good, played=1.0), ["not played"]),
        5: (answers_of(study, 5, lambda clip: 1, seconds=0.2), ["catch trials", "too fast"]),
    }
    reasons, counted = exclusions(study, [answer for own, _ in cases.values() for answer in own])
    assert reasons == {rater: wanted for rater, (_, wanted) in cases.items()}
    assert {answer.rater for answer in counted} == {0}
    assert catch_score(study, cases[0][0]) == 2 and catch_score(study, cases[1][0]) == 0


def test_a_few_answers_may_be_fast_or_unplayed(study):
    own = answers_of(study, 0, lambda clip: 2 if clip.distortion else 4)
    for answer in own[:4]:
        answer.content["seconds"] = 0.1
    for answer in own[4:8]:
        answer.content["played"] = 1.8
    reasons, counted = exclusions(study, own)
    assert reasons == {0: []} and len(counted) == len(own) - 4, "what was not played does not count"


def test_who_saw_no_catch_trial_is_not_excluded_for_it(study):
    own = [answer for answer in answers_of(study, 0, lambda clip: 3) if not answer.trial.catch]
    assert math.isnan(catch_score(study, own)) and exclusions(study, own)[0] == {0: []}


# --- what is written ---------------------------------------------------------------------------------------------------


def test_what_is_written(answered):
    folder, results = answered
    files = {path.name for path in (folder / "report").iterdir()}
    assert files == {"report.json", "report.md", "means.png", "ratings.png"}
    assert json.loads((folder / "report" / "report.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(results)
    )
    text = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert text.count("| | DQ ↑ | DS ↑ | DC ↑ |") == 2, "as in table 1, without and with those who are excluded"
    for name in SYSTEMS:
        rows = re.findall(rf"^\| {name} \|(?: \d\.\d\d \[\d\.\d\d, \d\.\d\d\] \|){{3}}$", text, re.MULTILINE)
        assert len(rows) == 2, name
    assert f"Excluded: {CARELESS} raters (catch trials {CARELESS}, too fast 0, not played 0" in text
    for name in ("means.png", "ratings.png"):
        assert (folder / "report" / name).read_bytes()[:4] == b"\x89PNG"


def test_a_report_needs_answers_and_an_unchanged_folder(tmp_path):
    folder = made_up_study(tmp_path / "study")
    answer_directly(folder, 0)
    with pytest.raises(StudyError, match="nobody has answered anything"):
        report(folder)
    folder = made_up_study(tmp_path / "other")
    answer_directly(folder, 1)
    settings = folder / "study.yaml"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace("catch_margin: 1.0", "catch_margin: 0.0"), encoding="utf-8"
    )
    with pytest.raises(StudyError, match=r"was changed after the first rater came \(study.yaml\)"):
        report(folder)


def test_one_rater_is_reported_without_intervals(tmp_path):
    folder = made_up_study(tmp_path / "study")
    answer_directly(folder, 1)
    row = report(folder, draws=20)["everyone"]["questions"]["DQ"]["systems"]["ours"]
    assert row["low"] is row["high"] is None and 1 <= row["mean"] <= 5
    assert "[-, -]" in (folder / "report" / "report.md").read_text(encoding="utf-8")


# --- the command -----------------------------------------------------------------------------------------------------


def test_power_by_the_command(answered, capsys):
    assert cli.main("study power --difference 0.5 --systems 3 --songs 30 --comparisons 2".split()) == 0
    out = capsys.readouterr().out
    found = [(int(raters), float(power)) for raters, power in re.findall(r"^ +(\d+)   (\d\.\d\d)$", out, re.MULTILINE)]
    assert [raters for raters, _ in found] == [10, 20, 30, 50, 100, 200] and found == sorted(
        found, key=lambda row: row[1]
    )
    (needed,) = re.findall(r"is found with a power of 0.8 by (\d+) raters", out)
    assert next(raters for raters, power in found if power >= 0.8) >= int(needed)
    assert cli.main("study power --difference 0.05 --songs 4".split()) == 0
    assert "is not found with a power of 0.8 by 1000 raters: take more songs." in capsys.readouterr().out
    folder, results = answered
    earlier = str(folder / "report" / "report.json")
    assert cli.main(["study", "power", "--difference", "0.5", "--from", earlier, "--song", "0.1"]) == 0
    noise = [one["deviations_in_points"]["noise"] for one in results["included"]["questions"].values()]
    assert f"songs 0.10, single ratings {np.sqrt(np.mean(np.square(noise))):.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        ("power --difference 0.5 --power 1", "--power: 1 cannot be reached"),
        ("power --difference 0.5 --songs 3 --systems 2 --trials 7", "--trials: 7 is more than 6"),
        ("power --difference 0.5 --from nothing.json", "nothing.json does not exist"),
        ("report nowhere", "nowhere is no study, it has no study.yaml"),
        ("close nowhere", "nowhere is no study"),
        ("serve nowhere", "nowhere is no study"),
        ("new x --songs nowhere --size 7", "'7' cannot be used: give two numbers such as 720x720"),
    ],
)
def test_mistakes_at_the_command_line(words, message, capsys):
    try:
        status = cli.main(["study", *words.split()])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and error.count("\n") == 1


def test_names_that_the_command_repeats():
    assert command.QUESTIONS == design.QUESTIONS and command.MODES == design.MODES
