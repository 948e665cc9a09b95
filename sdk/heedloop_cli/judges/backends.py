"""Who is asked: an OpenAI-compatible endpoint, a local model of the extra trainer, or a Python function."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import requests

from heedloop.schema import JudgeSpec, Message
from heedloop_cli.judges.items import Item
from heedloop_cli.judges.parsers import Reply

GROUP = "heedloop.judges"
"""Entry points that load a model from a spec and a folder: the trainer contributes `checkpoint` and `reward`."""
_MAX_BODY = 4 << 20
_PASSING = ("http 408", "http 409", "http 425", "http 429")


class BackendError(Exception):
    """A call that brought no reply.

    Attributes:
        kind: a short name of the error, such as `http 429`, `timeout`, `cut`, `garbage`.
        fatal: no other call can do better: a wrong key or model.
        retry_after_s: what the endpoint said, else None.
    """

    def __init__(
        self, kind: str, message: str, *, fatal: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind, self.fatal, self.retry_after_s = kind, fatal, retry_after_s

    @property
    def passing(self) -> bool:
        """Whether the same question may be answered later: not one that is too long, nor one that is refused as it is."""
        refused = self.kind.startswith("http 4") and self.kind not in _PASSING
        return not (self.fatal or refused or self.kind == "too long")


class Backend(Protocol):
    """What a judge asks; called from several threads at once."""

    def ask(self, item: Item, prompt: str, *, swapped: bool) -> Reply:
        """The reply to a prompt about an item; raises `BackendError`."""
        ...


@dataclass(frozen=True, slots=True)
class ChatApi:
    """The chat completions of an OpenAI-compatible API; one call is one request, and never longer than `timeout_s` in all."""

    url: str
    key: str = ""
    timeout_s: float = 60.0

    def complete(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """One chat completion: an object whose `choices` are not empty. Raises `BackendError`."""
        try:
            found = json.loads(self._post(body))
            found["choices"][0]["message"]["role"]
        except (ValueError, KeyError, TypeError, IndexError):
            raise self.garbage() from None
        return cast(Mapping[str, Any], found)

    def garbage(self) -> BackendError:
        """The error of a reply that is no chat completion."""
        return BackendError("garbage", f"{self.url} gave no chat completion")

    def _post(self, body: Mapping[str, Any]) -> bytes:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        end = time.monotonic() + self.timeout_s
        parts: list[bytes] = []
        try:
            with requests.post(
                f"{self.url}/chat/completions",
                json=body,
                headers=headers,
                timeout=self.timeout_s,
                stream=True,
            ) as answer:
                for part in answer.iter_content(1 << 14):
                    parts.append(part)
                    if (
                        time.monotonic() > end
                    ):  # a server that drips never trips the timeout between two bytes
                        raise BackendError("timeout", f"{self.url} took longer than {self.timeout_s:g} s")
                    if sum(map(len, parts)) > _MAX_BODY:
                        raise BackendError("garbage", f"{self.url} sent more than {_MAX_BODY} bytes")
        except requests.Timeout:
            raise BackendError("timeout", f"{self.url} took longer than {self.timeout_s:g} s") from None
        except requests.RequestException as err:
            kind = "cut" if parts or not isinstance(err, requests.ConnectionError) else "unreachable"
            raise BackendError(kind, f"no whole answer from {self.url}: {err.__class__.__name__}") from None
        if answer.status_code != 200:
            raise self._refused(answer, b"".join(parts))
        return b"".join(parts)

    def _refused(self, answer: requests.Response, body: bytes) -> BackendError:
        status = answer.status_code
        try:
            wait: float | None = float(answer.headers.get("Retry-After", ""))
        except ValueError:
            wait = None
        text = body[:300].decode("utf-8", "replace")
        fatal = status in (401, 403, 404)
        return BackendError(
            f"http {status}", f"{self.url} answered {status}: {text}", fatal=fatal, retry_after_s=wait
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A judge at an OpenAI-compatible API."""

    spec: JudgeSpec
    api: ChatApi

    def ask(self, item: Item, prompt: str, *, swapped: bool = False) -> Reply:  # noqa: ARG002
        """One chat completion."""
        body: dict[str, Any] = {
            "model": self.spec.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            **self.spec.parameters,
        }
        if self.spec.parser == "token_probability":
            body |= {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        completion = self.api.complete(body)
        choice = completion["choices"][0]
        try:
            text = str(choice["message"].get("content") or "")
            probabilities = self._probabilities(choice) if self.spec.parser == "token_probability" else None
            return Reply(text, probabilities, None, *tokens_of(completion))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise self.api.garbage() from None

    def _probabilities(self, choice: Mapping[str, Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for entry in choice["logprobs"]["content"][0]["top_logprobs"]:
            word = next(
                (w for w in self.spec.verdicts if w.casefold() == entry["token"].strip().casefold()), None
            )
            if word is not None:
                found[word] = found.get(word, 0.0) + math.exp(entry["logprob"])
        return found


def tokens_of(completion: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens of a chat completion; 0 where it does not say."""
    usage = completion.get("usage") or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def load_function(name: str) -> Callable[..., Any]:
    """The function that `module:function` names, the working folder's modules among them; raises `ValueError`."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError, TypeError) as err:
        raise ValueError(f"{name!r} is no module:function that can be imported: {err}") from None
    except Exception as err:  # noqa: BLE001  another's code
        place = traceback.extract_tb(err.__traceback__)[-1]
        raise ValueError(
            f"{module} cannot be imported: {err.__class__.__name__}: {err} ({place.filename}, line {place.lineno})"
        ) from None


class Function:
    """`module:function` with those of the item's texts that it has arguments for; it returns a number, or a number per name, or
    None for "cannot say"."""

    def __init__(self, spec: JudgeSpec) -> None:
        self._judge = load_function(spec.model)
        self._names, self._lock = spec.names, threading.Lock()
        taken = inspect.signature(self._judge).parameters.values()
        self._takes = None if any(p.kind is p.VAR_KEYWORD for p in taken) else {p.name for p in taken}

    def ask(self, item: Item, prompt: str, *, swapped: bool = False) -> Reply:  # noqa: ARG002
        """What the function says; one call at a time, since it need not be made for threads."""
        try:
            holes = item.holes(swapped=swapped)
            with self._lock:
                found = self._judge(
                    **{n: t for n, t in holes.items() if self._takes is None or n in self._takes}
                )
            if found is None:
                return Reply()
            values = found if isinstance(found, Mapping) else {self._names[0]: float(found)}
        except Exception as err:  # noqa: BLE001  another's code: an item it fails on is a failed item
            raise BackendError("function", f"the function raised {err.__class__.__name__}: {err}") from None
        return Reply(values=cast(Mapping[str, float], values))


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A checkpoint of the extra trainer."""

    answer: Callable[[str], Mapping[str, Any]]

    def ask(self, item: Item, prompt: str, *, swapped: bool = False) -> Reply:  # noqa: ARG002
        """What the checkpoint answers."""
        try:
            return Reply(**self.answer(prompt))
        except ValueError as err:
            raise BackendError("too long", str(err)) from None


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A trained reward model of the extra trainer."""

    spec: JudgeSpec
    value: Callable[[Sequence[Message], Sequence[str]], float]

    def ask(self, item: Item, prompt: str, *, swapped: bool = False) -> Reply:  # noqa: ARG002
        """The logistic of the reward."""
        value = self.value(item.calls[0].input_messages, [c.output_text for c in item.calls])
        return Reply(values={self.spec.question: value})


def backend_of(
    spec: JudgeSpec, *, url: str | None, key_env: str, folder: Path | None, timeout_s: float
) -> Backend:
    """The backend of a spec; raises `ValueError` where something is missing for it."""
    if spec.backend == "function":
        return Function(spec)
    if spec.backend == "endpoint":
        if not url:
            raise ValueError(f"{spec.id} asks an endpoint: give --endpoint, such as http://127.0.0.1:8000/v1")
        return Endpoint(spec, ChatApi(url.rstrip("/"), os.environ.get(key_env, ""), timeout_s))
    found = list(entry_points(group=GROUP, name=spec.backend))
    if not found:
        raise ValueError(f"a {spec.backend} needs the 'trainer' extra: pip install 'heedloop[trainer]'")
    place = folder or Path(spec.model)
    if not place.is_dir():
        raise ValueError(f"{place} is no folder; say with --folder where the files of {spec.model} are")
    wanted = spec.parameters.get("sha256")
    if wanted is not None and weights_hash(place) != wanted:
        raise ValueError(
            f"the weights in {place} are not those of {spec.id}; make a judge of them, or give the right --folder"
        )
    make = cast(Callable[[JudgeSpec, Path], Any], found[0].load())
    return (
        LocalModel(make(spec, place))
        if spec.backend == "checkpoint"
        else RewardModel(spec, make(spec, place))
    )


def weights_hash(folder: Path) -> str:
    """SHA-256 (hex) over a model's weights, which name it wherever its folder is."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
