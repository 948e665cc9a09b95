"""Lists that were flattened into numbered attributes: `gen_ai.prompt.12.role`, `llm.input_messages.0.message.role`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_DIGITS = 10
_MAX_DEPTH = 32


def unflatten(attrs: Mapping[str, Any], prefix: str) -> list[Any]:
    """The list whose entries were flattened under `prefix` (which ends in a dot), in the order of their numbers.

    Words between dots become nested objects, numbers become lists. Keys that contradict others (a value where another
    key has a tree) are left out.
    """
    tree: dict[str, Any] = {}
    size = len(prefix)
    for key, value in attrs.items():
        if key.startswith(prefix):
            _insert(tree, key[size:].split("."), value)
    found = _listed(tree)
    return found if isinstance(found, list) else []


def nested(value: Any) -> list[Any]:
    """A list whose objects may have dotted keys, with those nested; an empty one for anything else."""
    if not isinstance(value, list):
        return []
    return [_listed(_tree(v)) if isinstance(v, dict) else v for v in value]


def _tree(node: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            value = _tree(value, depth + 1)
        elif isinstance(value, list) and depth < _MAX_DEPTH:
            value = [_tree(v, depth + 1) if isinstance(v, dict) else v for v in value]
        _insert(tree, key.split("."), value)
    return tree


def _insert(tree: dict[str, Any], path: list[str], value: Any) -> None:
    node = tree
    for word in path[:-1]:
        inner = node.setdefault(word, {})
        if not isinstance(inner, dict):
            return
        node = inner
    if not isinstance(node.get(path[-1]), dict):
        node[path[-1]] = value


def _listed(node: Any, depth: int = 0) -> Any:
    """The tree with every object whose keys are all numbers made a list."""
    if not isinstance(node, dict) or depth > _MAX_DEPTH:
        return node
    if node and all(len(k) < _MAX_DIGITS and k.isdecimal() and k.isascii() for k in node):
        return [_listed(node[k], depth + 1) for k in sorted(node, key=int)]
    return {k: _listed(v, depth + 1) for k, v in node.items()}
