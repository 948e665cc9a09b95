"""Claims: a post with a feedback token is taken only if it is the token's next one, and noted before it is stored.

Posts that come at the same time share one look and one insert: the first of them does the work for all that wait. Several servers
on one store may take two different posts as a token's next at the same moment; each looks again after it has written, and then
neither is followed by another (`tokens.may_use`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from heedloop_server.errors import Unauthorized
from heedloop_server.ingest.tokens import may_use
from heedloop_server.store.admin.token_uses import MAX_TOKENS, TokenUse, insert_token_uses, uses_of_tokens
from heedloop_server.store.connection import ProjectStore, Store

_USED = "the feedback token was used already; ask the app for a new one"


@dataclass(frozen=True, slots=True)
class _Claim:
    project: str
    use: TokenUse
    is_valid: Future[bool] = field(default_factory=lambda: Future[bool]())


class TokenClaims:
    """Decides which posts with tokens are taken; may be asked from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[_Claim] = []
        self._waiting_lock = threading.Lock()
        self._work_lock = threading.Lock()

    def claim(self, project: str, use: TokenUse) -> None:
        """Return when the use is on disk.

        Raises:
            Unauthorized: the token was used already, and this is neither that post again nor the next one.
            Unavailable: the store does not answer.
        """
        mine = _Claim(project, use)
        with self._waiting_lock:
            self._waiting.append(mine)
        with self._work_lock:
            if not mine.is_valid.done():
                self._resolve_group()
        if not mine.is_valid.result():
            raise Unauthorized(_USED)

    def _resolve_group(self) -> None:
        with self._waiting_lock:
            group, self._waiting = self._waiting, []
        by_project: dict[str, list[_Claim]] = {}
        for claim in group:
            by_project.setdefault(claim.project, []).append(claim)
        for project, claims in by_project.items():
            for first in range(0, len(claims), MAX_TOKENS):
                some = claims[first : first + MAX_TOKENS]
                try:
                    _resolve(self._store.project(project), some)
                except Exception as err:  # noqa: BLE001  # whoever waits gets it; the next group is not theirs to suffer for
                    for claim in some:
                        claim.is_valid.set_exception(err)


def _resolve(project: ProjectStore, claims: Sequence[_Claim]) -> None:
    tokens = [c.use.token for c in claims]
    known = uses_of_tokens(project, tokens)
    new: list[TokenUse] = []
    are_valid: list[bool] = []
    for claim in claims:
        uses = known[claim.use.token]
        are_valid.append(may_use(uses, claim.use))
        if are_valid[-1] and claim.use not in uses:
            uses.append(claim.use)
            new.append(claim.use)
    if new:
        insert_token_uses(project, new)
        known = uses_of_tokens(project, tokens)
    for claim, good in zip(claims, are_valid, strict=True):
        claim.is_valid.set_result(good and may_use(known[claim.use.token], claim.use))
