"""What the server's REST routes return: each response is one of these classes, and is defined nowhere else.

The server's routes return them, `/openapi.json` is made of them, and the methods of `heedloop.client.Client` return them.
In JSON a field whose default is None is left out where it is None; every other field is there, null where it is None.
Times are aware UTC `datetime`s, in JSON as RFC 3339 strings. Rates are between 0 and 1.
"""

from heedloop.responses.alerts import (
    Alert,
    Alerts,
    AlertState,
    DeletedAlert,
    Delivery,
    History,
    HistoryChange,
    NewAlert,
    WebhookTest,
)
from heedloop.responses.intervals import Interval

__all__ = [
    "Alert",
    "AlertState",
    "Alerts",
    "DeletedAlert",
    "Delivery",
    "History",
    "HistoryChange",
    "Interval",
    "NewAlert",
    "WebhookTest",
]
