"""What each feedback call sends, whom it is about, and how wrong arguments are told."""

from datetime import datetime, timezone

import pytest

import heedloop
from heedloop import testing
from heedloop.schema import Author, Scale, Target, answer_hash

HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
OTHER = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)


@pytest.fixture
def recorded():
    with testing.recording() as seen:
        yield seen


def only(recorded):
    (given,) = recorded.feedback
    return given


def test_thumbs(recorded):
    up = heedloop.thumbs_up(HANDLE, author="u", comment="nice", at=WHEN, metadata={"page": "1"})
    heedloop.thumbs_down(OTHER)
    first, second = recorded.feedback
    assert first.id == up and first.is_thumb and first.value == 1
    assert (first.author, first.comment, first.created_at) == (Author("end_user", "u"), "nice", WHEN)
    assert first.metadata == {"page": "1"}
    assert second.value == 0 and second.target.trace_id == "c" * 32


def test_ratings_on_numbers_and_categories(recorded):
    heedloop.rate(HANDLE, 4, scale=(1, 5), name="helpfulness")
    heedloop.rate(HANDLE, "good", scale=["bad", "fair", "good"])
    stars, words = recorded.feedback
    assert stars.value == 4 and stars.scale == Scale(1, 5) and stars.name == "helpfulness"
    assert words.value == "good" and words.scale.categories == ("bad", "fair", "good")


def test_correction_flag_comment(recorded):
    heedloop.correct(HANDLE, "It is 14 days.", author=Author("annotator", "ann"))
    heedloop.flag(HANDLE, "inaccurate", severity="high", comment="wrong number")
    heedloop.comment(HANDLE, "hm")
    correction, flag, comment = recorded.feedback
    assert correction.correction == "It is 14 days." and correction.author.kind == "annotator"
    assert (flag.category, flag.severity, flag.comment) == ("inaccurate", "high", "wrong number")
    assert comment.kind == "comment" and comment.comment == "hm"


@pytest.mark.parametrize(
    ("how", "ranks"),
    [
        ({"best": HANDLE}, (1, 2)),
        ({"best": 1}, (2, 1)),
        ({"ranks": [2, 1]}, (2, 1)),
        ({}, (1, 1)),
        ({"all_bad": True}, (1, 1)),
    ],
)
def test_comparisons(recorded, how, ranks):
    heedloop.compare([HANDLE, OTHER], shown_order=[1, 0], strength=0.5, **how)
    given = only(recorded)
    assert given.ranking.ranks == ranks and given.ranking.shown_order == (1, 0)
    assert given.ranking.all_bad is how.get("all_bad", False)
    assert given.target == given.ranking.answers[0]


def test_retraction_has_the_identity_of_what_it_takes_back(recorded):
    heedloop.thumbs_up(HANDLE, author="u")
    heedloop.retract(HANDLE, author="u")
    given, tombstone = recorded.feedback
    assert tombstone.retracted and tombstone.identity("p") == given.identity("p")
    with pytest.raises(ValueError, match="author: needs an id"):
        heedloop.retract(HANDLE)


def test_the_current_call_and_its_user_are_meant_where_nobody_is_named(recorded):
    @heedloop.trace(name="outer")
    def outer(q):
        heedloop.set(user="u-1")
        inner(q)

    @heedloop.trace(name="inner")
    def inner(q):
        heedloop.thumbs_up()

    outer("q")
    given = only(recorded)
    assert given.target.span_id == recorded.span("outer").span_id
    assert given.author.id == "u-1"


def test_targets_in_every_way():
    text = "It is 30 days."
    part = heedloop.target(HANDLE, start=6, end=8, answer=text)
    assert (part.range.start, part.range.end, part.range.answer_hash) == (6, 8, answer_hash(text))
    assert heedloop.target(session="s") == Target(session_id="s")
    assert heedloop.target(response="chatcmpl-1") == Target(response_id="chatcmpl-1")
    assert heedloop.target(external="m-1").trace_id == heedloop.target(external="m-1").trace_id
    assert heedloop.target(external="m-1") != heedloop.target(external="m-2")
    ranged = heedloop.target(response="chatcmpl-1", start=0, end=2, answer=text)
    assert ranged.response_id == "chatcmpl-1" and ranged.range is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heedloop.thumbs_up("nonsense"), "handle: 'nonsense' is not a W3C traceparent"),
        (lambda: heedloop.thumbs_up(""), "about: is empty"),
        (lambda: heedloop.rate(HANDLE, 6, scale=(1, 5)), "value: 6 is outside its scale, 1 to 5"),
        (lambda: heedloop.rate(HANDLE, float("nan")), "value: nan is not a finite number"),
        (lambda: heedloop.rate(HANDLE, "x", scale=["a", "b"]), "value: 'x' is not one of a, b"),
        (lambda: heedloop.rate(HANDLE, 1, scale=(1, 2, 3)), "scale: must be"),
        (lambda: heedloop.correct(HANDLE, ""), "correction: must be text that is not empty"),
        (lambda: heedloop.flag(HANDLE, "x", severity="huge"), "severity: 'huge' is not one of"),
        (lambda: heedloop.compare([HANDLE]), "ranking.answers: holds 1 answers"),
        (lambda: heedloop.compare(HANDLE), "answers: must be a list"),
        (lambda: heedloop.compare([HANDLE, OTHER], best=2), "best: 2 is not an index"),
        (
            lambda: heedloop.compare([HANDLE, OTHER], best=HANDLE.replace("b", "e")),
            "best: is not one of the answers",
        ),
        (lambda: heedloop.compare([HANDLE, OTHER], best=0, ranks=[1, 2]), "give best or ranks"),
        (lambda: heedloop.compare([HANDLE, OTHER], ranks=[1]), "has 1 ranks for 2 answers"),
        (lambda: heedloop.thumbs_up(None), "about: is None, which names no answer"),
        (lambda: heedloop.thumbs_up(HANDLE, at="yesterday"), "at: .* is not an RFC 3339 time"),
        (lambda: heedloop.target(), "needs exactly one of a handle"),
        (lambda: heedloop.target(HANDLE, session="s"), "needs exactly one of a handle"),
        (lambda: heedloop.target(HANDLE, start=1), "needs start, end and answer together"),
        (lambda: heedloop.target(HANDLE, start=1, end=9, answer="short"), "ends at 9, but the answer has 5"),
        (lambda: heedloop.record("x"), "feedback: must be a Feedback"),
    ],
)
def test_wrong_arguments_raise_a_sentence(recorded, call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert recorded.feedback == []


def test_no_call_and_no_handle(recorded):
    import contextvars

    with pytest.raises(ValueError, match="there is none; give the answer's handle"):
        contextvars.Context().run(heedloop.thumbs_up)


def test_while_off_feedback_does_not_fail(caplog):
    heedloop.shutdown()
    heedloop.thumbs_up(HANDLE)
    heedloop.thumbs_down()
    assert heedloop.delivery().complete


def test_lone_surrogates_do_not_lose_feedback(recorded):
    heedloop.comment(HANDLE, "bad \ud800 text")
    assert only(recorded).comment == "bad ? text"


def test_assertions_of_the_testing_tools(recorded):
    heedloop.thumbs_up(HANDLE, author="u")
    assert recorded.assert_feedback("rating", about=HANDLE, value=1, author="u").is_thumb
    with pytest.raises(AssertionError, match="no rating with"):
        recorded.assert_feedback("rating", about=HANDLE, value=0)
