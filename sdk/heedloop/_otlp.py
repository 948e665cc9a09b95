"""Spans as OTLP protobuf bytes, written by hand.

The generated protobuf classes cost about four times as much per span, all of it while holding the interpreter, and the
host pays for that in latency. The wire format is small: field numbers below are those of
`opentelemetry/proto/trace/v1/trace.proto` 1.x, and a test compares the result with the generated classes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

_double = struct.Struct("<d").pack
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack

_HAS_IS_REMOTE = 0x100
_IS_REMOTE = 0x200
_KNOWN_KEYS_LIMIT = 4096
_MAX_FLOAT_BITS = 1024
_known_keys: dict[str, bytes] = {}
_small_varints = [bytes((n,)) for n in range(128)]


class EncodableSpan(Protocol):
    """What the encoder reads; `opentelemetry.sdk.trace.ReadableSpan` and `CallSpan` both have it."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> Any: ...
    @property
    def parent(self) -> Any: ...
    @property
    def kind(self) -> Any: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def links(self) -> Sequence[Any]: ...
    @property
    def status(self) -> Any: ...


def encode_request(
    groups: Iterable[tuple[Mapping[str, Any], str, str, Sequence[bytes]]],
) -> bytes:
    """An ExportTraceServiceRequest of (resource attributes, scope name, scope version, encoded spans) groups."""
    parts: list[bytes] = []
    for resource, scope_name, scope_version, spans in groups:
        scope = _text(b"\x0a", scope_name) + _text(b"\x12", scope_version)
        scope_spans = _field(b"\x0a", scope) + b"".join([_field(b"\x12", s) for s in spans])
        attributes = b"".join(_attributes(b"\x0a", resource))
        parts.append(_field(b"\x0a", _field(b"\x0a", attributes) + _field(b"\x12", scope_spans)))
    return b"".join(parts)


def encode_span(
    span: EncodableSpan, attributes: Mapping[str, Any], clean: Callable[[str], str] | None = None
) -> bytes:
    """One Span message with `attributes` in place of the span's own; `clean` is applied to events and status."""
    context, parent, status = span.context, span.parent, span.status
    parts = [
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
        b"\x12\x08" + context.span_id.to_bytes(8, "big"),
    ]
    if context.trace_state:
        parts.append(_text(b"\x1a", ",".join([f"{k}={v}" for k, v in context.trace_state.items()])))
    flags = _HAS_IS_REMOTE | int(context.trace_flags)
    if parent is not None:
        parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        flags |= _IS_REMOTE if parent.is_remote else 0
    parts.append(_text(b"\x2a", span.name))
    parts.append(b"\x30" + _small_varints[span.kind.value + 1])
    parts.append(b"\x39" + _fixed64(span.start_time or 0) + b"\x41" + _fixed64(span.end_time or 0))
    parts.extend(_attributes(b"\x4a", attributes))
    for event in span.events:
        parts.append(_field(b"\x5a", _event(event, clean)))
    for link in span.links:
        parts.append(_field(b"\x6a", _link(link)))
    if status.status_code.value or status.description:
        description = status.description or ""
        message = _text(b"\x12", clean(description) if clean is not None else description)
        parts.append(_field(b"\x7a", message + b"\x18" + _small_varints[status.status_code.value]))
    parts.append(b"\x85\x01" + _fixed32(flags))
    return b"".join(parts)


def _event(event: Any, clean: Callable[[str], str] | None) -> bytes:
    head = b"\x09" + _fixed64(event.timestamp) + _text(b"\x12", event.name)
    attributes: Mapping[str, Any] = event.attributes or {}
    if clean is not None:
        attributes = {k: clean(v) if isinstance(v, str) else v for k, v in attributes.items()}
    return head + b"".join(_attributes(b"\x1a", attributes))


def _link(link: Any) -> bytes:
    context = link.context
    head = (
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    )
    flags = _HAS_IS_REMOTE | (_IS_REMOTE if context.is_remote else 0)
    return head + b"".join(_attributes(b"\x22", link.attributes or {})) + b"\x35" + _fixed32(flags)


def _attributes(tag: bytes, attributes: Mapping[str, Any]) -> list[bytes]:
    parts: list[bytes] = []
    for key, value in attributes.items():
        keys = _known_keys.get(key)
        if keys is None:
            keys = _text(b"\x0a", key)
            if len(_known_keys) < _KNOWN_KEYS_LIMIT:
                _known_keys[key] = keys
        try:
            encoded = _any(value)
        except Exception as error:  # noqa: BLE001  a host's own value, given to the span by its own hand
            encoded = _text(b"\x0a", f"<{type(value).__name__}: {type(error).__name__} while it was written>")
        parts.append(_field(tag, keys + _field(b"\x12", encoded)))
    return parts


def _any(value: Any) -> bytes:
    """An AnyValue. A type that OTLP has no place for becomes text rather than being lost."""
    if isinstance(value, str):
        return _text(b"\x0a", value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
        bits = value.bit_length()
        return _any(float(value) if bits < _MAX_FLOAT_BITS else f"<integer of {bits} bits>")
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if value is None:
        return b""
    if isinstance(value, bytes):
        return _field(b"\x3a", value)
    if isinstance(value, Mapping):
        entries = cast(Mapping[Any, Any], value)
        return _field(b"\x32", b"".join(_attributes(b"\x0a", {str(k): v for k, v in entries.items()})))
    if isinstance(value, Sequence):
        values = cast(Sequence[Any], value)
        return _field(b"\x2a", b"".join([_field(b"\x0a", _any(v)) for v in values]))
    return _text(b"\x0a", str(value))


def _text(tag: bytes, value: str) -> bytes:
    # Lone surrogates cannot be written as UTF-8; a question mark keeps the rest readable.
    return _field(tag, value.encode("utf-8", "replace"))


def _field(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    return tag + (_small_varints[size] if size < 128 else _varint(size)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
