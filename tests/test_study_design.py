"""`study.yaml`, and the order in which raters see the clips."""

import json
from collections import Counter

import pytest
import yaml
from study_raters import made_up_study

from megadance_hf.study.design import QUESTIONS, Design, Exclusions, Study, StudyError, english_texts

DESIGN = {"title": "Dances", "contact": "A. Name", "systems": ["ours", "theirs", "truth"], "reference": "truth"}
DESIGN |= {"songs": ["a", "b", "c", "d"], "trials": 12}


def test_what_is_written_is_read(tmp_path):
    study = Study(made_up_study(tmp_path / "study", languages=["de"], exclusions=Exclusions(catch_margin=0.5)))
    again = Study(study.folder)
    assert again.design == study.design and again.clips == study.clips
    assert study.design.exclusions.catch_margin == 0.5 and study.design.questions == list(QUESTIONS)
    assert study.texts("de")["scale_1"] == "Sehr schlecht"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"reference": "gold"}, "reference='gold': give one of the systems ours, theirs, truth"),
        ({"systems": ["truth"]}, "two or more different names"),
        ({"systems": ["truth", "truth"]}, "two or more different names"),
        ({"songs": ["a"]}, "two or more different songs"),
        ({"mode": "stars"}, "mode='stars': give one of ratings, pairs"),
        ({"questions": ["DX"]}, "give some of DQ, DS, DC"),
        ({"trials": 13}, "trials='13': give a whole number from 1 to 12, songs x systems"),
        ({"trials": 13, "mode": "pairs"}, "from 1 to 12, songs x pairs of systems"),
        ({"trials": 2, "catch": 3}, "catch='3': give a whole number from 0 to 2"),
        ({"seconds": 0.1}, "seconds from 0.5 to 600"),
        ({"raters": True}, "raters='True': give a whole number"),
        ({"exclusions": {"catch": 1}}, "exclusions: 'catch' is not known; there are catch_margin"),
        ({"exclusions": {"fast_share": -1}}, "exclusions.fast_share=-1: give a number, 0 or more"),
    ],
)
def test_mistakes_in_the_design(changes, message):
    with pytest.raises(StudyError) as caught:
        Design(**DESIGN | changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes_in_the_folder(tmp_path):
    def broken(name, change, message):
        folder = made_up_study(tmp_path / name)
        change(folder)
        with pytest.raises(StudyError, match=message):
            Study(folder)

    def settings(**changes):
        def change(folder):
            path = folder / "study.yaml"
            path.write_text(
                yaml.safe_dump(yaml.safe_load(path.read_text(encoding="utf-8")) | changes), encoding="utf-8"
            )

        return change

    def first_video(folder):
        return min((folder / "videos").iterdir())

    def drop_clip(folder):
        key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
        key["clips"].pop(4)
        (folder / "key.json").write_text(json.dumps(key), encoding="utf-8")

    with pytest.raises(StudyError, match="is no study, it has no study.yaml: make one"):
        Study(tmp_path)
    broken("version", settings(version=2), "it is not of version 1")
    broken("unknown", settings(colour="red"), "'colour' is not known")
    broken("yaml", lambda folder: (folder / "study.yaml").write_text("{", encoding="utf-8"), "cannot be read")
    broken("missing", lambda folder: first_video(folder).unlink(), r"\.mp4 is missing: put it back")
    broken("size", lambda folder: first_video(folder).write_bytes(b"longer" * 1000), "are not of one size")
    broken("key", drop_clip, "key.json has no clip of nearest for song1")
    broken("language", settings(languages=["en", "fr"]), "fr.json does not exist")
    text = {key: value for key, value in english_texts().items() if key != "next"}
    broken("text", lambda folder: (folder / "page/texts/de.json").write_text(json.dumps(text)), "it lacks next")


def test_texts_of_all_languages_have_the_same_places(repository):
    folder = repository / "megadance_hf" / "study" / "page" / "texts"
    english = english_texts()
    for path in folder.glob("*.json"):
        texts = json.loads(path.read_text(encoding="utf-8"))
        assert texts.keys() == english.keys(), path.name
        for key, text in texts.items():
            assert text.strip() and text.count("{") == english[key].count("{"), (path.name, key)


# --- orders ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["ratings", "pairs"])
def study(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("design") / "study"
    return Study(made_up_study(folder, songs=6, raters=60, trials=12, catch=4, mode=request.param))


def of(study, trial):
    """Song and systems of a trial."""
    clips = [study.clips[clip] for clip in trial.clips]
    assert len({clip.song for clip in clips}) == 1
    return clips[0].song, tuple(sorted(clip.system for clip in clips))


def test_every_rater_gets_a_fair_share(study):
    """Each song twice, each in another condition; all conditions of a song equally often among three raters in a row."""
    seen = Counter()
    for number in range(60):
        main = [of(study, trial) for trial in study.trials(number) if not trial.catch]
        assert len(main) == 12 == len(set(main)) and set(Counter(song for song, _ in main).values()) == {2}
        seen.update(main)
        if number % 3 == 2:
            assert len(seen) == 18 and len(set(seen.values())) == 1
    assert study.trials(3) == study.trials(3)


def test_no_song_comes_twice_in_a_row_and_catch_trials_are_spread(study):
    kinds = Counter()
    for number in range(60):
        trials = study.trials(number)
        songs = [of(study, trial)[0] for trial in trials]
        assert all(a != b for a, b in zip(songs, songs[1:], strict=False)), number
        places = [place for place, trial in enumerate(trials) if trial.catch]
        assert len(places) == 4 and places[0] > 0
        assert all(b - a > 1 for a, b in zip(places, places[1:], strict=False))
        found = [study.clips[clip].distortion for place in places for clip in trials[place].clips]
        kinds.update(kind for kind in found if kind)
        assert len({kind for kind in found if kind}) == 4
    assert set(kinds.values()) == {60}


def test_sides_and_places_are_balanced(study):
    """Neither the place in the order nor the side of a pair goes with a system: first and second half, left and right."""
    places, left = Counter(), Counter()
    for number in range(60):
        main = [trial for trial in study.trials(number) if not trial.catch]
        for place, trial in enumerate(main):
            for clip in trial.clips:
                places[study.clips[clip].system, place < 6] += 1
            left[study.clips[trial.clips[0]].system] += 1
    assert max(places.values()) - min(places.values()) <= 0.15 * max(places.values())
    assert max(left.values()) - min(left.values()) <= 0.2 * max(left.values())


def test_songs_follow_each_other_equally_often(tmp_path):
    """With an even number of songs each comes after each other one as often as any (Williams)."""
    study = Study(made_up_study(tmp_path / "study", songs=6, trials=6, catch=0))
    pairs = Counter()
    for number in range(6):
        songs = [of(study, trial)[0] for trial in study.trials(number)]
        pairs.update(zip(songs, songs[1:], strict=False))
    assert len(pairs) == 30 and set(pairs.values()) == {1}


def test_other_seeds_other_orders(tmp_path):
    one, two = (Study(made_up_study(tmp_path / str(seed), seed=seed)) for seed in (1, 2))
    assert [one.trials(n) for n in range(5)] != [two.trials(n) for n in range(5)]
