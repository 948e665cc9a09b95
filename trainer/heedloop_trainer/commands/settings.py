"""Settings of a training method as command-line options and as a file.

Names, types, defaults and help all come from the method's configuration dataclass and its docstring, so that an option, a
line of a file and an argument in Python are the same thing.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

OTHER_NAMES = {"num_rollouts": "rollouts", "kl_coefficient": "kl"}
"""Shorter options that existed before; the setting's own name works as well."""


def short_names(base: Any) -> dict[str, str]:
    """Settings by their shorter names, which are options and lines of a file as well."""
    names = {short: name for name, short in OTHER_NAMES.items() if hasattr(base, name)}
    own = next((n for n in ("actor", "optimiser") if hasattr(base, n)), None)
    if own is not None:
        names["learning_rate"] = f"{own}.learning_rate"
    if hasattr(base, "sampling"):
        names["temperature"] = "sampling.temperature"
        if not hasattr(base, "max_response_tokens"):
            names["max_response_tokens"] = "sampling.max_new_tokens"
    return names


def field_docs(cls: type[Any]) -> dict[str, str]:
    """What the `Attributes:` of a dataclass's docstring, and of those it inherits from, say of each field."""
    docs: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        text = (one.__doc__ or "").partition("Attributes:")[2]
        for names, doc in re.findall(
            r"^ {8}([a-z_0-9, ]+): (.*?)(?=^ {8}\S|\Z)", text, re.DOTALL | re.MULTILINE
        ):
            docs |= dict.fromkeys(names.split(", "), " ".join(doc.split()))
    return docs


def add_setting_options(group: argparse._ArgumentGroup, base: Any) -> None:
    """One option for each field of a configuration, those of its optimisers and sampling with their name before.

    Args:
        base: the configuration with its defaults, which the help shows.
    """
    docs = field_docs(type(base))
    for path, hint, value in _leaves(base):
        name = path.replace("_", "-").replace(".", "-")
        short = OTHER_NAMES.get(path)
        doc = docs.get(path) or _nested_doc(base, path)
        group.add_argument(
            *([f"--{short}"] if short else []),
            f"--{name}",
            dest=f"setting {path}",
            default=None,
            help=f"{doc} (default: {_shown(value)})".replace("%", "%%"),
            **_option_type(hint),
        )


def add_job_options(group: argparse._ArgumentGroup, cls: type[Any], options: Mapping[str, str]) -> None:
    """Options for fields of a dataclass; what is not given is not in the parsed arguments.

    Args:
        options: the field by its option; `--no-…` switches one off that is on by default.
    """
    hints, docs = typing.get_type_hints(cls), field_docs(cls)
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    for option, name in options.items():
        default, doc = defaults[name], docs[name]
        shown = "" if isinstance(default, bool) or not default else f" (default: {default})"
        group.add_argument(
            option,
            dest=name,
            default=argparse.SUPPRESS,
            help=f"{'do not ' if default is True else ''}{doc}{shown}",
            **_job_type(hints[name], default),
        )


def _job_type(hint: Any, default: Any) -> dict[str, Any]:
    """How argparse reads a field: switches, folders, names with commas between, or as a setting is read."""
    if isinstance(default, bool):
        return {"action": "store_false" if default else "store_true"}
    kinds = {k for k in (hint, *typing.get_args(hint)) if k is not type(None)}
    if Path in kinds:
        repeated = {"action": "extend", "nargs": 1} if default == () else {}
        return {"type": Path, "metavar": "PATH", **repeated}
    if default == ():
        return {
            "type": lambda text: tuple(n.strip() for n in text.split(",") if n.strip()),
            "metavar": "NAMES",
        }
    if literal := [k for k in kinds if typing.get_origin(k) is Literal]:
        return {"choices": typing.get_args(literal[0])}
    return _option_type(hint)


def _leaves(base: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, type and default of every field; of dataclasses inside, of their fields."""
    hints = typing.get_type_hints(type(base))
    for field in dataclasses.fields(base):
        value = getattr(base, field.name)
        if dataclasses.is_dataclass(value):
            yield from ((f"{field.name}.{path}", hint, v) for path, hint, v in _leaves(value))
        else:
            yield field.name, hints[field.name], value


def _nested_doc(base: Any, path: str) -> str:
    outer, _, inner = path.partition(".")
    return (field_docs(type(getattr(base, outer))).get(inner) or inner.replace("_", " ")) if inner else path


def _shown(value: Any) -> str:
    return (
        "none"
        if value is None or value == {}
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def _option_type(hint: Any) -> dict[str, Any]:
    kind = _plain(hint)
    if typing.get_origin(kind) is Literal:
        return {"choices": typing.get_args(kind)}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind in (int, float, str):
        return {"type": kind, "metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
    return {"type": json.loads, "metavar": "JSON"}


def _plain(hint: Any) -> Any:
    """A type without `| None`, a mapping without what is in it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [a for a in typing.get_args(hint) if a is not type(None)]
    return Mapping if typing.get_origin(hint) is not Literal and typing.get_origin(hint) is not None else hint


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line, by the setting's path."""
    prefix = "setting "
    return {
        k.removeprefix(prefix): v for k, v in vars(args).items() if k.startswith(prefix) and v is not None
    }


def read_settings(file: Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file.

    Raises:
        ValueError: it cannot be read as such, or is no mapping of names to values.
    """
    text = file.read_text(encoding="utf-8")
    try:
        found = yaml.safe_load(text) if file.suffix in (".yaml", ".yml") else json.loads(text)
    except json.JSONDecodeError as err:
        raise ValueError(f"{file} is no JSON: {err.msg} in line {err.lineno}, column {err.colno}") from err
    except yaml.YAMLError as err:
        raise ValueError(f"{file} is no YAML: {err}") from err
    if not isinstance(found, dict):
        raise ValueError(
            f"{file} must hold settings by name, such as 'epochs: 1'; it holds {type(found).__name__}"
        )
    return found


def configured(base: Any, values: Mapping[str, Any], *, where: str = "") -> Any:
    """`base` with these values; an object, or a path such as `optimiser.learning_rate`, sets fields of a dataclass inside.

    Raises:
        ValueError: a name is no setting, or a value is not of its type; the message says what is allowed.
    """
    hints = typing.get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for path, value in values.items():
        name, _, inner = path.partition(".")
        if name not in hints:
            raise ValueError(_unknown(f"{where}{name}", name, sorted(hints)))
        now = changes.get(name, getattr(base, name))
        if not dataclasses.is_dataclass(now):
            changes[name] = _checked(f"{where}{name}", value, hints[name])
        elif inner or isinstance(value, Mapping):
            changes[name] = configured(now, {inner: value} if inner else value, where=f"{where}{name}.")
        else:
            raise ValueError(f"{where}{name} must be an object of settings, not {value!r}")
    return dataclasses.replace(base, **changes)


def _unknown(shown: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"there is {', '.join(known)}"
    return f"{shown!r} is not a setting; {hint}"


def _checked(name: str, value: Any, hint: Any) -> Any:
    kind = _plain(hint)
    if value is None and type(None) in typing.get_args(hint):
        return None
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(typing.get_args(kind))}, not {value!r}")
        return value
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:  # YAML reads 1e-5 as a text
            return float(value)
        except ValueError:
            pass
    right = (Mapping if kind is Mapping else kind) if kind in (bool, int, float, str, Mapping) else object
    if not isinstance(value, right) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be {_WORDS.get(kind, kind)}, not {value!r}")
    return value


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Mapping: "an object",
}
