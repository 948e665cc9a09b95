"""Reads a system over its API: a table of routes per vendor, one reader of pages for all.

Every page is on disk as it came before the next is asked for, and the pages are then imported like any files. A break goes on
with the page after the last: `place.json` says which. 429 and 5xx are asked again, as `Retry-After` says.
"""

from __future__ import annotations

import email.utils
import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote, unquote, urlsplit

import requests

Paging = Literal["cursor", "page", "offset"]
PATIENCE_S = 3600.0
"""For how long one page is asked for again while its server refuses or is not there."""
_TIMEOUT_S = 120
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})


@dataclass(frozen=True, slots=True)
class Route:
    """One list of a vendor's API.

    Attributes:
        name: of its pages' files.
        path: with the parameters of every page; `{id}` is an entry of the route `per`.
        entries: the field that holds the entries, empty where the response is a list or lines.
        body: where it is a POST; `{id}` as in the path.
        paging: by a cursor of the last page (at `next`, sent as `send`), by a page number, or by an offset.
        size: the parameter that says how many entries a page may have, and how many are asked for.
        per: the route whose entries this one is asked for; `by` is their id, `at_once` how many go into one request (as the
            parameter `ids`, where they are more than one).
        kept: False where its pages only name others.
    """

    name: str
    path: str
    entries: str = "data"
    body: Mapping[str, Any] | None = None
    paging: Paging = "cursor"
    next: str = "next_cursor"
    send: str = "cursor"
    size: tuple[str, int] = ("limit", 100)
    per: str = ""
    by: str = "id"
    at_once: int = 1
    ids: str = ""
    kept: bool = True


@dataclass(frozen=True, slots=True)
class Vendor:
    """How a vendor's API is asked: its keys (environment variables), the headers made of them, its routes."""

    keys: tuple[str, ...]
    headers: Callable[..., dict[str, str]]
    routes: tuple[Route, ...]
    optional_keys: bool = False


def _basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


_LANGFUSE = "core,basic,time,io,metadata,model,usage,prompt,metrics,trace_context"
_PHOENIX = "/v1/projects/{id}/span_annotations"
_OF_SPANS: dict[str, Any] = {"per": "spans", "by": "context.span_id", "at_once": 50, "ids": "span_ids"}
_OPIK: dict[str, Any] = {"entries": "content", "paging": "page", "size": ("size", 100)}
_MLFLOW = {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "{id}"}}]}
_TOKEN: dict[str, Any] = {"next": "next_page_token", "send": "page_token", "kept": False}
_WEAVE = {"project_id": "$WEAVE_PROJECT", "include_feedback": True}
_HELICONE = {"filter": "all", "includeInputs": True}

VENDORS: dict[str, Vendor] = {
    "langfuse": Vendor(
        ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"),
        _basic,
        (
            Route("configs", "/api/public/score-configs", paging="page"),
            Route("observations", f"/api/public/v2/observations?fields={_LANGFUSE}", next="meta.cursor"),
            Route("scores", "/api/public/v3/scores?fields=details,subject,annotation", next="meta.cursor"),
        ),
    ),
    "langsmith": Vendor(
        ("LANGSMITH_API_KEY",),
        lambda key: {"x-api-key": key},
        (
            Route("projects", "/api/v1/sessions", "", paging="offset", kept=False),
            Route(
                "runs",
                "/api/v1/runs/query",
                "runs",
                {"session": ["{id}"]},
                next="cursors.next",
                per="projects",
            ),
            Route("feedback", "/api/v1/feedback?session={id}", "", paging="offset", per="projects"),
        ),
    ),
    "phoenix": Vendor(
        ("PHOENIX_API_KEY",),
        _bearer,
        (
            Route("projects", "/v1/projects", kept=False),
            Route("spans", "/v1/projects/{id}/spans", per="projects"),
            Route("annotations", _PHOENIX, **_OF_SPANS),
            # notes are left out of the list unless they are named
            Route("notes", f"{_PHOENIX}?include_annotation_names=note", **_OF_SPANS),
        ),
        optional_keys=True,
    ),
    "opik": Vendor(
        ("OPIK_API_KEY", "OPIK_WORKSPACE"),
        lambda key, workspace: {"authorization": key, "Comet-Workspace": workspace},
        (
            Route("projects", "/v1/private/projects", kept=False, **_OPIK),
            Route("spans", "/v1/private/spans?project_id={id}", per="projects", **_OPIK),
            Route("traces", "/v1/private/traces?project_id={id}", per="projects", **_OPIK),
        ),
        optional_keys=True,
    ),
    "mlflow": Vendor(
        ("MLFLOW_TRACKING_TOKEN",),
        _bearer,
        (
            Route(
                "experiments",
                "/api/2.0/mlflow/experiments/search",
                "experiments",
                {},
                size=("max_results", 1000),
                **_TOKEN,
            ),
            Route(
                "found",
                "/api/3.0/mlflow/traces/search",
                "traces",
                _MLFLOW,
                size=("max_results", 100),
                per="experiments",
                by="experiment_id",
                **_TOKEN,
            ),
            Route("traces", "/api/3.0/mlflow/traces/get?trace_id={id}", "", per="found", by="trace_id"),
        ),
        optional_keys=True,
    ),
    "weave": Vendor(
        ("WANDB_API_KEY", "WEAVE_PROJECT"),
        lambda key, _: _basic("api", key),
        (Route("calls", "/calls/stream_query", "", _WEAVE, paging="offset"),),
    ),
    "helicone": Vendor(
        ("HELICONE_API_KEY",),
        _bearer,
        (Route("requests", "/v1/request/query-clickhouse", body=_HELICONE, paging="offset"),),
    ),
}
"""`--from` -> how it is asked. The routes are the vendors' own, of their API descriptions (docs/import.md says which versions)."""


