"""The queue of the web page: one after the other, places, time left, cancelling, and visitors who have left."""

import threading
import time

import pytest

from megadance_hf.demo import jobs as module
from megadance_hf.demo.jobs import BUG, DemoError, Jobs, Speeds, in_plain_words
from megadance_hf.modeling.plans_megadance import DirectionError


@pytest.fixture
def jobs():
    made = Jobs(3)
    yield made
    made.close()


class Slow:
    """Work that goes on until it is told to end, or is cancelled."""

    def __init__(self, ends=None):
        self.began, self.end, self.stopped, self.error = threading.Event(), threading.Event(), threading.Event(), ends

    def __call__(self, job):
        self.began.set()
        try:
            while not self.end.wait(0.01):
                job.check()
            if self.error:
                raise self.error
            job.takes.append({"id": "take"})
        finally:
            self.stopped.set()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def state(jobs, job, who="a"):
    return jobs.status(job.id, who)["state"]


def test_one_after_the_other(jobs):
    works = [Slow() for _ in range(3)]
    made = [jobs.add(who, "dance", work) for who, work in zip("abc", works, strict=True)]
    assert works[0].began.wait(5) and not works[1].began.is_set()
    assert [jobs.status(job.id, who)["place"] for job, who in zip(made, "abc", strict=True)] == [0, 1, 2]
    assert [state(jobs, job, who) for job, who in zip(made, "abc", strict=True)] == ["working", "waiting", "waiting"]
    works[0].end.set()
    assert works[1].began.wait(5)
    done = jobs.status(made[0].id, "a")
    assert (
        done["state"] == "done" and done["takes"] == [{"id": "take"}] and done["share"] == 1 and done["error"] is None
    )
    assert jobs.status(made[2].id, "c")["place"] == 1
    assert len({job.id for job in made}) == 3 and min(len(job.id) for job in made) > 20


def test_cancelling(jobs):
    first, second = Slow(), Slow()
    one, other = jobs.add("a", "dance", first), jobs.add("b", "dance", second)
    assert first.began.wait(5)
    jobs.cancel(other.id, "b")
    began = time.monotonic()
    jobs.cancel(one.id, "a")
    assert state(jobs, one) == "cancelled", "at once, whatever the worker is doing"
    assert first.stopped.wait(1) and time.monotonic() - began < 1
    assert state(jobs, other, "b") == "cancelled" and not second.began.wait(0.2)
    third = Slow()
    assert state(jobs, jobs.add("c", "dance", third), "c") in ("waiting", "working") and third.began.wait(5)
    for action in (jobs.cancel, jobs.status):
        with pytest.raises(DemoError, match="not here any more") as caught:
            action(one.id, "b")
        assert caught.value.status == 404


def test_a_new_job_cancels_the_visitor_s_other_one(jobs):
    works = [Slow() for _ in range(3)]
    first = jobs.add("a", "dance", works[0])
    assert works[0].began.wait(5)
    second = jobs.add("a", "dance", works[1])
    third = jobs.add("a", "redo", works[2])
    assert works[2].began.wait(5) and not works[1].began.is_set()
    assert [state(jobs, job) for job in (first, second, third)] == ["cancelled", "cancelled", "working"]


def test_a_cancelled_job_that_ends_all_the_same_gives_nothing(jobs):
    began, end = threading.Event(), threading.Event()

    def stubborn(job):
        began.set()
        end.wait(5)
        job.takes.append({"id": "take"})

    job = jobs.add("a", "dance", stubborn)
    assert began.wait(5)
    jobs.cancel(job.id, "a")
    end.set()
    until(lambda: jobs._working is None)
    assert jobs.status(job.id, "a")["state"] == "cancelled" and jobs.status(job.id, "a")["takes"] == []


