"""The server's log as lines: for people, or one JSON object a line for whatever collects them."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, Literal

from heedloop_server.http.request_ids import REQUEST_ID

LogFormat = Literal["text", "json"]

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", …}`: what a call passes as `extra` stands beside, an exception under `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= {k: v for k, v in record.__dict__.items() if k not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """Lines for people; what is done for a request ends with its id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        request_id = REQUEST_ID.get()
        return f"{line} [{request_id}]" if request_id else line


def set_up_logging(level: str, fmt: LogFormat) -> None:
    """Everything that is logged in this process goes to standard error in one form, uvicorn's lines too."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if fmt == "json" else PlainLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
