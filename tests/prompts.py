"""Scores of `read_prompt` on phrases whose meaning was written down before it was built: tests/data/prompts_*.json."""

import json
from collections import Counter
from pathlib import Path

from megadance_hf.modeling.words_megadance import QUANTILES, Directions, read_prompt

GENRES = ["chacha", "rumba", "tango", "waltz"]
STEPS = dict(
    zip(("very low", "low", "slightly low", "usual", "slightly high", "high", "very high"), range(-3, 4), strict=True)
)
DATA = Path(__file__).parent / "data"


def load_phrases(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))


def read_phrase(phrase: dict) -> Directions:
    return read_prompt(phrase["text"], GENRES)


def mistakes(phrase: dict, found: Directions) -> list[str]:
    """What is wrong in the directions that were found for a phrase; nothing where it is right."""
    wrong = []
    if phrase["plan"]:
        if not _plans_agree(phrase["plan"], _plan(found)):
            wrong.append(f"plan {_plan(found)}")
    else:
        if found.parts:
            wrong.append(f"plan {_plan(found)}")
        if not _genres_agree(phrase, found):
            wrong.append(f"genres {found.genres}")
    named = set(found.genres) | {
        name for genre, _ in _plan(found) for name in ([genre] if isinstance(genre, str) else genre)
    }
    for name in phrase["not_genres"]:
        if name in named or (not named and name not in found.not_genres):
            wrong.append(f"{name} is not excluded")
    levels = {value: steps for steps, value in QUANTILES.items()}
    steps = {name: levels[value] for name, value, *_ in found.timed} | {
        name: levels[value] for name, value in found.attributes.items()
    }
    for name, allowed in phrase["attributes"].items():
        if name not in steps or not _level_agrees(steps[name], allowed):
            wrong.append(f"{name} {steps.get(name)}, not {allowed}")
    for name in steps.keys() - phrase["attributes"].keys():
        if name not in phrase["optional"] or not _level_agrees(steps[name], phrase["optional"][name]):
            wrong.append(f"{name} {steps[name]} was not asked for")
    reported = set(" ".join(found.not_understood).casefold().split())
    for item in phrase["not_understood"]:
        if not reported & set(item.casefold().replace("-", " ").split()):
            wrong.append(f"{item!r} is not reported")
    return wrong


def _level_agrees(steps: int, allowed: str | list[str]) -> bool:
    """A level is one of those allowed, or a step from one of them in its direction."""
    levels = [STEPS[level] for level in ([allowed] if isinstance(allowed, str) else allowed)]
    return any(steps == level or (abs(steps - level) == 1 and steps * level > 0) for level in levels)


def _plan(found: Directions) -> list[tuple]:
    rest = [(next(iter(found.genres)) if len(found.genres) == 1 else found.genres, None)] if found.genres else []
    return [*rest, *((genre, begin) for genre, begin, _ in found.parts)] if found.parts else []


def _plans_agree(expected: list, found: list) -> bool:
    if len(expected) != len(found):
        return False
    left = list(found)
    for genre, when in expected:
        for entry in left:
            if entry[0] == genre and _times_agree(when, entry[1]):
                left.remove(entry)
                break
        else:
            return False
    return True


def _times_agree(expected, found) -> bool:
    if expected is None or expected == found:
        return True
    seconds = [0.0 if when in ("start", "first half", None) else when for when in (expected, found)]
    if {"middle", "second half"} == set(seconds):
        return True
    return all(isinstance(second, float | int) for second in seconds) and abs(seconds[0] - seconds[1]) <= 0.5


def _genres_agree(phrase: dict, found: Directions) -> bool:
    expected = phrase["genres"]
    if not expected and phrase["not_genres"]:
        others = set(GENRES) - set(phrase["not_genres"])
        return not found.genres or (set(found.genres) == others and len(set(found.genres.values())) == 1)
    if set(expected) != set(found.genres) or any(
        abs(expected[name] - found.genres[name]) > 0.2 + 1e-9 for name in expected
    ):
        return False
    return all((expected[a] > expected[b]) <= (found.genres[a] > found.genres[b]) for a in expected for b in expected)


def report(paths: list[Path]) -> None:
    """Print each phrase that is wrong, the share of right ones of each kind, and how much was reported beside what had to be."""
    right, total, reports = Counter(), Counter(), 0
    for path in paths:
        for phrase in load_phrases(path):
            found = read_phrase(phrase)
            wrong = mistakes(phrase, found)
            for kind in (phrase["kind"], "all"):
                total[kind] += 1
                right[kind] += not wrong
            reports += len(found.not_understood) - len(phrase["not_understood"])
            if wrong:
                print(f"{phrase['text']!r}: {'; '.join(wrong)}")
    print(
        ", ".join(f"{kind} {right[kind]}/{total[kind]}" for kind in total),
        f"; reported beside what had to be: {reports}",
    )


if __name__ == "__main__":
    report(sorted(DATA.glob("prompts_*.json")))
