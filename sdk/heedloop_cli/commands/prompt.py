"""`heedloop prompt push | pull | list | diff | label | optimise`: the registry of prompts."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from heedloop.changes import compare
from heedloop.client import Client, NotFound
from heedloop.responses import PromptVersion
from heedloop.schema import Prompt, format_time, from_json, to_json
from heedloop_cli.commands import prompt_optimise
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors
from heedloop_cli.commands.json_text import json_object

HELP = "prompts: store versions, compare and label them, optimise one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands' arguments."""
    commands = parser.add_subparsers(
        dest="what", required=True, metavar="push | pull | list | diff | label | optimise"
    )
    push = commands.add_parser("push", help="store a file as the next version; the same words are the same")
    push.add_argument("name")
    push.add_argument("file", type=Path, help=".json is a conversation (docs/prompts.md), else one text")
    push.add_argument("--note", default="", help="why it was changed")
    push.add_argument("--label", help="let this label name it")
    pull = commands.add_parser("pull", help="write a version to the standard output")
    pull.add_argument("name")
    pull.add_argument("--label", default="latest", help="a label, latest, or a version's number (latest)")
    commands.add_parser("list", help="all prompts with their labels")
    diff = commands.add_parser("diff", help="what the second version changed")
    diff.add_argument("name")
    diff.add_argument("before", help="a label, latest, or a version's number")
    diff.add_argument("after", nargs="?", default="latest")
    label = commands.add_parser("label", help="let a label name a version: apps are served it")
    label.add_argument("name")
    label.add_argument("label")
    label.add_argument("version", help="a version's number, another label, or none to take it off")
    prompt_optimise.add_arguments(commands.add_parser("optimise", help=prompt_optimise.HELP))
    for one in commands.choices.values():
        add_connection(one)


def run(args: argparse.Namespace) -> int:
    """0 where it is done."""
    works = {
        "push": _push,
        "pull": _pull,
        "list": _list,
        "diff": _diff,
        "label": _label,
        "optimise": _optimise,
    }
    return with_plain_errors(args, works[args.what])


def _push(args: argparse.Namespace) -> int:
    client = client_of(args)
    made = client.create_prompt(read_prompt(args.name, args.file), note=args.note)
    if args.label:
        client.label_prompt(args.name, args.label, made.prompt.version)
    print(f"{args.name} {made.prompt.version}{f' {args.label}' if args.label else ''}")
    return 0


def _optimise(args: argparse.Namespace) -> int:
    client = client_of(args)
    return prompt_optimise.run_with(client, args, find_version(client, args.name, args.label).prompt)


def read_prompt(name: str, file: Path) -> Prompt:
    """The prompt that a file holds."""
    if file.suffix != ".json":
        return Prompt(name, file.read_text("utf-8").removesuffix("\n"))
    return from_json(Prompt, {**json_object(file), "name": name})


def find_version(client: Client, name: str, chosen: str) -> PromptVersion:
    """The version of a number, a label, or `latest`; raises `NotFound` where there is none."""
    for one in client.prompt(name).versions:  # the newest first
        if chosen in ("latest", str(one.prompt.version), *one.labels):
            return one
    raise NotFound(f"no version of {name} is called {chosen!r}; `heedloop prompt list` shows the labels")


def _pull(args: argparse.Namespace) -> int:
    prompt = find_version(client_of(args), args.name, args.label).prompt
    rest = {k: v for k, v in to_json(prompt).items() if k not in ("name", "version")}
    print(prompt.text or json.dumps(rest, indent=2, ensure_ascii=False))
    return 0


def _list(args: argparse.Namespace) -> int:
    prompts = client_of(args).prompts()
    if not prompts:
        print("no prompts yet; `heedloop prompt push NAME FILE` stores one")
    for p in prompts:
        labels = ", ".join(f"{label} {version}" for label, version in sorted(p.labels.items()))
        made = f"{format_time(p.created_at)[:19]}Z by {p.created_by}"
        print(f"{p.name}: {p.newest} {'version' if p.newest == 1 else 'versions'}, newest {made}; {labels or 'no labels'}")  # fmt: skip
    return 0


def _diff(args: argparse.Namespace) -> int:
    client = client_of(args)
    before, after = (find_version(client, args.name, chosen).prompt for chosen in (args.before, args.after))
    marks = {"same": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}
    colours = {"same": "{}", "gone": "\x1b[31m[-{}-]\x1b[0m", "new": "\x1b[32m{{+{}+}}\x1b[0m"}
    shown = colours if sys.stdout.isatty() else marks
    print("".join(shown[p["op"]].format(p["text"]) for p in compare(before.plain, after.plain)))
    if before.settings != after.settings:
        print(f"settings: {json.dumps(before.settings)} -> {json.dumps(after.settings)}")
    return 0


def _label(args: argparse.Namespace) -> int:
    client = client_of(args)
    chosen = args.version
    version = None if chosen == "none" else find_version(client, args.name, chosen).prompt.version
    client.label_prompt(args.name, args.label, version)
    print(f"{args.name} {args.label}: {version or 'taken off'}")
    return 0
