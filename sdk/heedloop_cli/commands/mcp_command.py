"""`heedloop mcp`: a project's calls and feedback as tools of the Model Context Protocol, over standard input and output.

What a tool may do is what the key may: reading needs the scope `read`, writing feedback `feedback`, queue items `review`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from heedloop.client import ApiError, Client
from heedloop.schema import Author, AuthorKind, Feedback, FeedbackKind, Scale, SchemaError, Target, to_json
from heedloop_cli.commands.connection import add_connection, client_of, with_plain_errors

HELP = "serve a project's calls and feedback to agents as MCP tools, over standard input and output"
MAX_ENTRIES = 100

P = ParamSpec("P")
Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Serves until standard input ends."""
    return with_plain_errors(args, _serve)


def _serve(args: argparse.Namespace) -> int:
    client = client_of(args)
    client.me()  # a wrong address or key is said before an agent waits for it
    server_of(client).run("stdio")
    return 0


def server_of(client: Client) -> MCPServer:
    """The MCP server whose tools ask with this client's key."""
    server = MCPServer(
        "heedloop", instructions="Calls of an LLM application and what people said of its answers."
    )
    for tool in Tools(client).all():
        server.add_tool(_with_plain_errors(tool), name=tool.__name__, description=tool.__doc__)
    return server


def _with_plain_errors(tool: Callable[P, Json]) -> Callable[P, Json]:
    @wraps(tool)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> Json:
        try:
            return tool(*args, **kwargs)
        except (ApiError, SchemaError) as err:
            raise ToolError(str(err)) from None

    return guarded


class Tools:
    """The tools; each returns JSON of `heedloop.responses`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> tuple[Callable[..., Json], ...]:
        """Every tool."""
        reading = (
            self.search,
            self.search_calls,
            self.search_feedback,
            self.read_trace,
            self.failures,
            self.compare,
        )
        return (*reading, self.write_feedback, self.add_to_queue)

    def search(self, words: str, limit: int = 20) -> Json:
        """Ids, and words in questions, answers, errors, comments and corrections; newest first."""
        return to_json(self._client.search(words, limit=min(limit, MAX_ENTRIES)))

    def search_calls(
        self, filters: dict[str, str] | None = None, limit: int = 20, cursor: str | None = None
    ) -> Json:
        """Calls, newest first. Filters as in docs/api.md: since, until (RFC 3339; default the last 30 days), model, prompt_name,
        user_id, session_id, rating (up, down, none, any), flag, has (correction, comment, flag, comparison), status, text."""
        page = self._client.calls(limit=min(limit, MAX_ENTRIES), cursor=cursor, **(filters or {}))
        return to_json(page)

    def search_feedback(
        self, filters: dict[str, str] | None = None, limit: int = 20, cursor: str | None = None
    ) -> Json:
        """Feedback, newest first. Filters: kind, name, author_id, author_kind, trace_id, span_id, since, until."""
        page = self._client.feedback(limit=min(limit, MAX_ENTRIES), cursor=cursor, **(filters or {}))
        return to_json(page)

    def read_trace(self, trace_id: str) -> Json:
        """One trace: its spans with their messages, and all feedback on it. `trace_id` is 32 hex digits."""
        return to_json(self._client.trace(trace_id))

    def failures(self, filters: dict[str, str] | None = None) -> Json:
        """What goes wrong: flags by category, and what is more common among thumbs-down than among rated answers."""
        chosen = filters or {}
        return {
            "flags": to_json(self._client.quality_reasons(**chosen)),
            "overrepresented": to_json(self._client.quality_overrepresented(**chosen)),
        }

    def compare(self, field: str, a: str, b: str, filters: dict[str, str] | None = None) -> Json:
        """Two values of one field (model, prompt_version, …) side by side: rates, difference, interval, decision."""
        return to_json(self._client.quality_compare(field, a, b, **(filters or {})))

    def write_feedback(
        self,
        kind: FeedbackKind,
        trace_id: str,
        span_id: str | None = None,
        name: str = "",
        value: float | str | None = None,
        scale: list[float] | list[str] | None = None,
        comment: str | None = None,
        correction: str | None = None,
        category: str | None = None,
        author_kind: AuthorKind = "model",
        author_id: str | None = None,
    ) -> Json:
        """Store a rating (value on scale [low, high] or [worst, …, best]; without a scale a thumb, 0 or 1), correction, flag
        (category) or comment on an answer. Author is a model unless said otherwise, so that it is in no rate of people."""
        one = Feedback(
            kind,
            Target(trace_id=trace_id, span_id=span_id),
            name,
            value,
            _scale(scale),
            comment,
            correction,
            category,
            author=Author(author_kind, author_id),
            metadata={"source": "mcp"},
        )
        return to_json(self._client.send_feedback([one]).results[0])

    def add_to_queue(self, queue_id: str, answers: list[dict[str, str]]) -> Json:
        """Put answers into a review queue, one item each; an answer is {"trace_id": …, "span_id": …}."""
        return to_json(self._client.fill_review_queue(queue_id, "targets", items=[[a] for a in answers]))


def _scale(given: list[float] | list[str] | None) -> Scale | None:
    if given is None:
        return None
    if len(given) == 2 and all(isinstance(v, (int, float)) for v in given):
        return Scale(float(given[0]), float(given[1]))
    return Scale(categories=tuple(map(str, given)))
