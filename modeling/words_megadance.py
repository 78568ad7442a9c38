"""Wishes in words: "slow and wide, more turns, low energy, tango at the chorus" as genres, a plan and attributes.

    read_prompt("a very slow waltz but with big arms, no turns", ["tango", "waltz"])
    -> Directions(genres={"waltz": 1.0}, attributes={"speed": 0.03, "expansion": 0.85, "turns": 0.03}, ...)

A table of words (`vocabulary_megadance.py`) and a small grammar: degrees ("very", "a bit"), comparisons ("more", "less", "slower"), negation ("no",
"not too", "without"), lists, "but", mixtures of genres, seconds and sections of the song. There is no model and no network, so the same
words always mean the same. Words that mean nothing to it are in `Directions.not_understood`.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .attributes_megadance import ATTRIBUTES
from .lexicon_megadance import (
    ARTICLES,
    Entry,
    bases_of,
    correct_spelling,
    make_lexicon,
    plain_text,
    split_words,
    stem_of,
)
from .times_megadance import NUMBER, mark_times, read_number
from .vocabulary_megadance import OF_NOUNS, PARTS

# Steps from the usual, and the quantile of the training data that they ask for.
QUANTILES = {-3: 0.03, -2: 0.15, -1: 0.35, 0: 0.5, 1: 0.65, 2: 0.85, 3: 0.97}

When = str | float  # one of SECTIONS or "after the chorus"; seconds of the dance, or before its end if negative
# What is danced when, and until when: (genre or weights, from, to); to None: until the next part.
Part = tuple[str | dict[str, float], When, When | None]


@dataclass
class Directions:
    """What a text was taken for.

    Attributes:
        genres: weights with the sum 1; of the whole dance, or of the rest where there are `parts`. {} where none is named.
        not_genres: genres that are not wanted.
        parts: (genre or weights, from, to): genres that are danced for a part of the dance only. `from` and `to` are seconds (negative: before the
            end) or one of `SECTIONS`; `to` is None where the part lasts until the next one, or to the end of the section.
        attributes: quantiles from 0 to 1, .5 being as usual.
        timed: (attribute, quantile, from, to): what is asked for a part of the dance only.
        not_understood: words that mean nothing here, in their order.
        corrected: misspelt words, and what they were taken for.
    """

    genres: dict[str, float] = field(default_factory=dict)
    not_genres: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    attributes: dict[str, float] = field(default_factory=dict)
    timed: list[tuple[str, float, When, When | None]] = field(default_factory=list)
    not_understood: list[str] = field(default_factory=list)
    corrected: dict[str, str] = field(default_factory=dict)


def read_prompt(text: str, genres: Sequence[str], attributes: Sequence[str] = tuple(ATTRIBUTES)) -> Directions:
    """What a text asks for, in terms of a model's genres and attributes. Nothing is refused; what means nothing is reported.

    Args:
        text: a wish in words, of any length.
        genres: those of the model.
        attributes: those of the model; words about others are reported as not understood.
    """
    return _Reader(text, tuple(genres), frozenset(attributes)).read()


# Kinds that a phrase rather is than any other; then what comes first in the tables.
_FIRST = ("genre", "dance", "section", "size")


@dataclass
class _Term:
    """A phrase of the text: words first to last."""

    kind: str
    value: Any
    first: int
    last: int
    entries: list[Entry] = field(default_factory=list)
    compared: int = 0  # 1: a comparative, 2: a superlative
    taken: bool = False  # by a size: "high energy" is one wish


# --- grammar -------------------------------------------------------------------------------------------------------


@dataclass
class _Mood:
    """What has been said of the next word that means something."""

    negated: str = ""  # "not", or "no" for the stronger ones
    too: bool = False
    degree: int = 0  # 1 slightly, 3 very
    compared: int = 0  # 1 more, -1 less
    amount: int | None = None  # -3 least, -2 few, 2 many, 3 always
    usual: bool = False

    def __bool__(self) -> bool:
        return self != _Mood()

    def add(self, kind: str) -> None:
        if kind in ("not", "no"):
            self.negated = kind
        elif kind == "too":
            self.too = True
        elif kind in ("very", "slightly"):
            self.degree = 3 if kind == "very" else 1
        elif kind in ("more", "less"):
            self.compared = 1 if kind == "more" else -1
        elif kind in ("many", "always", "few", "least"):
            self.amount = {"many": 2, "always": 3, "few": -2, "least": -3}[kind]
        elif kind == "usual":
            self.usual = True


_MOODS = ("not", "no", "too", "very", "slightly", "rather", "more", "less", "many", "always", "few", "least", "usual")
_BREAKS = ("comma", "break", "but", "then", "with")


def _steps(sign: int, strength: int, mood: _Mood, countable: bool) -> int | None:
    """Steps from the usual, of a word that stands for `sign` times `strength`; None where nothing is asked for.

    countable: it is done or not, or there is much or little of it: "no turns" is the least there is. Otherwise it is a quality: "not slow" is a little fast.
    """
    if mood.negated:
        if mood.compared:
            return None  # "no faster": as it is
        if mood.usual:
            return None
        if mood.too or mood.degree or mood.amount in (2, 3):
            return -sign  # "not too fast", "not very fast", "not many turns"
        if countable:
            return -3 * sign
        return -sign * (2 if mood.negated == "no" else 1)
    if mood.usual:
        return 0 if countable else sign  # "usual speed", but "moderately fast"
    by_degree = mood.degree or 2
    if mood.too:
        return -sign * by_degree
    if mood.compared:
        return sign * mood.compared * by_degree
    if mood.amount is not None:
        if mood.amount == -2:
            return -3 * sign if mood.degree == 3 else -2 * sign if countable else -sign
        if mood.amount == -3:
            return -3 * sign
        return (
            sign * (3 if mood.degree == 3 else mood.amount)
            if countable or mood.amount == 3
            else sign * max(strength, 2)
        )
    return sign * (mood.degree or strength)


_WISHES = ("quality", "size", "done", "dial", "scale")
_SHARES = (
    ("three quarters", 0.75),
    ("3 quarters", 0.75),
    ("quarter", 0.25),
    ("1/4", 0.25),
    ("two thirds", 2 / 3),
    ("2/3", 2 / 3),
    ("third", 1 / 3),
    ("1/3", 1 / 3),
)
_REWRITTEN = (  # phrases with something between their words, and what they are read as
    (r"\bw/ ?o(?:ut)?\b", "without"),
    (r"\bw/", "with "),
    (r"\b(arms|hands) ((?:\w+ )?)up and down\b", r"\1 "),
    (r"\bevery (?:\w+ )?(?:seconds?|bars?|beats?|measures?)\b", " often "),
    (r"\b([dl])'(?=[aeiouh])", r"\1 "),
    (r"\b(turns|spins|jumps|hops|steps) (up|down)\b", lambda m: f"{m[1]} {'more' if m[2] == 'up' else 'less'}, "),
    (r"\b(?:\w+ )?ones\b", " "),  # "fewer turns but bigger ones"
    (r"\b(mov(?:e|es|ing)) (?:very )?little\b", r"\1 less"),
    (r"\bon the (\w+) side\b", r"\1"),
    (r"\bwithout all (?:that|the|this|those)\b", "without"),
    (r"\bwithout (?:being|getting|looking)\b", "not"),
    (r"(?<!not )\bas \w+ as (?:usual|normal|before|always|ever|last time|now)\b", " "),
    (r"\bthan (?:usual|normal|normally|usually|average|before|now|last time|default|the original)\b", " "),
    (r"\b(?:above|over) (?:the )?(?:average|normal|usual)\b", " more "),
    (r"\b(?:below|under) (?:the )?(?:average|normal|usual)\b", " less "),
    (
        r"\b(?:not|never|\w+n't|cannot|dont|doesnt|didnt) ((?:(?!more|less)\w+ ){0,3})enough\b",
        r"more \1",
    ),  # not fast enough
    (r"\? *(no|none|nope|never)\b", r" \1"),  # "spins? no thanks"
    (r"(?<![\d.,:])0 (?=[a-z])", "zero "),
    (rf"\b({NUMBER}) out of ({NUMBER})\b", lambda m: f"{read_number(m[1]):g}/{read_number(m[2]):g}"),
    (r"\bon a scale (?:of|from) (?:1|0|one|zero) ?(?:to|-) ?(?:10|100|ten)\b", " "),
    (r"\b0?[.,]\d+ ?x\b", " less "),
    (r"\b\d+(?:[.,]\d+)? ?x\b(?! ?\d)|(?:\bx|[*×]) ?\d+\b", " more "),
    (r"(?<=[a-z]) ?/ ?2\b", " less "),
    (r"\b([ns])oo+\b", r"\1o"),
    (
        r"(?<=[a-z]) ?[:=-] ?(no|none|never|off|on|yes)\b(?= ?(?:[,;.!)\n]|$))",
        lambda m: {"off": " none", "on": "", "yes": ""}.get(m[1], " " + m[1]),
    ),
    (r"\bhi (?=energy|nrg|speed|tempo|arms|hands)", "high "),
    (r"\b(50:50|60:40|40:60|70:30|30:70|80:20|20:80|90:10|10:90)\b", lambda match: match[0].replace(":", "/")),
    (r"\bskip (?:the|any|all|those|these|every) ", "no "),
    (r"\brather ((?:\w+ ){1,4})than\b", r"\1not "),
    (r"\bnot ((?:\w+ ){1,3})at all\b", r"not at all \1"),
    (
        r"\b(?:turn|crank|dial|tone|bring|take|push|pump) (?:the |your |its |his |her )?(?!it |around |round |up |down )(\w+(?: \w+)?) (up|down)\b",
        r"\1 \2",
    ),
    (r"\b\d+(?:[.,]\d+)? ?(?:x|by) ?\d+(?:[.,]\d+)?(?: ?(?:m|meters?|metres?|ft|feet))?\b", " small space "),
    (r"\b(\d+) ?(?:%|percent|per cent|prozent|pour cent|por ciento)", r"\1% "),
)
_AMOUNTS = {
    "moves": "energy",
    "arms": "expansion",
    "places": "travel",
}  # what more of it means: "as little movement as possible"
_AFTER: dict[Any, str] = {"chorus": "after the chorus", "first half": "second half", "middle": "second half"}
_SEQUENCES: dict[int, tuple[str, ...]] = {
    2: ("start", "second half"),
    3: ("start", "middle", "end"),
}  # genres one after the other


@dataclass
class _Clause:
    """A clause: its terms, the word that opened it, when it holds, and whether it asks for an attribute."""

    terms: range
    opened: str
    when: tuple[When, When | None] | None = None
    wishes: bool = False


def _weights(genres: list[tuple[str, float | None]]) -> str | dict[str, float]:
    """The only genre, or weights with the sum 1; genres whose weight is not said share what remains."""
    given = dict(genres)
    if len(given) == 1:
        return next(iter(given))
    known = sum(weight for weight in given.values() if weight is not None)
    unknown = sum(weight is None for weight in given.values())
    other = max(1 - known, 0.1) / unknown if unknown else 0.0
    weights = {name: other if weight is None else weight for name, weight in given.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


class _Match(NamedTuple):
    """A phrase of the tables in the text: its last word, what it can be, whether it is compared, and words between its own."""

    last: int
    entries: list[Entry]
    compared: int
    moods: tuple[str, ...]


_DEEP = 9  # where nothing may stand between the words of a phrase any more


def _longer(one: _Match | None, other: _Match | None) -> _Match | None:
    return other if one is None or (other is not None and other.last > one.last) else one


class _Reader:
    def __init__(self, text: str, genres: tuple[str, ...], attributes: frozenset[str]) -> None:
        self.genres, self.attributes = genres, attributes
        plain = plain_text(text)
        plain = re.sub(r"([a-z])\1{2,}", lambda m: m.group(1) * (2 if m.group(1) in "eo" else 1), plain)  # sloooow
        plain = re.sub(r"(?<=\w)-(?=\w)", " ", plain)
        plain = re.sub(
            r"\bas (\w+(?: \w+)?) as (?:humanly |is |you |they |we |it )*(?:possible|possibly can|can be|can manage|can|gets?)\b",
            self._utmost,
            plain,
        )
        for pattern, instead in _REWRITTEN:
            plain = re.sub(pattern, instead, plain)
        signs = r"(\+{1,3}|-{1,3})"
        plain = re.sub(rf"([a-z]+)()[: ]?{signs}(?=\s*[,;.)\n]|\s*$)", self._signed, plain)
        plain = re.sub(rf"([a-z]+)()[: ]?{signs}(?=\s)(?<! [+-])", self._signed, plain)
        plain = re.sub(rf"(?<![\w+-]){signs}()(?=([a-z]+)(?! ?[:=]))", self._signed, plain)
        plain = re.sub(
            r"\b([a-z]+) free\b", lambda m: f"no {m[1]}" if self._kinds(m[1]) & {"done", "dial"} else m[0], plain
        )
        plain = re.sub(r"\bsame (?=([a-z]+))", self._same, plain)
        plain = re.sub(r"\b([a-z]{3,}?)[ -]?ish\b", self._ish, plain)
        plain, self.times = mark_times(plain)
        self.words = split_words(plain)
        self.result = Directions()
        self.levels: dict[str, int] = {}
        self.clock = 0.0  # where the last length ends
        self.terms: list[_Term] = []

    def _kinds(self, word: str) -> set[str]:
        """What a word of the text can be."""
        return {one.kind for one in make_lexicon(self.genres).get(stem_of(word), {}).get("", [])}

    def _signed(self, match: re.Match) -> str:
        """A sign for "more" or "less", where it stands at a word that there can be more of: "energy++ turns--", "+speed"."""
        after = match[1][0].isalpha()
        word, sign = (match[1], match[3]) if after else (match[3], match[1])
        if not self._kinds(word) & {"dial", "scale", "done", "noun"}:
            return match[0]
        amount = " more " if sign[0] == "+" else " less "
        return f"{word}{amount}, " if after else f", {amount}"

    def _same(self, match: re.Match) -> str:
        """The same energy is no wish."""
        phrase = stem_of(match[1]) in make_lexicon(self.genres).get("same", {})  # "same height" is in the tables
        return "not more " if not phrase and self._kinds(match[1]) & {"dial", "scale", "done"} else match[0]

    def _ish(self, match: re.Match) -> str:
        return f"slightly {match[1]}" if self._kinds(match[1]) & {"quality", "size"} else match[0]

    @staticmethod
    def _utmost(match: re.Match) -> str:
        what = match.group(1)
        if what in ("much", "many", "often"):
            return " always "
        if what in ("little", "few"):
            return " least "
        for word, meant in (("many ", "always "), ("much ", "always "), ("few ", "least "), ("little ", "least ")):
            if what.startswith(word):
                return f" {meant}{what[len(word) :]} "
        return f" extremely {what} "

    def read(self) -> Directions:
        self.terms = list(self._find_terms())
        self._read_strengths()
        self._read_parts()
        self.clauses = self._find_clauses()
        self._read_wishes()
        self._read_genres()
        self.result.attributes = {name: QUANTILES[self.levels[name]] for name in ATTRIBUTES if name in self.levels}
        self.result.not_understood = list(self._unknown())
        return self.result

    # words to terms

    def _find_terms(self) -> Iterator[_Term]:
        tree, index = make_lexicon(self.genres), 0
        while index < len(self.words):
            word = self.words[index]
            if word.startswith("§"):
                yield _Term("time", self.times[int(word[1:])], index, index)
                index += 1
                continue
            if not word[0].isalnum():
                kind = "comma" if word in ',+/&()"' else "break" if word in ";.!?\n-" else "filler"
                yield _Term(kind, word, index, index)
                index += 1
                continue
            found = self._longest(tree, index)
            if found is None and (right := correct_spelling(word, self.genres)):
                self.words[index] = right
                found = self._longest(tree, index)
                if found is not None:
                    self.result.corrected[word] = right
            if found is None:
                kind = "number" if word[0].isdigit() or word[0] in ".," else "unknown"
                yield _Term(kind, word, index, index)
                index += 1
                continue
            if found.last > index and self.words[found.last] in ("around", "about", "round"):
                place = self._longest(tree, found.last)  # "spin around the room" is to spin, and around the room
                if place is not None and place.last > found.last:
                    words, self.words = self.words, self.words[: found.last]
                    found = self._longest(tree, index) or found
                    self.words = words
            last, entries, compared, moods = found
            for mood in moods:
                yield _Term(mood, mood, index, index)
            entry = min(entries, key=lambda one: _FIRST.index(one.kind) if one.kind in _FIRST else len(_FIRST))
            yield _Term(entry.kind, entry.value, index, last, entries, compared)
            index = last + 1

    def _longest(self, node: dict[str, Any], index: int, depth: int = 0) -> _Match | None:
        """The longest phrase of the tables from a word on. Articles, and words such as "less" and "much", may stand in between:
        "cover less ground"."""
        if index >= len(self.words):
            return None
        word, best = self.words[index], None
        options = {stem_of(word): 0}
        if word in node:
            options = {word: 0} | options
        if depth == 0 or not options.keys() & node.keys():
            options |= {stem: degree for stem, degree in bases_of(word) if stem not in options}
        if depth and not options.keys() & node.keys() and (right := correct_spelling(word, self.genres)):
            options[stem_of(right)] = 0
        for stem, compared in options.items():
            if stem not in node:
                continue
            below = node[stem]
            entries = below.get("")
            if entries and not (compared and all(one.kind not in ("quality", "size", "filler") for one in entries)):
                best = _longer(best, _Match(index, entries, compared, ()))
            longer = self._longest(below, index + 1, depth + 1)
            if longer is not None:
                best = _longer(best, longer._replace(compared=longer.compared or compared))
        if depth and word in ARTICLES:
            best = _longer(best, self._longest(node, index + 1, depth))
        if 0 < depth < 3 and best is None:
            between = self._longest(make_lexicon(self.genres), index, _DEEP)
            if between is not None and between.entries[0].kind in (
                "more",
                "less",
                "many",
                "few",
                "least",
                "always",
                "very",
                "too",
            ):
                rest = self._longest(node, between.last + 1, depth + 1)
                if rest is not None and rest.entries[0].kind in ("done", "dial", "quality"):
                    entries = [one._replace(kind="done") if one.kind == "quality" else one for one in rest.entries]
                    best = rest._replace(entries=entries, moods=(between.entries[0].kind, *rest.moods))
        return best

    def _next(self, index: int) -> int | None:
        """The term after another one; articles do not count."""
        for at in range(index + 1, len(self.terms)):
            if self.terms[at].kind != "filler" or self.terms[at].value not in ARTICLES | {"your", "the"}:
                return at
        return None

    def _read_strengths(self) -> None:
        """Words that are something else before or after certain words: "a soft bounce", "modestly low", "tone down the arms", "spin like crazy",
        "two turns"."""
        for index, term in enumerate(self.terms):
            at = self._next(index)
            following = self.terms[at] if at is not None else _Term("break", "", 0, 0)
            strength = next((one.value for one in term.entries if one.kind == "strength"), None)
            mood = next((one.kind for one in term.entries if one.kind in ("more", "less", "always")), None)
            if mood == "always" and term.kind == "quality":
                if index and self.terms[index - 1].kind in _WISHES:
                    term.kind = term.value = mood  # "spin like crazy"
            elif mood and term.kind == "quality" and following.kind in ("done", "dial", "scale", "noun"):
                term.kind = term.value = mood  # "tone down the arms"
            elif strength is not None and self._strengthens(term, strength, following):
                term.kind = term.value = strength
            elif term.kind == "strength":
                term.kind = "unknown"
            elif self.words[term.first] in ("1", "2", "3", "one", "two", "three") and following.kind == "done":
                term.kind = term.value = "few"
            elif at is not None:
                self._read_image(index, at)

    def _strengthens(self, term: _Term, strength: str, following: _Term) -> bool:
        """Whether a word of strength is the degree of the next one: "a soft bounce", "gently turning", "crazy fast"."""
        adverb = self.words[term.last].endswith("ly")
        if term.kind == "size" and not adverb:
            return False  # a modest bounce is a small one
        kinds = ("quality", "size", "dial", "scale") if strength == "very" else ("done", "dial")
        if term.kind == "quality" and following.kind in ("done", "dial") and following.value[0][0] == term.value[0][0]:
            return False  # "strong power"
        return following.kind in (*kinds, "size", "quality", "more") if adverb else following.kind in kinds

    def _read_image(self, index: int, at: int) -> None:
        """A quality and what it is compared with or said of: "quick like a bunny" is not bouncy, and "slower than a rumba" is no rumba;
        "a gentle pace", "calm energy", "the energy of a sloth"."""
        term, following = self.terms[index], self.terms[at]
        if term.kind == "quality":
            names = {name for name, _ in term.value}
            image_at = self._next(at)
            image = self.terms[image_at] if image_at is not None else _Term("break", "", 0, 0)
            if following.kind == "scale" and names == {"energy"} and following.value[0][0] == "speed":
                term.value = [("speed", steps) for _, steps in term.value]
            elif following.kind == "dial" and following.value[0][0] == "energy":
                if not self._has_size(at) and self._number_after(at) is None:
                    following.kind, following.value = "filler", ""
            elif following.value in ("as", "than") and image.kind == "genre":
                image.kind = "filler"
            elif following.value in ("like", "as", "than") and image.kind == "quality":
                if not self.words[term.last].endswith("ly") and not names & {name for name, _ in image.value}:
                    image.kind, image.value = "filler", ""
        elif term.kind in ("dial", "scale") and following.kind == "quality":
            if "of" in self.words[term.last : following.first]:
                steps = following.value[0][1]
                term.kind, term.value = "quality", [(name, steps) for name, _ in term.value]
                following.kind, following.value = "filler", ""

    def _read_parts(self) -> None:
        """Parts of the body that turn, float or move by themselves: "arm circles", "turn your head", "floating arms", "the feet barely move"."""
        for index, term in enumerate(self.terms):
            names = {name for name, _ in term.value} if term.kind in ("quality", "done", "dial") else set()
            before, after = index - 1, self._next(index)
            word = self.words[term.last]
            if names & {"turns", "travel"} and stem_of(word) == "circl":
                if after is not None and self.terms[after].kind == "with":
                    after = self._next(after)
            elif after == index + 1 and not word.endswith("ing"):
                after = None  # "turn your head", but "spin arms high"
            if names == {"travel"} and stem_of(word) == "circl":
                if (
                    self._is_part(after, ("arms",))
                    or self._is_part(before, ("arms",))
                    or self._is_part(before - 1, ("arms",))
                ):
                    term.value = [("expansion", 2)]  # big circles with the arms
            elif names == {"turns"} and term.kind == "done" and (self._is_part(before) or self._is_part(after)):
                term.kind, term.value, term.entries = "noun", "moves", [Entry("noun", "moves")]
            elif names == {"bounce"} and word in ("down", "low") and self._is_part(before, ("arms",)):
                term.value = [("arm_height", -2)]  # the arms stay down
            elif names and names <= {"bounce", "turns"} and term.kind == "quality":
                if self._is_part(self._next(index), ("arms",)) or (
                    (word.endswith("ing") or stem_of(word) in ("float", "glid", "hover"))
                    and self._is_part(before, ("arms",))
                ):
                    term.kind = "unknown"

    def _is_part(self, index: int | None, parts: Sequence[str] = tuple(PARTS)) -> bool:
        if index is None or index < 0:
            return False
        words = {stem_of(self.words[at]) for at in (self.terms[index].first, self.terms[index].last)}
        return any(words & set(map(stem_of, PARTS[part].split())) for part in parts)

    # wishes for attributes

    def _read_wishes(self) -> None:
        mood, carried, carried_kind, unknown = _Mood(), _Mood(), "", False
        for index, term in enumerate(self.terms):
            kind = term.kind
            if kind in ("quality", "size", "done", "dial", "scale"):
                countable = kind in ("done", "dial", "scale")
                if not mood and carried and (carried_kind == "countable") == countable:
                    mood = carried
                after = self._after(index, mood)
                self._wish(index, term, mood, after)
                carried, carried_kind = (
                    (mood if mood.negated or mood.compared or mood.amount is not None else _Mood()),
                    "countable" if countable else "quality",
                )
                mood, unknown = _Mood(), False
            elif kind in ("genre", "dance"):
                term.value = (term.value, mood)
                carried, carried_kind = (mood if mood.negated else _Mood()), "genre"
                mood, unknown = _Mood(), False
            elif kind == "noun" and term.value in _AMOUNTS:
                amount = _merged(mood, self._after(index, mood))
                attribute = self._moving(index) if term.value == "moves" else _AMOUNTS[term.value]
                much = amount.too or amount.amount is not None
                if attribute and (much or (amount.compared and (not mood.negated or amount != mood))):
                    self._set(index, [(attribute, _steps(1, 2, amount, True))], amount)
                    mood, unknown = _Mood(), False
            elif kind in _MOODS:
                if kind in ("no", "not") and mood.negated:
                    mood = _Mood()
                if not term.taken:
                    mood.add(kind)
            elif kind == "share" and (
                self._precedes(index, ("dial", "scale"))
                or (self._precedes(index, ("done",)) and self.words[term.last + 1] in ("the", "of", "as"))
            ):
                mood.add("less")  # half the energy
            elif kind in ("or", "and"):
                if unknown:
                    mood = _Mood()
            elif kind == "comma":
                if not self._list_goes_on(index):
                    carried = _Mood()
                if unknown or self.terms[index - 1].value in ("no", "not") and self.words[index - 1] in ("no", "not"):
                    mood = _Mood()  # but "never, ever" and "very, very" go on
            elif kind in _BREAKS:
                mood, carried = _Mood(), _Mood()
            elif kind == "unknown":
                unknown = True
            elif term.value == "like" and carried.negated and index and not mood:
                mood, carried_kind = carried, carried_kind  # "no jumping about like a rabbit"

    def _moving(self, index: int) -> str:
        """The attribute that "move" and "movement" are about: that of the part of the body which moves, if one is named before."""
        for at in range(index - 1, -1, -1):
            for part in PARTS:
                if self._is_part(at, (part,)):
                    return {"arms": "expansion", "feet": "travel"}.get(part, "")
            if self.terms[at].kind in (*_BREAKS, *_WISHES):
                break
        return _AMOUNTS["moves"]

    def _ends(self, index: int) -> bool:
        """Whether a clause ends with a term."""
        return index + 1 == len(self.terms) or self.terms[index + 1].kind in _BREAKS

    def _precedes(self, index: int, kinds: tuple[str, ...]) -> bool:
        """Whether the next term that is no filler is one of the kinds."""
        following = (term.kind for term in self.terms[index + 1 :] if term.kind != "filler")
        return next(following, "") in kinds

    def _list_goes_on(self, index: int) -> bool:
        """Whether a comma is inside a list that ends with "or": "no turns, jumps or kicks"; or in one of bare names: "less turning, jumping and travel"."""
        bare = True
        for at, term in enumerate(self.terms[index + 1 :], index + 1):
            bare = bare and term.kind in ("done", "dial", "comma", "filler", "and")
            if term.kind == "and" and bare:
                last = self._next(at)
                return last is not None and self.terms[last].kind in ("done", "dial") and self._ends(last)
            if term.kind in ("or",) or (term.kind == "not" and self.words[term.first] == "nor"):
                return True
            if term.kind in _BREAKS and term.kind != "comma" or term.kind in _MOODS:
                return False
        return False

    def _after(self, index: int, mood: _Mood) -> _Mood:
        """What is said after a word: "turn a lot", "jump less", "do not turn so much"; empty where it belongs to the next word."""
        term, found, at = self.terms[index], _Mood(), index + 1
        graded = term.kind in ("quality", "size")
        taken = []
        while at < len(self.terms):
            other = self.terms[at]
            if graded and other.kind not in ("slightly", "more", "less", "always", "filler"):
                break
            if other.kind == "too" and self.words[other.first : other.last + 1] == ["too"]:
                if self._precedes(at, _WISHES):
                    return _Mood()
                break  # it means "also"
            if other.kind in _MOODS and other.kind not in ("not", "no"):
                found.add(other.kind)
                taken.append(other)
            elif other.kind == "not" and term.kind == "done" and self._ends(at):
                found.add("no")  # "jump not"
                taken.append(other)
            elif other.kind == "size" and mood.negated and term.kind == "done" and (found.degree or found.too):
                taken.append(other)  # "don't jump so high"
            elif other.kind == "no" and (
                term.kind != "done" or self.words[other.first] in ("no", "none", "zero", "never")
            ):
                found.add("no")
                taken.append(other)
            elif other.kind not in ("filler", "to"):
                break
            at += 1
        if at < len(self.terms) and self.terms[at].kind in (
            "quality",
            "size",
            "done",
            "dial",
            "scale",
            "genre",
            "noun",
            "unknown",
        ):
            return _Mood()
        for other in taken:
            other.taken = True
        return found

    def _wish(self, index: int, term: _Term, mood: _Mood, after: _Mood) -> None:
        if term.taken:
            return
        if term.compared:
            mood = _with(mood, compared=mood.compared or 1) if term.compared == 1 else _with(mood, degree=3)
        value = self._number_after(index) if term.kind in ("dial", "scale", "done") and not mood else None
        if value is not None:
            self._set(index, [(name, value) for name, _ in term.value], mood)
            return
        if after:
            mood = _merged(mood, after)
        if term.kind == "size":
            self._size(index, term, mood)
            return
        if term.kind in ("dial", "scale") and not mood and (term.kind == "scale" or self._has_size(index)):
            return
        countable = term.kind != "quality"
        self._set(
            index,
            [(name, _steps(1 if steps > 0 else -1, abs(steps), mood, countable)) for name, steps in term.value],
            mood,
        )

    def _size(self, index: int, term: _Term, mood: _Mood) -> None:
        """A word of size or height, with what it is said of."""
        size = next(one.value for one in term.entries if one.kind == "size")
        at = self._said_of(index)
        noun = self.terms[at] if at is not None else None
        if noun is not None and noun.kind in ("dial", "scale", "done"):
            sign = 1 if size in ("big", "up", "long") else -1
            if noun.kind == "done" and size in ("small", "short") and self.words[noun.last].endswith("s"):
                if at is not None and at > index:
                    noun.taken = True
                self._set(index, [(name, _steps(1, 1, mood, True)) for name, _ in noun.value], mood)
                return
            if at is not None and at > index:
                noun.taken = True
            self._set(index, [(name, _steps(sign, 2, mood, mood.negated == "no")) for name, _ in noun.value], mood)
            return
        name = next(one.value for one in noun.entries if one.kind == "noun") if noun is not None else ""
        meaning = OF_NOUNS.get((size, name)) if name or self.words[term.last] != "little" else None
        quality = next((one for one in term.entries if one.kind == "quality"), None)
        if meaning is None and quality is not None:
            self._set(
                index,
                [
                    (attribute, _steps(1 if steps > 0 else -1, abs(steps), mood, False))
                    for attribute, steps in quality.value
                ],
                mood,
            )
        elif meaning is not None:
            attribute, sign = meaning
            self._set(index, [(attribute, _steps(sign, 2, mood, False))], mood)
        elif self.words[term.first] not in ("up", "down", "raise", "lift"):
            term.kind = "unknown"

    def _number_after(self, index: int) -> int | None:
        """The steps nearest to a number that is said of a dial: "energy 80%", "speed: 8/10", "turns 0.2"."""
        term, at = self.terms[index], index + 1
        while at < len(self.terms) and self.terms[at].kind == "filler":
            at += 1
        if at == len(self.terms) or self.terms[at].kind not in ("number", "share"):
            at = index - 1  # "80% energy"
            if at < 0 or not re.search("%$|/(5|10|100)$", self.words[self.terms[at].first]):
                return None
        word = self.words[self.terms[at].first].replace(",", ".")
        if match := re.fullmatch(r"(\d+)/(5|10|100)", word):
            value = int(match[1]) / int(match[2])
        elif word.endswith("%"):
            value = float(word[:-1]) / 100
        elif re.fullmatch(r"0?\.\d+", word):
            value = float(word)
        elif re.fullmatch(r"\d+", word) and term.kind != "done":  # "energy 8", "energy 80"
            value = int(word) / (10 if int(word) <= 10 else 100) if int(word) != 11 else 1.0
        elif word == "0":
            return -3
        else:
            return None
        return min(QUANTILES, key=lambda steps: abs(QUANTILES[steps] - value))

    def _has_size(self, index: int) -> bool:
        """Whether a size after a dial belongs to it: "the energy very low"."""
        for at in range(index + 1, len(self.terms)):
            if self.terms[at].kind == "size":
                return self._said_of(at) == index
            if self.terms[at].kind not in ("filler", *_MOODS):
                return False
        return False

    def _said_of(self, index: int) -> int | None:
        """The term that a size belongs to: the next noun after it, or the last before it in the same clause."""
        strangers = 0
        for at in range(index + 1, len(self.terms)):
            other = self.terms[at]
            if _is_noun(other):
                return at
            if other.kind == "unknown" and not strangers:
                strangers += 1
            elif other.kind == "filler" and other.value in ARTICLES | {"root", "body", "overall", "general"}:
                continue
            elif (
                other.kind in ("comma", "and")
                and at + 1 < len(self.terms)
                and self.terms[at + 1].kind in ("quality", "size", "unknown")
            ):
                continue
            elif other.kind not in ("quality", "size", "very", "slightly", "rather", "more", "less"):
                break
        for at in range(index - 1, -1, -1):
            other = self.terms[at]
            if _is_noun(other):
                return at
            if other.kind in _BREAKS or other.kind == "genre":
                break
        return None

    def _set(self, index: int, wishes: list[tuple[str, int | None]], mood: _Mood) -> None:
        known = [(name, steps) for name, steps in wishes if name in self.attributes]
        if not known and wishes:
            self.terms[index].kind = "unknown"
        when = self._when_of(index)
        for clause in self.clauses:
            clause.wishes |= index in clause.terms
        for name, steps in known:
            if steps is None:
                continue
            if when is not None:
                self.result.timed.append((name, QUANTILES[steps], *when))
                continue
            before = self.levels.get(name)
            if before is not None and before * steps > 0:
                steps = before if abs(before) > abs(steps) and not (mood.negated or mood.compared) else steps
            elif before is not None and mood.negated and abs(steps) == 1:
                steps = (
                    0 if abs(before) == 1 else (1 if before > 0 else -1)
                )  # neither fast nor slow; fast, but not too fast
            self.levels[name] = steps

    def _when_of(self, index: int) -> tuple[When, When | None] | None:
        """When a wish for an attribute holds, if it is for a part of the dance."""
        waiting = None
        for clause in self.clauses:
            kinds = {self.terms[i].kind for i in clause.terms}
            if index in clause.terms:
                return None if "genre" in kinds else clause.when or waiting
            waiting = None if kinds & {"genre", *_WISHES} else clause.when
        return None

    # genres and plans

    def _find_clauses(self) -> list["_Clause"]:
        """The text in clauses, with the time that each names."""
        clauses: list[_Clause] = []
        start, opened = 0, ""
        for index in range(len(self.terms) + 1):
            kind = self.terms[index].kind if index < len(self.terms) else "break"
            if kind == "to" and not self._between_genres(index):
                continue
            if kind in ("comma", "break", "but", "then", "to", "rest", "back"):
                if kind == "rest" and (index + 1 == len(self.terms) or self.terms[index + 1].kind in _BREAKS):
                    opened = opened or kind  # "waltz for the rest"
                clauses += self._divide(range(start, index), opened)
                opened = kind if kind in ("then", "to", "rest", "back") else opened if start == index else ""
                start = index + 1
        for clause in clauses:
            clause.when = self._when(clause.terms)
        return clauses

    def _between_genres(self, index: int) -> bool:
        sides = (self.terms[:index], self.terms[index + 1 : index + 4])
        return all(any(term.kind == "genre" for term in side) for side in sides)

    def _divide(self, terms: range, opened: str) -> list["_Clause"]:
        """A clause, or the two on both sides of an "and", where they have their own times: "waltz at first and tango at the end"."""
        kinds = [self.terms[index].kind for index in terms]
        if not {"mix", "share", "mostly"} & set(kinds):
            for at, kind in enumerate(kinds):
                sides = (kinds[:at], kinds[at + 1 :])
                times = [bool({"time", "section"} & set(side)) for side in sides]
                genres = ["genre" in side for side in sides]
                if kind == "and" and (all(genres) and any(times) or all(times)):
                    middle = terms.start + at
                    return [
                        *self._divide(range(terms.start, middle), opened),
                        *self._divide(range(middle + 1, terms.stop), ""),
                    ]
            sections = [at for at, kind in enumerate(kinds) if kind == "section"]
            if len(sections) == 2 and "genre" not in kinds and set(kinds[: sections[0]]) <= {"filler"}:
                asked = [set(kinds[sections[0] : sections[1]]), set(kinds[sections[1] :])]
                if all(one & set(_WISHES) for one in asked):  # "start low energy end high energy"
                    middle = terms.start + sections[1]
                    return [_Clause(range(terms.start, middle), opened), _Clause(range(middle, terms.stop), "")]
            told = [at for at, kind in enumerate(kinds) if kind in ("genre", "time", "section")]
            pairs = [("genre" == kinds[one], "genre" == kinds[other]) for one, other in itertools.pairwise(told)]
            if len(told) > 3 and all(one != other for one, other in pairs):  # "first half waltz second half rumba"
                middle = terms.start + told[2] if len(told) % 2 == 0 else terms.stop
                if middle < terms.stop:
                    parts = (range(terms.start, middle), range(middle, terms.stop))
                    return [*self._divide(parts[0], opened), *self._divide(parts[1], "")]
        return [_Clause(terms, opened)] if len(terms) else []

    def _when(self, terms: range) -> tuple[When, When | None] | None:
        """When a clause holds: from, to."""
        begin: When | None = None
        until: When | None = None
        lasts = False
        for index in terms:
            term = self.terms[index]
            if term.kind not in ("time", "section"):
                continue
            kind, second = term.value if term.kind == "time" else ("at", term.value)
            near = [self.terms[i].kind for i in range(max(index - 3, terms.start), index)]
            word = next((kind for kind in reversed(near) if kind != "filler"), "")
            if kind in ("first", "for"):
                begin, until = "start", second
                lasts = kind == "for"
            elif kind == "last":
                begin = -second
            elif word in ("not", "no"):
                continue  # "everywhere except at the chorus"
            elif word == "until":
                until = second
            elif word == "after" and second in _AFTER:
                begin = _AFTER[second]
            elif begin is None or begin == "start":
                begin = second
        if begin is None and until is None:
            return None
        if lasts and isinstance(until, float):
            begin, until = self.clock or "start", self.clock + until
            self.clock = until
        return "start" if begin is None else begin, until

    def _read_genres(self) -> None:
        """`genres`, `not_genres` and `parts` of the result."""
        parts: list[Part] = []
        waiting: tuple[When, When | None] | None = None  # a time whose genre is still to come
        sequence: list[list[tuple[str, float | None]]] = []  # genres one after the other, without times
        rest: list[tuple[str, float | None]] = []
        unwanted: list[str] = []
        for clause in self.clauses:
            genres: list[tuple[str, float | None]] = []
            for index in clause.terms:
                if self.terms[index].kind == "genre":
                    name, mood = self.terms[index].value
                    if mood.negated and not (mood.too or mood.degree or mood.amount):
                        unwanted.append(name)
                    else:
                        genres.append((name, self._share(index, clause.terms, mood)))
            when = clause.when
            if not genres:
                if when is not None and not clause.wishes:
                    waiting = when
            elif clause.opened == "back" and when is None and (parts or sequence):
                waiting = None
            elif clause.opened == "rest":
                rest += genres
            elif when is not None or waiting is not None:
                begin, until = when or waiting or ("start", None)
                parts.append((_weights(genres), begin, until))
                waiting = (until, None) if until is not None and (begin == "start" or until == self.clock) else None
            elif sequence and clause.opened not in ("then", "to"):
                sequence[-1] += genres
            else:
                sequence.append(genres)
        if waiting is not None and len(sequence) == 1 and not parts:  # "tango, at the chorus"
            parts.append((_weights(sequence.pop()), *waiting))
        if not parts and len(sequence) in _SEQUENCES:
            parts = [
                (_weights(one), begin, None) for one, begin in zip(sequence, _SEQUENCES[len(sequence)], strict=True)
            ]
            sequence = []
        rest += [pair for one in sequence for pair in one]
        result = self.result
        result.parts = parts
        if rest:
            weights = _weights(rest)
            result.genres = {weights: 1.0} if isinstance(weights, str) else weights
        wanted = {
            name
            for genre in (result.genres, *(part[0] for part in parts))
            for name in ([genre] if isinstance(genre, str) else genre)
        }
        result.not_genres = [name for name in dict.fromkeys(unwanted) if name not in wanted]

    def _share(self, index: int, clause: range, mood: _Mood) -> float | None:
        """The weight of a genre; None where it is not said."""
        for step in (-1, 1):
            at = index + step
            while at in clause and self.terms[at].kind in ("filler", "slightly", "very"):
                at += step
            if at not in clause:
                continue
            term = self.terms[at]
            words = " ".join(self.words[term.first : term.last + 1])
            others = (
                step == 1
                and term.kind != "hint"
                and any(self.terms[i].kind == "genre" for i in range(at + 1, min(at + 3, clause.stop)))
            )  # then it is the other genre's
            if others:
                continue
            if term.kind == "hint" and step == 1:
                return 0.2
            if term.kind == "mostly":
                return 0.8
            if term.kind == "share":
                return next((share for word, share in _SHARES if word in words), 0.5)
            if term.kind == "number" and words.endswith("%"):
                return float(words[:-1].replace(",", ".")) / 100
        ratio = next(
            (
                re.fullmatch(r"(\d\d)/(\d\d)", self.words[self.terms[i].first])
                for i in clause
                if self.terms[i].kind == "number"
            ),
            None,
        )
        if ratio is not None:  # "60/40 tango and rumba"
            first = not any(self.terms[i].kind == "genre" for i in range(clause.start, index))
            return int(ratio[1 if first else 2]) / (int(ratio[1]) + int(ratio[2]) or 1)
        if mood.compared:
            return 0.7 if mood.compared > 0 else 0.3
        return 0.2 if mood.degree == 1 else None

    def _unknown(self) -> Iterator[str]:
        """Words that mean nothing, with the fillers between them: "velvet coat", "cats on a roof"."""
        run: list[_Term] = []
        for term in [*self.terms, _Term("break", "", 0, 0)]:
            if term.kind == "unknown" or (run and term.kind == "filler" and term.value not in ("=", ":")):
                run.append(term)
            elif run:
                while run[-1].kind == "filler":
                    run.pop()
                yield " ".join(self.words[run[0].first : run[-1].last + 1])
                run = []
            if term.kind == "dance":
                yield " ".join(self.words[term.first : term.last + 1])


def _is_noun(term: _Term) -> bool:
    return term.kind in ("dial", "scale", "done") or any(one.kind == "noun" for one in term.entries)


def _with(mood: _Mood, **changes: Any) -> _Mood:
    return _Mood(**{**mood.__dict__, **changes})


def _merged(mood: _Mood, after: _Mood) -> _Mood:
    """What is said before and after: "do not turn so much", "turn a bit more"."""
    changes = {name: value for name, value in after.__dict__.items() if value not in ("", False, 0, None)}
    return _Mood(**{**mood.__dict__, **changes})
