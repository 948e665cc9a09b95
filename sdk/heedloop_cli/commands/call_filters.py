"""The filters of `GET /v1/calls` as flags, for every command that chooses calls."""

from __future__ import annotations

import argparse
import re

FILTERS = (
    "since",
    "until",
    "model",
    "prompt_name",
    "prompt_version",
    "service",
    "environment",
    "user_id",
    "session_id",
    "tag",
    "rating",
    "flag",
    "has",
    "status",
    "text",
)


def add_filters(parser: argparse.ArgumentParser, *, model: str = "model") -> None:
    """Add the filters of `GET /v1/calls`; the filter by model may need another flag."""
    for name in FILTERS:
        flag = model if name == "model" else name
        moment = name in ("since", "until")
        parser.add_argument(
            f"--{flag.replace('_', '-')}",
            dest=f"filter_{name}",
            metavar="TIME" if moment else name.upper(),
            type=_moment if moment else str,
            help=f"{name}, as in GET /v1/calls" + (", or a day of UTC, such as 2026-03-01" if moment else ""),
        )


def _moment(text: str) -> str:
    """A day alone is its beginning."""
    return f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text


def filters_of(args: argparse.Namespace) -> dict[str, str]:
    """The filters that were given."""
    chosen = {name: getattr(args, f"filter_{name}") for name in FILTERS}
    return {name: value for name, value in chosen.items() if value}
