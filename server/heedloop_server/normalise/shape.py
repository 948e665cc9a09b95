"""What the names of a span's attributes say without their values, worked out once per set of names.

An instrumentation sends the same few sets of names over and over, so that searching them by prefix and trying synonyms
need not happen per span.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from heedloop_server.normalise.aliases import (
    COST,
    COST_DETAILS,
    COST_OBJECTS,
    COST_PARTS,
    PROMPT_NAME,
    PROMPT_VERSION,
    SESSION,
    TAGS,
    TOKEN_NAMES,
    TOKEN_PREFIXES,
    USAGE_OBJECTS,
    USER,
    counts_cost,
    token_field,
)
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
        usages: attributes that hold all counts as one object.
        context: (field, attributes in order of trust) for the session, the user, the prompt and the tags.
        costs: attributes in order of trust, each with what it takes to make a cost: one, or the parts of one.
    """

    roots: frozenset[str]
    request: tuple[tuple[str, str], ...]
    judgements: tuple[str, ...]
    has_tools: bool
    tokens: tuple[str, str, str, str, str]
    usages: tuple[str, ...]
    context: tuple[tuple[str, tuple[str, ...]], ...]
    costs: tuple[tuple[str, ...], ...]


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
        tuple(n for n in USAGE_OBJECTS if n in present),
        tuple(
            (field, found)
            for field, wanted in _CONTEXT
            if (found := tuple(n for n in wanted if n in present))
        ),
        _costs(names),
    )


_CONTEXT = (
    ("session_id", SESSION),
    ("user_id", USER),
    ("prompt_name", PROMPT_NAME),
    ("prompt_version", PROMPT_VERSION),
    ("tags", TAGS),
)


def _costs(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    named = [(n,) for n in (*COST, *COST_OBJECTS) if n in names]
    worded = [(n,) for n in names if counts_cost(n) and (n,) not in named]
    parts = [tuple(n for n in pair if n in names) for pair in COST_PARTS]
    return tuple(
        c for c in (*named, *worded, *parts, tuple(n for n in names if n.startswith(COST_DETAILS))) if c
    )


def _token_field(name: str) -> int | None:
    """The field of `Usage` that an attribute counts, where its place says that it counts tokens."""
    for prefix in TOKEN_PREFIXES:
        if name.startswith(prefix):
            return token_field(name[len(prefix) :])
    return token_field(name) if name.endswith("_tokens") and "." not in name else None


_cached = lru_cache(maxsize=2048)(_shape)
