"""Pictures that a span's own content holds, as data URIs: none is ever fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, cast

from heedloop.schema import Call
from heedloop_dashboard.spans import INPUTS, OUTPUTS

MAX_IMAGES = 12
MAX_CHARS = 8_000_000
"""Characters of all pictures of one side of a span."""
_URI = re.compile(r"data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
_TYPES = ("mime_type", "mimeType", "media_type", "mediaType")
_CONTENTS = ("content", "data", "base64", "blob")


def input_images(span: Call) -> list[str]:
    """Those of what the span was given, in their order, at most 12."""
    return _images(span.attributes, INPUTS)


def output_images(span: Call) -> list[str]:
    """Those of what the span gave back, in their order, at most 12."""
    return _images(span.attributes, OUTPUTS)


def _images(attributes: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for name in names:
        with suppress(ValueError, RecursionError):
            found += _walk(json.loads(attributes.get(name) or "null"))
        if found:
            break
    kept, chars = list[str](), 0
    for image in found[:MAX_IMAGES]:
        chars += len(image)
        if chars <= MAX_CHARS:
            kept.append(image)
    return kept


def _walk(value: Any) -> Iterator[str]:
    """Data URIs, and base64 with a media type beside it, wherever they are in a JSON value."""
    if isinstance(value, str):
        if _URI.fullmatch(value):
            yield value
    elif isinstance(value, list):
        for one in cast(list[Any], value):
            yield from _walk(one)
    elif isinstance(value, dict):
        part = cast(dict[str, Any], value)
        kind = next((part[n] for n in _TYPES if isinstance(part.get(n), str)), "")
        content = next((part[n] for n in _CONTENTS if isinstance(part.get(n), str)), "")
        uri = f"data:{kind};base64,{content}"
        if _URI.fullmatch(uri):
            yield uri
        else:
            for one in part.values():
                yield from _walk(one)
