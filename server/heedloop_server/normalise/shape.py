"""What the names of a span's attributes say without their values, worked out once per set of names.

An instrumentation sends the same few sets of names over and over, so that searching them by prefix and trying synonyms
need not happen per span.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from heedloop_server.normalise.aliases import TOKEN_NAMES, TOKEN_PREFIXES, token_field
from heedloop_server.normalise.tool_definitions import HOLDERS, NUMBERED

_REQUEST_PREFIXES = ("gen_ai.request.", "gen_ai.openai.request.", "openai.request.")
_JUDGEMENT = re.compile(r"(?:(?:span|trace|session)\.)?(?:annotations|evaluations)\.(?=\d)")
_MAX_CACHED_NAMES = 200
"""Sets with more names than this are worked out anew: numbered messages make many, and one-off, sets."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a set of attribute names says.

    Attributes:
        roots: the names' first words.
        request: (attribute, field) for each request parameter, such as `gen_ai.request.top_p` and `top_p`.
        judgements: prefixes of OpenInference's numbered annotations and evaluations, such as `session.evaluations.`.
        has_tools: True where an attribute may hold the tools that the request offered.
        tokens: the best attribute for each field of `Usage`, in its order; empty where there is none.
    """

    roots: frozenset[str]
    request: tuple[tuple[str, str], ...]
    judgements: tuple[str, ...]
    has_tools: bool
    tokens: tuple[str, str, str, str, str]


def shape_of(names: Collection[str]) -> Shape:
    """The shape of a set of attribute names."""
    return _cached(tuple(names)) if len(names) <= _MAX_CACHED_NAMES else _shape(tuple(names))


def _shape(names: tuple[str, ...]) -> Shape:
    request = [(n, n[len(p) :]) for p in _REQUEST_PREFIXES for n in names if n.startswith(p)]
    present = frozenset(names)
    tokens = [next((n for n in wanted if n in present), "") for wanted in TOKEN_NAMES]
    for name in names:
        if (field := _token_field(name)) is not None and not tokens[field]:
            tokens[field] = name
    return Shape(
        frozenset(n.partition(".")[0] for n in names),
        tuple(request),
        tuple(sorted({m[0] for n in names if (m := _JUDGEMENT.match(n))})),
        not present.isdisjoint(HOLDERS) or any(n.startswith(NUMBERED) for n in names),
        (tokens[0], tokens[1], tokens[2], tokens[3], tokens[4]),
    )


def _token_field(name: str) -> int | None:
    """The field of `Usage` that an attribute counts, where its place says that it counts tokens."""
    for prefix in TOKEN_PREFIXES:
        if name.startswith(prefix):
            return token_field(name[len(prefix) :])
    return token_field(name) if name.endswith("_tokens") and "." not in name else None


_cached = lru_cache(maxsize=2048)(_shape)
