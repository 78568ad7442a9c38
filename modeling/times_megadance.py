"""Times in words: "a minute and a half", "from 10 to 20 seconds", "the last twelve seconds" as seconds."""

import re
from typing import Any

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "ninety": 90}
_NUMBERS = {
    **{word: number for number, word in enumerate(_UNITS)},
    **_TENS,
    **{f"{ten} {unit}": tens + index for ten, tens in _TENS.items() for index, unit in enumerate(_UNITS[1:10], 1)},
    **{"zehn": 10, "funfzehn": 15, "zwanzig": 20, "dreissig": 30, "vierzig": 40, "vingt": 20, "trente": 30, "quarante": 40, "veinte": 20, "treinta": 30, "cuarenta": 40},
}  # fmt: skip
NUMBER = r"(?:\d+(?:[.,]\d+)?|" + "|".join(sorted(_NUMBERS, key=len, reverse=True)) + ")"
_SECONDS, _MINUTES = r"(?:s|sec|secs|seconds?|sekunden?|secondes?|segundos?)", r"(?:m|mins?|minutes?|minuten?|minutos?)"
_TIMES = [  # patterns, and the seconds of their groups
    (rf"({NUMBER}) ?{_MINUTES} (?:and |et |und |y )?({NUMBER}) ?{_SECONDS}?\b", lambda m, s: 60 * m + s),
    (rf"({NUMBER}) and a half {_MINUTES}\b", lambda m: 60 * m + 30),
    (r"(?:a |one )?(?:minute and a half|minutes? 30|1/2 minutes)\b", lambda: 90.0),
    (r"(?:half a minute|a half minute|half minute|halbe[nr]? minute|eine[rn]? halben minute|une demi minute|medio minuto)\b", lambda: 30.0),
    (r"(?:a quarter of a minute|quarter of a minute)\b", lambda: 15.0),
    (rf"({NUMBER}) ?{_MINUTES}\b", lambda m: 60 * m),
    (r"(?:a|an|une|un|einer) minutes?\b", lambda: 60.0),
    (rf"({NUMBER}) ?{_SECONDS}\b", lambda s: s),
    (rf"seconds? ({NUMBER})\b", lambda s: s),
    (r"(\d+):(\d\d(?:\.\d+)?)\b", lambda m, s: 60 * m + s),
]  # fmt: skip
_FIRST_SECONDS = r"(?:(?:in|for|during|within) )?(?:the )?(?:very )?first "
_LAST_SECONDS = r"(?:(?:in|for|during|within) )?(?:the )?(?:very )?last "


def read_number(text: str) -> float:
    return float(_NUMBERS.get(text, 0)) if text in _NUMBERS else float(text.replace(",", "."))


def _with_units(match: re.Match) -> str:
    """A range of seconds as two times: "from 10 to 20 seconds" is from 10 s until 20 s."""
    begin, end = (f"{part} s" if re.fullmatch(NUMBER, part) else part for part in map(str.strip, match.groups()))
    return f" at {begin} until {end} "


def mark_times(text: str) -> tuple[str, list[tuple[str, float]]]:
    """The text with "§0", "§1", ... in place of its times, and what they are: ("at", seconds), ("first", seconds), ("last", seconds), or
    ("for", seconds), a length."""
    times: list[tuple[str, float]] = []
    clock = rf"(?:{NUMBER} ?(?:{_MINUTES}|{_SECONDS})?|\d+:\d\d)"
    text = re.sub(rf"\bfrom ({clock}) ?(?:to|-|until|till) ({clock})(?![\w:])", _with_units, text)
    text = re.sub(rf"\bbetween ({clock}) ?(?:and|-) ({clock})(?![\w:])", _with_units, text)
    for pattern, seconds in _TIMES:
        for prefix, kind in (
            (_FIRST_SECONDS, "first"),
            (_LAST_SECONDS, "last"),
            (r"for (?:about |around )?", "for"),
            ("", "at"),
        ):

            def mark(match: re.Match, kind: str = kind, seconds: Any = seconds) -> str:
                times.append((kind, seconds(*(read_number(group) for group in match.groups()))))
                return f" §{len(times) - 1} "

            text = re.sub(rf"(?<![\w§:.]){prefix}{pattern}", mark, text)
    for match in re.finditer(r"§(\d+) +of\b", text):  # 30 seconds of waltz
        times[int(match[1])] = ("for", times[int(match[1])][1])
    return text, times
