"""The database: an answer counts once, what is withdrawn is gone, a changed folder is noticed."""

import json
import secrets
import sqlite3

import pytest
from study_raters import Rater, answer_directly, made_up_study

from megadance_hf.study.answers import Answers, Refused, check_content
from megadance_hf.study.design import Study, StudyError


class Clock:
    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def answers(tmp_path, clock):
    opened = Answers(Study(made_up_study(tmp_path / "study", raters=3)), clock)
    yield opened
    opened.close()


def join(answers):
    secret = secrets.token_hex(16)
    answers.join(secret, "en", "none")
    return secret


def refusal(function, *arguments):
    with pytest.raises(Refused) as caught:
        function(*arguments)
    return caught.value.reason, caught.value.status


def content(answers, shown, number=0):
    return Rater(answers.study, number).content(shown.trial.clips)


def rows(answers, table):
    return answers._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_a_rater_sees_practice_then_every_trial_then_the_end(answers, clock):
    secret, trials = join(answers), answers.study.trials(0)
    for position in range(-1, len(trials)):
        shown = answers.next(secret)
        assert (shown.state, shown.position, shown.total) == ("trial", position, len(trials))
        assert shown.trial == (trials[position] if position >= 0 else answers.study.practice())
        assert answers.clip(shown.ticket, 0) == shown.trial.clips[0]
        clock.now += 1
        answers.answer(secret, shown.ticket, content(answers, shown))
    assert answers.next(secret).state == "done"
    assert answers.progress() == {"wanted": 3, "joined": 1, "finished": 1, "withdrawn": 0, "answers": len(trials)}


def test_an_answer_counts_once(answers, clock):
    """The same request again is acknowledged again; another one for the same trial is refused, whoever sends it."""
    secret, other = join(answers), join(answers)
    shown, theirs = answers.next(secret), answers.next(other)
    given = content(answers, shown)
    assert refusal(answers.answer, secret, shown.ticket, given) == ("early", 409)
    clock.now += 1
    for _ in range(3):
        answers.answer(secret, shown.ticket, given)
    assert rows(answers, "answers") == 1
    changed = given | {"seconds": 0.123}
    assert refusal(answers.answer, secret, shown.ticket, changed) == ("answered", 409)
    assert refusal(answers.answer, secret, theirs.ticket, given) == ("stale", 409)
    assert refusal(answers.answer, other, shown.ticket, given) == ("stale", 409)
    assert refusal(answers.answer, secret, secrets.token_hex(16), given) == ("stale", 409)
    assert refusal(answers.answer, secrets.token_hex(16), shown.ticket, given) == ("unknown", 404)
    assert rows(answers, "answers") == 1


def test_of_two_tabs_the_newer_one_counts(answers, clock):
    secret = join(answers)
    old, new = answers.next(secret), answers.next(secret)
    clock.now += 1
    assert old.position == new.position
    assert refusal(answers.answer, secret, old.ticket, content(answers, old)) == ("stale", 409)
    assert refusal(answers.clip, old.ticket, 0) == ("unknown", 404)
    answers.answer(secret, new.ticket, content(answers, new))


def test_only_what_the_page_sends_is_an_answer(answers):
    design = answers.study.design
    good = {"values": {"DQ": 1, "DS": 5, "DC": 3}, "played": 0.5, "seconds": 2.25, "focus": 0, "plays": 1}
    assert check_content(good | {"sound": "headphones"}, design) == good | {"sound": "headphones"}
    wrong = [None, [], "x", {}, good | {"more": 1}, good | {"sound": "loud"}, good | {"values": {"DQ": 1, "DS": 5}}]
    wrong += [good | {"values": good["values"] | {"DQ": value}} for value in (0, 6, 2.5, "3", True, None)]
    wrong += [good | {"played": value} for value in (-1, float("nan"), float("inf"), "1", True)]
    wrong += [{key: value for key, value in good.items() if key != "seconds"}]
    for one in wrong:
        assert refusal(check_content, one, design) == ("malformed", 400), one


def test_joining(answers):
    secret = join(answers)
    answers.join(secret, "en", "none")  # the acknowledgement was lost
    assert rows(answers, "raters") == 1
    assert refusal(answers.join, secrets.token_hex(16), "fr", "none") == ("malformed", 400)
    assert refusal(answers.join, secrets.token_hex(16), "en", None) == ("malformed", 400)
    join(answers), join(answers)
    assert refusal(answers.join, secrets.token_hex(16), "en", "none") == ("complete", 403)
    stored = answers._db.execute("SELECT secret FROM raters").fetchall()
    assert secret not in str(stored), "whoever reads the database cannot answer for a rater"


