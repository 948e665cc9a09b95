"""The `heedloop` command. Its sub-commands are contributed by the installed parts through entry points."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

GROUP = "heedloop.commands"


class Command(Protocol):
    """What a contributed module holds."""

    HELP: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the process's exit status (2 for wrong arguments or a missing extra)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_help(commands)
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"heedloop {version('heedloop')}")
        return 0
    name = arguments[0]
    if name not in commands:
        print(
            f"heedloop: there is no command {name!r}; there is {', '.join(commands) or 'none installed'}",
            file=sys.stderr,
        )
        return 2
    return _run(commands[name], arguments[1:])


class Parser(argparse.ArgumentParser):
    """Takes optional arguments behind options (`outbox drop --yes FILE`, `review progress --url U QUEUE`), which Python 3.11
    leaves out unless it parses them apart; so do the parsers of a command's parts, which are of the same class."""

    _apart = False

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]  both overloads in one
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As `argparse` does, but apart where there are no parts; `parse_known_intermixed_args` comes back here."""
        has_parts = any(isinstance(a.choices, dict) for a in self._actions)
        if has_parts or self._apart:
            return super().parse_known_args(args, namespace)
        self._apart = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._apart = False


def _run(entry: EntryPoint, argv: list[str]) -> int:
    try:
        command: Command = entry.load()
    except ImportError as err:
        print(_missing(entry, err), file=sys.stderr)
        return 2
    parser = Parser(prog=f"heedloop {entry.name}", description=command.HELP)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(argv))
    except ModuleNotFoundError as err:
        print(_missing(entry, err), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def _missing(entry: EntryPoint, err: ImportError) -> str:
    extra = entry.extras[0] if entry.extras else "all"
    return f"heedloop {entry.name}: {err}. It needs the {extra!r} extra: pip install 'heedloop[{extra}]'"


def _print_help(commands: dict[str, EntryPoint]) -> None:
    print("usage: heedloop COMMAND [options]\n\ncommands:")
    for name, entry in commands.items():
        print(f"  {name:<12} {_help_of(entry)}")
    print("\n`heedloop COMMAND --help` lists the options of one command.")


def _help_of(entry: EntryPoint) -> str:
    """The command's HELP, read from its source: importing all parts to list them would take seconds."""
    try:
        spec = find_spec(entry.module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        return f"(needs the {entry.extras[0] if entry.extras else 'all'!r} extra)"
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "HELP"
        ):
            return str(ast.literal_eval(node.value))
    return ""


if __name__ == "__main__":
    sys.exit(main())
