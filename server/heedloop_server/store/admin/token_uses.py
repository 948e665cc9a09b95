"""What feedback tokens were used for, until they expire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from heedloop.schema import utc_now
from heedloop_server.store.connection import ProjectStore

MAX_TOKENS = 1_000
"""Tokens in one query, below the 128 KiB that ClickHouse's HTTP interface takes as one value."""


@dataclass(frozen=True, slots=True)
class TokenUse:
    """One post with a token; every text but `link` and `next`, which may be empty, is a SHA-256 in hex.

    Attributes:
        link: of the proof that the post came with; empty for a token's first use.
        digest: of everything that was posted.
        next: of the proof that the next post must bring; empty where there shall be none.
    """

    token: str
    link: str
    digest: str
    next: str
    expires_at: datetime


def insert_token_uses(project: ProjectStore, uses: Iterable[TokenUse]) -> None:
    """Store uses; the same use again changes nothing."""
    now = utc_now()
    project.insert("token_uses", [asdict(use) | {"at": now} for use in uses], **project.lasting)


def uses_of_tokens(project: ProjectStore, tokens: Sequence[str]) -> dict[str, list[TokenUse]]:
    """Token -> its uses, for at most `MAX_TOKENS` tokens."""
    result: dict[str, list[TokenUse]] = {token: [] for token in tokens}
    rows = project.rows(
        """
        SELECT DISTINCT
            token,
            link,
            digest,
            next,
            expires_at
        FROM token_uses
        WHERE project_id = {project:String} AND token IN {tokens:Array(String)}
        """,
        {"tokens": list(result)},
        **project.fresh,
    )
    for row in rows:
        result[row["token"]].append(TokenUse(**row))
    return result
