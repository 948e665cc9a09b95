"""Words of a text in any script: one definition for search, similar answers, clusters, baselines and reward models.

Pure text in, text out. It lies in the SDK because the server and the trainer may not import each other and both may import
`heedloop`; it needs the standard library alone. Scripts that are written without spaces (Chinese, Japanese, Thai, Khmer, …) are
cut by ICU's dictionaries where the package icu4py is there (the extras `server` and `trainer` bring it), and into overlapping
pairs of characters where it is not. `terms` never asks ICU, so a saved model reads a text alike on every machine.

Sources: Unicode Standard Annexes 15 (normal forms) and 29 (boundaries), Unicode Technical Standard 10, section 8.2
(asymmetric search: a letter without accents finds the accented ones, an accented one only itself).
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# ------------------------------------------------------------------------------------------------------------ characters

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Thai, Lao, without their digits
    "\u1000-\u103f\u104c-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17d3\u17d7\u17dc\u17dd\u1950-\u19c9\u1a20-\u1a7c\u1b05-\u1b4c\ua984-\ua9c0"  # Khmer, Tai, Balinese, Javanese
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # kana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua48c\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003fffd"  # ideographs, Yi
)
"""Letters and marks (as a regular expression's set) of the scripts that put no space between words."""
PICTOGRAPHS = "\u2600-\u27bf\U0001f000-\U0001faff"
SINGLE = "\u2190-\u2bff\u3005-\u3007\u3021-\u3035\u3041-\u3096\u30a1-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\U0001b000-\U0001b16f\U0001f000-\U0001faff\U00020000-\U0003fffd"
"""Characters of which one or two make a word: a search index of three characters needs them spaced out."""
SPACER = "\x01"

_IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x200B, 0x200F),
    (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Default_Ignorable_Code_Point: joiners, soft hyphens, variation selectors; no part of a word."""

_OPTIONAL_MARKS = (
    (0x591, 0x5BD), (0x5BF, 0x5BF), (0x5C1, 0x5C2), (0x5C4, 0x5C5), (0x5C7, 0x5C7),  # Hebrew points
    (0x610, 0x61A), (0x640, 0x640), (0x64B, 0x652), (0x656, 0x65F), (0x670, 0x670), (0x6D6, 0x6DC), (0x6DF, 0x6E8), (0x6EA, 0x6ED),
)  # fmt: skip
"""Points, Arabic vowel signs and the stretching bar: readers leave them out or not as they please."""


def _points(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    return (point for first, last in ranges for point in range(first, last + 1))


def _bare(char: str) -> str:
    """A letter without its accents: the first character of its canonical decomposition."""
    return unicodedata.normalize("NFD", char)[0]


@functools.cache
def optional() -> dict[int, str]:
    """Spellings that readers take for the same, whatever the language: what `fold` puts in place of a character.

    Greek accents (capitals have none), ё, and i with and without dot, which capitals do not tell apart.
    """
    table = dict.fromkeys(_points(_OPTIONAL_MARKS), "")
    table |= {0x131: "i", 0x307: "", ord("ё"): "е"}
    greek = (chr(c) for c in (*range(0x3AC, 0x3CF), *range(0x1F00, 0x1FFF)))
    return table | {ord(c): _bare(c) for c in greek if c.isalpha() and _bare(c) != c and c == c.casefold()}


@functools.cache
def accents() -> dict[int, str]:
    """Accented small letters of Latin and Cyrillic with the letter below, and the combining accents with nothing."""
    table = {ord(c): b for c, b in zip("łøđħŧ", "lodht", strict=True)}
    letters = (chr(c) for c in (*range(0xE0, 0x250), *range(0x430, 0x530), *range(0x1E00, 0x1F00)))
    table |= {ord(c): _bare(c) for c in letters if _bare(c) != c and c == c.casefold()}
    return table | dict.fromkeys(range(0x300, 0x370), "")


@functools.cache
def separators() -> dict[int, str]:
    """Punctuation, spaces and control characters with a space."""
    return {
        point: " "
        for point in (*range(0x3100), *range(0xA000, 0x11000))
        if unicodedata.category(chr(point))[0] in "PZ" or unicodedata.category(chr(point)) == "Cc"
    }


@functools.cache
def _marks() -> str:
    """All combining marks, as a regular expression's set."""
    points = {
        p for p in _points(((0x300, 0x1F000), (0xE0100, 0xE01EF))) if unicodedata.category(chr(p))[0] == "M"
    }
    starts, ends = (sorted(p for p in points if p + step not in points) for step in (-1, 1))
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True))


