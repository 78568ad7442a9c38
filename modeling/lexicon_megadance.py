"""The tables of words (`vocabulary_megadance.py`) as a tree of stems, and what misspelt words were meant to be."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from .vocabulary_megadance import (
    FILLERS,
    GENRES,
    GRAMMAR,
    NOUNS,
    OTHER_DANCES,
    OTHER_PHRASES,
    OTHER_WORDS,
    SECTIONS,
    SIZES,
    STRENGTHS,
    VOCABULARY,
)

_STEPS = {"very low": -3, "low": -2, "slightly low": -1, "slightly high": 1, "high": 2, "very high": 3}


class Entry(NamedTuple):
    """What a phrase of the tables can be."""

    kind: str  # "quality", "done", "dial", "scale"; "size", "noun", "genre", "dance", "section", "filler", or a row of GRAMMAR
    value: Any  # [(attribute, steps), ...] of the first four; the row's name of the others


ARTICLES = frozenset(
    "a an the your my his her its our their this that these those le la les l un une des du el los las lo una unos unas der die das den dem ein eine einen einem "
    "einer of".split()
)
_IRREGULAR = {
    "spun": "spin", "leapt": "leap", "sprang": "spring", "swept": "sweep", "crept": "creep", "slept": "sleep", "flew": "fly", "rose": "rise", "better": "good", "worse": "bad",
    "held": "hold", "kept": "keep", "went": "go", "going": "go", "goes": "go", "doing": "do", "using": "use", "uses": "use", "used": "use", "hurried": "hurry",
    **{word: word for word in ("highly", "mainly", "hugely", "wildly", "mildly", "mostly", "hardly", "barely", "rarely", "scarcely", "nearly", "quite", "lively", "only", "early", "insanely", "extremely", "largely")},
    "rooted": "rooted", "closed": "closed", "grounded": "grounded", "crowded": "crowded", "travelling": "travel", "travelled": "travel",
}  # fmt: skip
_VOWELS = set("aeiouy")


def plain_text(text: str) -> str:
    """Small letters without accents, one kind of apostrophe and dash."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‘", "'").replace("`", "'"))
    text = "".join(character for character in text if not unicodedata.combining(character)).casefold()
    text = re.sub("→|[-=]>", " then ", text)
    text = re.sub("[↑⬆⇧]", "+", re.sub("[↓⬇⇩]", "--", text))
    return re.sub(r"[‐-―−]", "-", text)


