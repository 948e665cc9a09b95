"""Which use of a feedback token follows from which: the chain, without a store."""

from datetime import datetime, timezone

import pytest

from heedloop_server.ingest.tokens import may_use
from heedloop_server.store.admin.token_uses import TokenUse


def use(link: str, digest: str, following: str = "") -> TokenUse:
    return TokenUse("t", link, digest, following, datetime(2027, 1, 1, tzinfo=timezone.utc))


FIRST, SECOND = use("", "a", "l1"), use("l1", "b", "l2")


@pytest.mark.parametrize(
    ("known", "new", "good"),
    [
        ([], use("", "a"), True),
        ([], use("l1", "a"), False),
        ([FIRST], FIRST, True),
        ([FIRST], use("", "x", "l1"), False),
        ([FIRST], use("l1", "b"), True),
        ([FIRST], use("l2", "b"), False),
        ([FIRST, SECOND], FIRST, True),
        ([FIRST, SECOND], use("l1", "x", "l2"), False),
        ([FIRST, SECOND], use("l2", "c"), True),
        ([use("", "a")], use("", "a"), True),
        ([use("", "a")], use("l1", "b"), False),
    ],
)
def test_a_use_is_the_next_link_or_one_of_them_again(known, new, good):
    assert may_use(known, new) is good


def test_two_that_met_at_one_link_lead_nowhere():
    other = use("", "x", "l9")
    assert not may_use([FIRST, other], FIRST)
    assert not may_use([FIRST, other], use("l1", "b"))
    assert not may_use([FIRST, other], use("l9", "b"))


def test_a_chain_that_bites_its_tail_ends():
    assert not may_use([use("", "a", "l1"), use("l1", "b", "l1")], use("l2", "c"))