class Refused(ValueError):
    """A server that will not give what was asked, in a sentence."""


def fetch(
    name: str, url: str, folder: Path, *, shown: Callable[[int, int], None] = lambda *_: None
) -> list[Path]:
    """All pages of a vendor's routes as files in the folder, in their order; goes on after the last one that is there.

    Args:
        shown: called with the entries so far, and how many there are in all (0 where the server does not say).

    Raises:
        Refused: a key is missing or has no right, or a page is no JSON.
        OSError: the server is not there for an hour, or the disk is full.
    """
    vendor = VENDORS[name]
    session = _session(vendor)
    return _Pages(name, url.rstrip("/"), folder, session, shown).all(vendor)


def send(name: str, url: str, made: Iterable[Any]) -> tuple[int, list[str]]:
    """Post requests (each with `path` and `body`) to a vendor's API; how many it took, and what it said to the others."""
    session = _session(VENDORS[name]) if name in VENDORS else requests.Session()
    taken, refused = 0, list[str]()
    for one in made:
        answer = _patiently(session, "POST", url.rstrip("/") + one.path, {}, one.body, lambda _: None)
        if answer.status_code < 300:
            taken += 1
        else:
            refused.append(f"{one.path} answered {answer.status_code}: {answer.text[:200]}")
    return taken, refused


def _session(vendor: Vendor) -> requests.Session:
    missing = [k for k in vendor.keys if not os.environ.get(k)]
    if missing and not vendor.optional_keys:
        raise Refused(f"set {' and '.join(missing)}")
    session = requests.Session()
    values = [os.environ.get(k, "") for k in vendor.keys]
    if any(values):
        session.headers.update({k: v for k, v in vendor.headers(*values).items() if v})
    return session


def _patiently(
    session: requests.Session,
    method: str,
    url: str,
    query: Mapping[str, Any],
    body: Any,
    refuse: Callable[[requests.Response], None],
) -> requests.Response:
    """The response, asked for again while the server says that it will have time later; `refuse` may raise for another."""
    until, wait = time.monotonic() + PATIENCE_S, _FIRST_WAIT_S
    while True:
        try:
            answer = session.request(method, url, params=query, json=body, timeout=_TIMEOUT_S)
            if answer.status_code not in _AGAIN:
                if answer.status_code >= 300:
                    refuse(answer)
                return answer
            stated = _retry_after(answer)
        except requests.RequestException as err:
            if not isinstance(err, (requests.ConnectionError, requests.Timeout)):
                raise Refused(f"{url}: {err}") from None
            stated = None
        if time.monotonic() > until:
            raise OSError(f"{urlsplit(url).netloc} gave nothing for an hour; run it again later")
        time.sleep(min(stated if stated is not None else wait, max(0.0, until - time.monotonic()) + 1))
        wait = min(2 * wait, _LONGEST_WAIT_S)


