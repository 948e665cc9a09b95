"""Answers of the OTLP routes in JSON; in protobuf they are the specification's own messages."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

__all__ = ["OtlpAnswer", "RpcStatus"]


class PartialSuccess(TypedDict):
    """What was rejected, and why; also a word to a sender of whom everything was accepted."""

    rejectedSpans: NotRequired[str]
    rejectedLogRecords: NotRequired[str]
    rejectedDataPoints: NotRequired[str]
    errorMessage: str


class OtlpAnswer(TypedDict):
    """An Export…ServiceResponse."""

    partialSuccess: NotRequired[PartialSuccess]


class RpcStatus(TypedDict):
    """A google.rpc.Status."""

    code: int
    message: str