def test_withdrawal_deletes_everything(answers, clock, tmp_path):
    secret, other = join(answers), join(answers)
    for one in (secret, other):
        shown = answers.next(one)
        clock.now += 1
        answers.answer(one, shown.ticket, content(answers, shown) | {"seconds": 4.375 if one == secret else 2.5})
    answers.next(secret)
    files = lambda: b"".join(path.read_bytes() for path in answers.study.folder.glob("answers.sqlite*"))  # noqa: E731
    assert b"4.375" in files()
    answers.withdraw(secret)
    assert b"4.375" not in files() and b"2.5" in files()
    assert [rows(answers, table) for table in ("raters", "answers", "tickets")] == [1, 1, 0]
    assert answers.progress()["withdrawn"] == 1
    assert refusal(answers.next, secret) == refusal(answers.withdraw, secret) == ("unknown", 404)
    join(answers)
    numbers = answers._db.execute("SELECT number FROM raters ORDER BY number").fetchall()
    assert numbers == [(0,), (1,)], "the place is given to the next rater"


def test_a_closed_study_takes_nothing_more(answers, clock):
    secret = join(answers)
    shown = answers.next(secret)
    clock.now += 1
    with pytest.raises(StudyError, match="still open, and looking at results early spoils it: `megadance study close"):
        answers.results()
    answers.answer(secret, shown.ticket, given := content(answers, shown))
    shown = answers.next(secret)
    clock.now += 1
    answers.shut()
    assert refusal(answers.answer, secret, shown.ticket, content(answers, shown)) == ("closed", 403)
    assert refusal(answers.join, secrets.token_hex(16), "en", "none") == ("closed", 403)
    assert answers.next(secret).state == "closed"
    # the practice answer was acknowledged before, and still is
    ticket = answers._db.execute("SELECT ticket FROM answers").fetchone()[0]
    answers.answer(secret, ticket, given)
    raters, found = answers.results()
    assert len(raters) == 1 and found == []
    answers.withdraw(secret)


def test_a_folder_may_change_until_the_first_rater_comes(answers):
    folder = answers.study.folder
    answers.check_unchanged()
    text = folder / "page" / "texts" / "en.json"
    texts = json.loads(text.read_text(encoding="utf-8"))
    text.write_text(json.dumps(texts | {"consent": "Yes."}), encoding="utf-8")
    answers.check_unchanged()
    secret = join(answers)
    answers.check_unchanged()
    video = min((folder / "videos").iterdir())
    video.write_bytes(bytes(video.stat().st_size))
    (folder / "page" / "more.js").write_text("", encoding="utf-8")
    message = rf"was changed after the first rater came \(page/more.js, videos/{video.name}\): restore it"
    with pytest.raises(StudyError, match=message):
        answers.check_unchanged()
    answers.withdraw(secret)
    with pytest.raises(StudyError, match="was changed"):
        answers.check_unchanged()


def test_a_full_disk_loses_nothing(answers, clock):
    """Refused with a reason of its own; what was acknowledged stays; with room again the same request succeeds."""
    answers.study.design.raters = 1000
    pages = answers._db.execute("PRAGMA page_count").fetchone()[0]
    answers._db.execute(f"PRAGMA max_page_count = {pages}")
    acknowledged, full = 0, None
    while full is None:
        try:
            secret = join(answers)
            shown = answers.next(secret)
            clock.now += 1
            answers.answer(secret, shown.ticket, content(answers, shown))
            acknowledged += 1
        except Refused as refused:
            full = refused
    assert (full.reason, full.status) == ("full", 507)
    assert rows(answers, "answers") == acknowledged
    answers._db.execute("PRAGMA max_page_count = 100000")
    secret = join(answers)
    shown = answers.next(secret)
    clock.now += 1
    answers.answer(secret, shown.ticket, content(answers, shown))
    assert rows(answers, "answers") == acknowledged + 1


def test_what_is_no_database_is_said(tmp_path):
    folder = made_up_study(tmp_path / "study")
    (folder / "answers.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StudyError, match=r"answers.sqlite cannot be opened \(file is not a database\)"):
        Answers(Study(folder))


def test_every_change_is_flushed(answers):
    """What makes an acknowledged answer survive a power cut."""
    assert answers._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert answers._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert answers._db.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_results_are_what_was_answered(tmp_path):
    folder = made_up_study(tmp_path / "study", raters=5)
    answer_directly(folder, raters=3, only=4)
    opened = Answers(Study(folder))
    raters, found = opened.results()
    opened.close()
    assert [rater["experience"] for rater in raters] == ["some"] * 3
    assert [(answer.rater, answer.position) for answer in found] == [(r, p) for r in (1, 2, 3) for p in range(4)]
    for answer in found:
        assert answer.trial == opened.study.trials(answer.rater - 1)[answer.position]
        assert answer.elapsed == 1000 and set(answer.content["values"]) == {"DQ", "DS", "DC"}
    with sqlite3.connect(folder / "answers.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