class _Pages:
    def __init__(
        self,
        name: str,
        url: str,
        folder: Path,
        session: requests.Session,
        shown: Callable[[int, int], None],
    ) -> None:
        self._name, self._url, self._folder, self._session, self._shown = name, url, folder, session, shown
        folder.mkdir(parents=True, exist_ok=True)
        self._place: dict[str, Any] = {"route": 0, "group": 0, "next": None, "pages": 0, "entries": 0}
        self._place_file = folder / "place.json"
        if self._place_file.exists():
            self._place = json.loads(self._place_file.read_text())

    def all(self, vendor: Vendor) -> list[Path]:
        for number, route in enumerate(vendor.routes):
            if number < self._place["route"]:
                continue
            groups = list(self._groups(route))
            for group in range(self._place["group"], len(groups)):
                self._read(route, groups[group])
                self._move(group=group + 1, next=None)
            self._move(route=number + 1, group=0, next=None)
        return [p for r in vendor.routes if r.kept for p in self._files(r.name)]

    def _files(self, name: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}-*.json"))

    def _groups(self, route: Route) -> Iterator[dict[str, Any]]:
        """What `{id}` and `{ids}` stand for in each series of pages."""
        if not route.per:
            yield {}
            return
        above = next(r for r in VENDORS[self._name].routes if r.name == route.per)
        for path in self._files(route.per):
            entries = _entries(_parsed(path.read_text(encoding="utf-8"), path.name), above.entries)
            ids = list(dict.fromkeys(str(_at(e, route.by)) for e in entries if _at(e, route.by)))
            owner = unquote(path.stem.partition("~")[2])
            for start in range(0, len(ids), route.at_once):
                some = ids[start : start + route.at_once]
                yield {"id": owner if route.at_once > 1 else some[0], "ids": some}

    def _read(self, route: Route, group: Mapping[str, Any]) -> None:
        """One series of pages, each on disk before the next is asked for."""
        size = route.size[1]
        place = self._place["next"]
        while True:
            answer = self._ask(route, group, place)
            page = _parsed(answer.text, route.path)
            found = _entries(page, route.entries)
            if found:
                self._write(route, str(group.get("id", "")), answer.content)
            place = _following(route, page, found, place, size)
            total = _at(page, "meta.totalItems") or _at(page, "total") or 0
            self._move(
                next=place, pages=self._place["pages"] + 1, entries=self._place["entries"] + len(found)
            )
            self._shown(self._place["entries"], int(total) if isinstance(total, int) else 0)
            if place is None:
                return

    def _write(self, route: Route, of: str, content: bytes) -> None:
        """The page as it came, in a file that is named by its place and by the entry that it was asked for."""
        path = self._folder / f"{route.name}-{self._place['pages']:06}~{quote(of, safe='')}.json"
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)

    def _move(self, **changes: Any) -> None:
        self._place.update(changes)
        part = self._place_file.with_suffix(".part")
        part.write_text(json.dumps(self._place))
        part.replace(self._place_file)

    def _ask(self, route: Route, group: Mapping[str, Any], place: Any) -> requests.Response:
        path = route.path.replace("{id}", quote(str(group.get("id", "")), safe=""))
        position = {} if place is None else {route.send if route.paging == "cursor" else route.paging: place}
        paged = {route.size[0]: route.size[1], **position}
        query = {**({route.ids: group["ids"]} if route.ids else {}), **(paged if route.body is None else {})}
        body = None if route.body is None else {**_filled(route.body, group), **paged}
        method = "GET" if body is None else "POST"
        return _patiently(
            self._session, method, self._url + path, query, body, lambda a: self._refuse(a, path)
        )

    def _refuse(self, answer: requests.Response, path: str) -> None:
        """Raise for what another try would not change."""
        keys = " or ".join(VENDORS[self._name].keys)
        reason = {
            401: f"knows no such key: look at {keys}",
            403: f"does not let this key read: look at {keys}",
            404: "has no such route: is the address the API's, and its version new enough?",
        }.get(answer.status_code, f"answered {answer.status_code}: {answer.text[:200]}")
        raise Refused(f"{self._url}{path.partition('?')[0]} {reason}")


def _filled(values: Any, group: Mapping[str, Any]) -> Any:
    """The values with `{id}` and `$NAME` of the environment put in."""
    if isinstance(values, Mapping):
        return {k: _filled(v, group) for k, v in cast(Mapping[str, Any], values).items()}
    if isinstance(values, list):
        return [_filled(v, group) for v in cast(list[Any], values)]
    if isinstance(values, str) and values.startswith("$"):
        return os.environ.get(values[1:], "")
    return values.replace("{id}", str(group.get("id", ""))) if isinstance(values, str) else values


def _parsed(text: str, path: str) -> Any:
    """The page; JSON Lines are a list."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError:
        raise Refused(f"{path} gave no JSON but {text[:80]!r}: is the address the API's?") from None


def _entries(page: Any, name: str) -> list[Any]:
    found = _at(page, name) if name else page if isinstance(page, list) else [page]
    return cast(list[Any], found or [])


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = cast(Mapping[str, Any], value).get(name) if isinstance(value, Mapping) else None
    return value


def _following(route: Route, page: Any, found: list[Any], place: Any, size: int) -> Any:
    """Where the next page is; None after the last."""
    if route.paging == "cursor":
        following = _at(page, route.next)
        return following if following and following != place else None
    if route.paging == "offset":
        return (place or 0) + len(found) if len(found) >= size else None
    pages = _at(page, "meta.totalPages")
    number = (place or 1) + 1
    return number if found and (number <= pages if isinstance(pages, int) else len(found) >= size) else None


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds of `Retry-After`, which is a number or a date, or of the vendors' own headers; None where none is there."""
    for name in ("Retry-After", "retry-after-ms", "x-ratelimit-reset-after"):
        stated = answer.headers.get(name)
        if not stated:
            continue
        try:
            return max(0.0, float(stated) / (1000 if name.endswith("-ms") else 1))
        except ValueError:
            at = email.utils.parsedate_to_datetime(stated)
            return max(0.0, at.timestamp() - time.time())
    return None
