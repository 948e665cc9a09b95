"""Helicone: requests of `/v1/request/query-clickhouse`. Nothing names an author; a body may be behind an address that expires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heedloop.schema import Scale
from heedloop_cli.importers.documents import mapping
from heedloop_cli.importers.messages import messages, tool_definitions, usage
from heedloop_cli.importers.record import number, target_of
from heedloop_cli.importers.system import Record, System

_BOOLEAN = "-hcone-bool"


class Helicone(System):
    """A request with its response, the user's thumb and the scores that were posted for it."""

    name = "helicone"

    @classmethod
    def knows(cls, row: Mapping[str, Any]) -> bool:
        return "request_id" in row and bool({"request_created_at", "request_body"} & row.keys())

    def records(self, row: Mapping[str, Any]) -> Iterator[Record]:
        request, response = mapping(row.get("request_body")), mapping(row.get("response_body"))
        properties = {**mapping(row.get("request_properties")), **mapping(row.get("properties"))}
        sessions = ("Helicone-Session-Id", "helicone-session-id", "Session", "session_id")
        status = row.get("response_status")
        delay = number(row.get("delay_ms"))
        counts = {n: row.get(n) for n in ("prompt_tokens", "completion_tokens")}
        cost = row.get("cost") if row.get("cost") is not None else row.get("costUSD")
        call = self.call(
            row["request_id"],
            start=row.get("request_created_at"),
            end=None if delay is not None else row.get("response_created_at"),
            duration_s=(delay or 0) / 1000,
            provider=str(row["provider"]).lower() if row.get("provider") else None,
            model_requested=row.get("request_model") or request.get("model"),
            model_answered=row.get("response_model") or response.get("model"),
            params={k: v for k, v in request.items() if isinstance(v, (int, float))},
            input_messages=messages(request),
            output_messages=messages(response, "assistant"),
            tool_definitions=tool_definitions(request.get("tools")),
            usage=usage(response["usage"] if response.get("usage") else counts),
            cost=number(cost),
            error=isinstance(status, int) and status >= 400,
            http_status=status if isinstance(status, int) and status > 0 else None,
            response_id=response.get("id"),
            prompt_name=row.get("prompt_id"),
            prompt_version=row.get("prompt_version"),
            session_id=next((properties[n] for n in sessions if properties.get(n)), None),
            user_id=row.get("request_user_id"),
            metadata=properties,
        )
        yield call
        target = target_of(call)
        if row.get("feedback_rating") is not None:
            identity = row.get("feedback_id") or f"{row['request_id']}/feedback"
            thumb = str(row["feedback_rating"]).lower() in ("true", "1", "positive")
            author = self.author("end_user")
            yield self.rating(
                target, identity, "thumb", thumb, author=author, time=row.get("feedback_created_at")
            )
        yield from self.each(mapping(row.get("scores")).items(), lambda s: self._score(row, target, *s))

    def _score(self, row: Mapping[str, Any], target: Any, name: str, value: Any) -> Iterator[Record]:
        """Scores are whole numbers from 0 to 100, truth values where their name ends so; programs post them."""
        scored = value["value"] if isinstance(value, Mapping) else value
        is_boolean = name.endswith(_BOOLEAN)
        yield self.rating(
            target,
            f"{row['request_id']}/{name}",
            name.removesuffix(_BOOLEAN),
            bool(scored) if is_boolean else scored,
            scale=None if is_boolean or name in self.source.scales else Scale(0, 100),
            author=self.author("code"),
            time=row.get("response_created_at") or row.get("request_created_at"),
        )