# ---------------------------------------------------------------------------------------------------------- normal forms


def casefolded(text: str) -> str:
    """NFKC_Casefold: composed, compatibility forms (full width, ligatures, presentation forms) and case undone, nothing invisible."""
    if text.isascii():
        return text.lower()
    once = unicodedata.normalize("NFKC", text).casefold().translate(_ignored())
    return unicodedata.normalize("NFKC", once)


@functools.cache
def _ignored() -> dict[int, None]:
    return dict.fromkeys(_points(_IGNORABLE))


def fold(text: str) -> str:
    """The form in which two spellings of one word are equal: `casefolded`, without points and vowel signs that are optional."""
    return casefolded(text) if text.isascii() else casefolded(text).translate(optional())


def fold_parameters() -> dict[str, str]:
    """`fold` after NFKC_Casefold, as the two arguments of ClickHouse's translateUTF8: `text_from` and the shorter `text_to`."""
    letters = {k: v for k, v in optional().items() if v}
    removed = [k for k, v in optional().items() if not v]
    return {"text_from": "".join(map(chr, (*letters, *removed))), "text_to": "".join(letters.values())}


def search_form(text: str) -> str:
    """What the store's columns `question_search` and `answer_search` hold: the text to be searched for a part of it.

    Folded, without accents, punctuation as spaces, a space at both ends, a `SPACER` round each character of `SINGLE`, so that
    three characters in a row tell two ideographs. Must be what migration 0025 computes.
    """
    table = separators() if text.isascii() else separators() | accents() | optional()
    flat = f" {casefolded(text).translate(table)} "
    return flat if text.isascii() else _spaced_out(flat)


def _spaced_out(flat: str) -> str:
    begun = re.sub(f"([^{SINGLE}])([{SINGLE}])", rf"\1{SPACER}\2", flat)
    return re.sub(f"([{SINGLE}])", rf"\1{SPACER}", begun)


@dataclass(frozen=True, slots=True)
class SearchWord:
    """One word of a query.

    Attributes:
        form: what to look for in `search_form` of a text; three characters or more, but for one or two letters of a script
            without spaces that is an alphabet (a scan).
        accented: its parts with accents, which `fold` of the text must hold as well; none where the query has no accents.
    """

    form: str
    accented: tuple[str, ...]


def search_words(query: str) -> list[SearchWord]:
    """The words of a query, to be found in any order, each as a part of a text; one or two letters only begin a word.

    Empty where the query is punctuation alone.
    """
    chunks = casefolded(query).split()
    return [SearchWord(form, _accented(c)) for c in chunks if (form := _part(c))]


def _part(chunk: str) -> str:
    part = search_form(chunk).strip(" ")
    if not part or len(part) > 2 or is_unspaced(part):
        return part
    return f" {part}" if len(part) == 2 else f" {part} "


def _accented(chunk: str) -> tuple[str, ...]:
    parts = fold(chunk).translate(separators()).split()
    return tuple(p for p in parts if p.translate(accents()) != p)


@functools.lru_cache(1 << 16)
def _bare_form(char: str) -> str:
    return fold(char).translate(accents())


def find_parts(text: str, query: str) -> list[tuple[int, int]]:
    """Where the words of a query are in a text: half-open ranges of code points, in order, none touching another."""
    forms = [_bare_form(char) for char in text]
    places = [i for i, form in enumerate(forms) for _ in form]
    flat = "".join(forms)
    parts = set(fold(query).translate(accents()).translate(separators()).split())
    hits: set[int] = set()
    for part in parts:
        for match in re.finditer(re.escape(part), flat):
            last = places[match.end() - 1] + 1
            while last < len(text) and not forms[last]:  # the marks of its last letter
                last += 1
            hits |= set(range(places[match.start()], last))
    starts, ends = ([i for i in sorted(hits) if i + step not in hits] for step in (-1, 1))
    return [(a, b + 1) for a, b in zip(starts, ends, strict=True)]


# ---------------------------------------------------------------------------------------------------------------- words


@functools.cache
def _pieces() -> re.Pattern[str]:
    """A run of a script without spaces, a word of another, or a pictograph (with what is joined to it)."""
    marks = _marks() + "\u200c\u200d"
    letter = f"(?:(?![{UNSPACED}])[^\\W_][{marks}]*)"
    return re.compile(
        f"(?P<run>[{UNSPACED}](?:[{UNSPACED}{marks}])*)"
        f"|(?P<word>{letter}+(?:['’·.]{letter}+)*)"
        f"|(?P<sign>[{PICTOGRAPHS}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{PICTOGRAPHS}])*)"
    )