def stem_of(word: str) -> str:
    """A word without its ending, the same for jump, jumps, jumping and jumped."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) <= 3:
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("sses", "ches", "shes", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) >= 3 and not word.endswith("eed") and _VOWELS & set(rest):
            if rest[-1] == rest[-2] and rest[-1] not in "flsz":
                word = rest[:-1]
            elif len(rest) == 3 and rest[-1] not in "aeiouywx" and rest[-2] in "aeiou" and rest[-3] not in "aeiou":
                word = rest + "e"  # moving, hoping
            else:
                word = rest
            break
    if len(word) >= 6 and word.endswith("ly"):
        word = word[:-2]
    if len(word) >= 5 and word.endswith("e"):
        word = word[:-1]
    return word


def bases_of(word: str) -> Iterator[tuple[str, int]]:
    """What a comparative (1) or superlative (2) may be of: slower, wider, bigger, livelier."""
    for ending, degree in (("er", 1), ("est", 2), ("ers", 1)):
        rest = word[: -len(ending)]
        if word.endswith(ending) and len(rest) >= 3:
            yield stem_of(rest), degree
            yield stem_of(rest + "e"), degree
            if rest.endswith("i"):
                yield stem_of(rest[:-1] + "y"), degree
            if rest[-1] == rest[-2]:
                yield stem_of(rest[:-1]), degree


def _phrases(row: str) -> list[str]:
    """The phrases of a row; after the bar come those of other languages."""
    return [" ".join(phrase.split()) for phrase in row.replace("|", ",").split(",")]


def split_words(text: str) -> list[str]:
    return re.findall(r"§\d+|\d+/\d+|\d*[.,]?\d+%?|[a-z]+(?:'[a-z]+)*|[,;.!?:\n()=+/&\"-]", text)


@cache
def make_lexicon(genres: tuple[str, ...]) -> dict[str, Any]:
    """All tables as a tree of stems; the entries of a phrase are at its end under ""."""
    tree: dict[str, Any] = {}

    def put(phrase: str, entry: Entry, articles: bool = False) -> None:
        words = [word for word in split_words(plain_text(phrase).replace("-", " ")) if word != "'"]
        kept = [word for word in words if word not in (("the", "your") if articles else ARTICLES)] or words
        node = tree
        for word in kept:
            node = node.setdefault(stem_of(word), {})
        entries = node.setdefault("", [])
        if entry.kind in ("quality", "done", "dial", "scale"):
            for index, other in enumerate(entries):
                if other.kind == entry.kind:  # "frantic" is two attributes
                    known = {name for name, _ in other.value}
                    entries[index] = Entry(
                        entry.kind, [*other.value, *(pair for pair in entry.value if pair[0] not in known)]
                    )
                    return
        if entry not in entries:
            entries.append(entry)

    by_plain = {re.sub(r"[\W_]", "", plain_text(name)): name for name in genres}
    for table, names in GENRES.items():
        if table in by_plain:
            for phrase in _phrases(names):
                put(phrase, Entry("genre", by_plain[table]))
    for name in genres:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")
        for phrase in (name, spaced):
            put(phrase, Entry("genre", name))
    for phrase in (*_phrases(OTHER_DANCES), *(phrase for names in GENRES.values() for phrase in _phrases(names))):
        known = by_plain.get(phrase.replace(" ", ""))
        put(phrase, Entry("dance", phrase) if known is None else Entry("genre", known))
    for attribute, rows in VOCABULARY.items():
        for row, words in rows.items():
            kind = row if row in ("done", "dial", "scale") else "quality"
            for phrase in filter(None, _phrases(words)):
                put(phrase, Entry(kind, [(attribute, _STEPS.get(row, 2))]))
    for kind, nouns in (("size", SIZES), ("noun", NOUNS), ("section", SECTIONS)):
        for name, words in nouns.items():
            for phrase in _phrases(words):
                put(phrase, Entry(kind, name))
    for name, words in GRAMMAR.items():
        for phrase in _phrases(words):
            put(phrase, Entry(name, name), articles=True)
    for name, words in STRENGTHS.items():
        for phrase in _phrases(words):
            put(phrase, Entry("strength", name))
    for phrase in _phrases(OTHER_PHRASES):
        put(phrase, Entry("dance", phrase))
    for word in FILLERS.split():
        put(word, Entry("filler", word), articles=True)
    return tree


# --- misspelt words ------------------------------------------------------------------------------------------------


@cache
def _spellings(genres: tuple[str, ...]) -> dict[str, bool]:
    """The English words of the tables that mean something alone; False for fillers."""
    nouns = {f"{word}s" for row in NOUNS.values() for word in _phrases(row.partition("|")[0]) if len(word) == 3}
    tables = [words for rows in VOCABULARY.values() for words in rows.values()]
    tables += [words for table in (SIZES, NOUNS, SECTIONS, GRAMMAR, GENRES) for words in table.values()]
    words = {phrase for table in tables for phrase in _phrases(table.partition("|")[0])} | {
        plain_text(name) for name in genres
    }
    words |= nouns
    means = {word: True for word in words if word.isalpha() and len(word) >= 4}
    return {word: False for word in FILLERS.split() if word.isalpha() and len(word) >= 4} | means


def _distance(one: str, other: str, most: int) -> int:
    """Letters that are missing, added, exchanged with their neighbour, or other vowels; other letters count twice. Above `most` some number above."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (0 if a == b else 1 if {a, b} <= _VOWELS else 2))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]


@cache
def correct_spelling(word: str, genres: tuple[str, ...]) -> str | None:
    """The word of the tables that a word is a misspelling of; None where there is none, or more than one."""
    if len(word) < 4 or not word.isalpha() or word in OTHER_WORDS:
        return None
    most = 1 if len(word) < 9 else 2
    near: dict[tuple[int, bool], set[str]] = {}
    for other, means in _spellings(genres).items():
        if other[0] != word[0] and sorted(other[:2]) != sorted(word[:2]):
            continue
        distance, exchanged = _distance(word, other, most), sorted(word) == sorted(other)
        if distance <= most and (exchanged or (means and (len(word) > 4 or len(word) < len(other)))):
            near.setdefault((distance, not exchanged), set()).add(other)
    best = near[min(near)] if near else set()
    tree = make_lexicon(genres)
    meanings = {  # "bouncey" is near to "bounce" and to "bouncy", which is the same
        str(sorted({(name, steps > 0) for one in entries for name, steps in one.value}))
        if (entries := [one for one in tree[stem_of(other)].get("", []) if one.kind in ("quality", "done", "dial")])
        else stem_of(other)
        for other in best
    }
    return min(best) if len(meanings) == 1 else None
