"""A review queue's settings as options of `heedloop review create` and `heedloop review change`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from heedloop_cli.commands.json_text import json_file


def _rules(text: str) -> Any:
    """A file of rules; `argparse` says what is wrong with it."""
    try:
        return json_file(Path(text))
    except (OSError, ValueError) as err:
        raise argparse.ArgumentTypeError(str(err)) from None


_OPTIONS: dict[str, dict[str, Any]] = {
    "--description": {"help": "shown to annotators"},
    "--status": {"choices": ("open", "paused", "closed", "archived")},
    "--judgements": {"dest": "judgements_per_item", "type": int, "help": "annotators per item (1)"},
    "--until": {
        "choices": ("number", "agreement", "confidence"),
        "help": "then one more judgement at a time, until most agree or the label is probable enough",
    },
    "--max-judgements": {"type": int, "help": "with --until: the most judgements of one item"},
    "--confidence": {"type": float, "help": "with --until confidence: how probable, 0.5 to 1 (0.9)"},
    "--order": {"choices": ("added", "newest", "random"), "help": "in which order items are offered"},
    "--annotator": {
        "dest": "annotators", "action": "append", "metavar": "WHO", "help": "who may work in it: an author id, or group:NAME",
    },
    "--by-language": {"action": argparse.BooleanOptionalAction, "help": "only to annotators who read the answer's language"},
    "--second-share": {"type": float, "help": "share of items judged once more by somebody else, 0 to 1"},
    "--second-by": {"action": "append", "metavar": "WHO", "help": "by whom: an author id, or group:NAME"},
    "--rules": {"type": _rules, "metavar": "FILE", "help": "JSON: a list of rules that keep filling the queue (docs/review.md)"},
    "--gold-share": {"type": float, "help": "share of gold items, 0 to 0.5 (0)"},
    "--lease-s": {"type": int, "help": "seconds an item is kept for its annotator (1800)"},
    "--due": {"dest": "due_at", "help": "when it should be done, such as 2026-12-01T00:00:00Z"},
    "--show": {"action": "append", "metavar": "FACT", "help": "a fact of the call to show"},
    "--suggestions": {"action": argparse.BooleanOptionalAction, "help": "show what models said about the answers"},
    "--webhook": {"dest": "webhook_url", "metavar": "URL", "help": "told when items or the queue are done, stuck, or somebody is careless"},
    "--stuck-hours": {"type": int, "help": "hours without a judgement after which the webhook is told (0: never)"},
    "--on-careless": {"choices": ("tell", "pause", "replace"), "help": "what happens to a careless annotator"},
}  # fmt: skip


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for every setting; what is not given is left as it is, or as the server begins."""
    for flag, settings in _OPTIONS.items():
        parser.add_argument(flag, default=None, **settings)


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as `POST` and `PATCH /v1/review/queues` take them."""
    names = (s.get("dest") or flag.removeprefix("--").replace("-", "_") for flag, s in _OPTIONS.items())
    return {name: value for name in names if (value := getattr(args, name)) is not None}