_ASCII_WORD = re.compile(r"[a-zA-Z0-9]+(?:['.][a-zA-Z0-9]+)*")


def spelled_words(text: str) -> list[tuple[str, str]]:
    """(folded, as written in NFC) of each word, in order. A piece never begins or ends within a character with its marks."""
    if text.isascii():
        return [(w.lower(), w) for w in _ASCII_WORD.findall(text)]
    spelled: list[tuple[str, str]] = []
    for piece in _pieces().finditer(unicodedata.normalize("NFC", text)):
        cut = _cut_run(piece[0]) if piece.lastgroup == "run" else [piece[0]]
        spelled += [(f, w) for w in cut if (f := fold(w))]
    return spelled


def words(text: str) -> list[str]:
    """The folded words of a text, in order, repeated ones repeated."""
    return [folded for folded, _ in spelled_words(text)]


def is_unspaced(word: str) -> bool:
    """Whether a word is of a script without spaces."""
    return re.match(f"[{UNSPACED}]", word) is not None


def num_words(text: str) -> int:
    """Words by `words`; without icu4py a script without spaces counts one for two characters."""
    return len(spelled_words(text))


def _cut_run(run: str) -> list[str]:
    breaker = _icu_words()
    return _pairs(run) if breaker is None else [w for w in breaker(run, "root") if not w.isspace()]


@functools.cache
def _icu_words() -> Any:
    """ICU's word breaker, or None where icu4py is not installed."""
    try:
        return importlib.import_module("icu4py.breakers").WordBreaker
    except ImportError:
        return None


def _pairs(run: str) -> list[str]:
    parts = graphemes(run)
    return [a + b for a, b in itertools.pairwise(parts)] or parts


@functools.cache
def _clusters() -> re.Pattern[str]:
    stackers = "\u1039\u17d2\u1a60\ua9c0\u1b44"  # the next letter is written below this one
    return re.compile(f"(?s:.)(?:[{_marks()}\u200c\u200d]|(?<=[{stackers}])[{UNSPACED}])*")


def graphemes(text: str) -> list[str]:
    """The characters as a reader sees them: each with its marks."""
    return list(text) if text.isascii() else _clusters().findall(unicodedata.normalize("NFC", text))


# ---------------------------------------------------------------------------------------------- features and surface counts


def terms(text: str, *, most: int = 4, max_words: int = 1) -> list[str]:
    """Features of a text for linear models: its words; where words are uncertain, runs of 1 to `most` characters.

    Uncertain are scripts without spaces, and Korean, whose words carry endings: there the runs are added to the word. With
    `max_words` 2 or more, words that follow each other are features as well, joined by a space. Does not ask ICU: the same text
    has the same features everywhere.
    """
    if text.isascii():
        term_list = [w.lower() for w in _ASCII_WORD.findall(text)]
        return term_list + _word_runs(term_list, max_words)
    term_list, run = [], []
    for piece in _pieces().finditer(unicodedata.normalize("NFC", text)):
        folded = fold(piece[0])
        if piece.lastgroup == "run":
            term_list += _word_runs(run, max_words) + _character_runs(folded, 1, most)
            run = []
            continue
        term_list.append(folded)
        run.append(folded)
        if _HANGUL.search(folded):
            term_list += _character_runs(folded, 2, most)
    return term_list + _word_runs(run, max_words)


def _word_runs(runs: list[str], most: int) -> list[str]:
    return [" ".join(runs[i : i + n]) for n in range(2, most + 1) for i in range(len(runs) - n + 1)]


_HANGUL = re.compile("[\uac00-\ud7a3]{3}")


def _character_runs(text: str, least: int, most: int) -> list[str]:
    parts = graphemes(text)
    return [
        "".join(parts[i : i + size]) for size in range(least, most + 1) for i in range(len(parts) - size + 1)
    ]


ENDS = ".!?…。！？｡।॥؟۔።፧።។៕။༎꓿׃⸮‽"
"""Marks that end a sentence, of all scripts."""
QUESTIONS, EXCLAMATIONS, COMMAS = "?？؟፧⸮;", "!！", ",，、､،؛፣"
QUOTES, CLOSERS = '"“”„«»「」『』《》', ENDS + "\"')”»」』）"


def num_sentences(text: str) -> int:
    """Sentences by the marks of any script; a line that has none (Thai, lists) is one. 0 where the text is blank."""
    parts = re.split(f"[{re.escape(ENDS)}\n]+", text)
    return sum(any(c.isalnum() for c in part) for part in parts)