def test_nobody_works_for_visitors_who_have_left(jobs, monkeypatch):
    """What is being made is given up, what waits never begins; who asks is waited for."""
    monkeypatch.setattr(module, "LEFT_SECONDS", 0.5)
    works = [Slow() for _ in range(3)]
    first, second, third = (jobs.add(who, "dance", work) for who, work in zip("abc", works, strict=True))
    assert works[0].began.wait(5)
    until(lambda: jobs.status(third.id, "c") and jobs.status(first.id, "a") and second.state == "cancelled")
    assert first.state == "working"
    until(lambda: jobs.status(third.id, "c") and works[2].began.is_set())
    assert works[0].stopped.is_set() and not works[1].began.is_set()
    assert first.state == second.state == "cancelled"


def test_the_queue_has_an_end(jobs):
    working = Slow()
    jobs.add("z", "dance", working)
    assert working.began.wait(5)
    for who in "abc":
        jobs.add(who, "dance", Slow())
    with pytest.raises(DemoError, match="Many visitors are waiting") as caught:
        jobs.add("d", "dance", Slow())
    assert caught.value.status == 503
    jobs.add("c", "dance", Slow())  # in place of the other one


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DirectionError("plan has 'waltz' at 3 s"), "Plan has 'waltz' at 3 s."),
        (DemoError("Too long."), "Too long."),
        (RuntimeError("secret reason"), BUG),
    ],
)
def test_mistakes_in_words(jobs, caplog, error, text):
    work = Slow(error)
    work.end.set()
    job = jobs.add("a", "dance", work)
    until(lambda: state(jobs, job) == "failed")
    status = jobs.status(job.id, "a")
    assert status["error"] == text and status["takes"] == []
    assert ("secret" in caplog.text) == (text == BUG), "a bug is written down"
    after = Slow()
    jobs.add("a", "dance", after)
    assert after.began.wait(5), "the worker goes on"


def test_paths_are_not_told():
    assert (
        in_plain_words(DemoError("/tmp/x/given.mp3 is no song"), {"/tmp/x/given.mp3": "my.mp3"}) == "My.mp3 is no song."
    )


def test_time_left_is_measured(jobs, monkeypatch):
    """By the speed of the step so far; before that, and for later steps, by the jobs before."""
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    job = module.Job("a", "dance", lambda _: None, Speeds({"dancing": 0.1, "dressing": 0.2}))
    assert job.status(2)["seconds_left"] is None and job.status(2)["place"] == 2
    job.state, job._begun = "working", clock[0]
    job.course([("dancing", 20.0), ("dressing", 20.0)])
    job.begin("Dancing waltz")
    assert job.status()["seconds_left"] == 2 + 4 and job.status()["step"] == "Dancing waltz"
    clock[0] += 1
    job.at(0.1)
    assert job.status()["seconds_left"] == 9 + 4 and job.status()["share"] == pytest.approx(1 / 14, abs=1e-3)
    clock[0] += 4
    assert job.status()["seconds_left"] == 5 + 4
    job.at(0.9)
    assert job.status()["seconds_left"] == pytest.approx(0.6 + 4, abs=0.1)
    share = job.status()["share"]
    clock[0] += 1
    job.begin("Dressing")
    assert job._speeds.seconds["dancing"] == pytest.approx(6 / 20) and job.status()["share"] >= share
    clock[0] += 100
    assert job.status()["seconds_left"] == 0 and job.status()["share"] <= 0.99


def test_what_ended_long_ago_is_forgotten(jobs, monkeypatch):
    work = Slow()
    work.end.set()
    job = jobs.add("a", "dance", work)
    until(lambda: state(jobs, job) == "done")
    monkeypatch.setattr(module, "KEPT_ENDED", -1.0)
    jobs.add("b", "dance", Slow())
    with pytest.raises(DemoError, match="not here any more"):
        jobs.status(job.id, "a")


def test_closing_gives_everything_up():
    jobs, work = Jobs(3), Slow()
    jobs.add("a", "dance", work)
    assert work.began.wait(5)
    waiting = jobs.add("b", "dance", Slow())
    jobs.close()
    assert work.stopped.is_set() and waiting.state == "cancelled"
    with pytest.raises(DemoError):
        jobs.add("c", "dance", Slow())
