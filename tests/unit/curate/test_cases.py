"""What becomes a case, whose words it names, and what the next answer is held to."""

from datetime import datetime, timezone

from heedloop.schema import Author, Call, Check, Feedback, Message, Scale, Target, ToolCall
from heedloop_server.curate.cases import make_cases
from heedloop_server.curate.evidence import ADJUDICATION
from heedloop_server.curate.judged_calls import Judgement

AT = datetime(2026, 5, 5, 12, tzinfo=timezone.utc)


def answered(n: int, question: str, answer: str, **more) -> Call:
    return Call(
        f"{n:032x}", f"{n:016x}", AT, input_messages=(Message("user", question),),
        output_messages=(Message("assistant", answer, tool_calls=more.pop("tool_calls", ())),), **more,
    )  # fmt: skip


def said(kind: str, call: Call, author: Author = Author("end_user", "ann@example.com"), **more) -> Judgement:  # noqa: B008
    feedback = Feedback(kind, Target(trace_id=call.trace_id, span_id=call.span_id), author=author, created_at=AT, **more)  # fmt: skip
    return Judgement(feedback.id, 1, feedback)


def cases_of(calls, judgements, **more):
    return make_cases("p", calls, judgements, least_f1=0.5, **more)


def test_a_correction_makes_its_new_facts_and_nearness_checks() -> None:
    call = answered(1, "When do you open?", "We open at 7:15 on 12 May.", tags=("hours",), attributes={"heedloop.metadata.language": "en"})  # fmt: skip
    made = cases_of(
        [call], [said("correction", call, correction="We open at 9:00 on 12 May, see shop.com/hours")]
    )
    assert len(made) == 1
    assert made[0].checks == (
        Check("differs"),
        Check("contains", "9:00"),
        Check("contains", "shop.com/hours"),
        Check("nearer"),
        Check("token_f1", least=0.5),
    )
    assert made[0].wrong == "We open at 7:15 on 12 May."
    assert made[0].slices == {"language": "en", "tag": "hours"}
    words = made[0].feedback[0]
    assert words.text == "We open at 9:00 on 12 May, see shop.com/hours"
    assert "ann" not in words.author
    again = cases_of([call], [said("correction", call, correction="Other words.")])
    assert (again[0].id, again[0].feedback[0].author) == (made[0].id, words.author)


def test_a_flag_makes_a_case_without_a_reference_and_private_answers_none() -> None:
    calls = [answered(n, f"Question number {n}?", f"Answer {n}.") for n in range(1, 4)]
    flags = [said("flag", c, category=k) for c, k in zip(calls, ("inaccurate", "privacy"), strict=False)]
    made = cases_of(calls, flags, judge="thumb")
    assert [(c.wrong, c.reference, c.checks) for c in made] == [
        ("Answer 1.", "", (Check("differs"), Check("judge", "thumb")))
    ]


def test_a_reviewers_word_counts_and_the_overruled_one_does_not() -> None:
    good, bad = (answered(n, q, "Done.", tool_calls=(ToolCall("refund", "{}"),)) for n, q in ((1, "Refund me"), (2, "Hello there")))  # fmt: skip
    thumb = {"scale": Scale(0, 1)}
    adjudicated = {**thumb, "metadata": {ADJUDICATION: "1"}}
    reviewer, annotator = Author("annotator", "lead"), Author("annotator", "a")
    made = cases_of(
        [good, bad],
        [
            said("rating", good, reviewer, value=1.0, queue_item="i1", **adjudicated),
            said("flag", good, annotator, category="inaccurate", queue_item="i1"),
            said("rating", bad, reviewer, value=0.0, queue_item="i2", **adjudicated),
            said("rating", bad, annotator, value=1.0, queue_item="i3", **thumb),
            said("rating", bad, Author("model", "j@1"), value=1.0, **thumb),
        ],
    )
    assert [(c.question, c.checks) for c in made] == [
        ("Refund me", (Check("tool_calls"),)),
        ("Hello there", (Check("differs"),)),
    ]
    assert made[0].reference_tool_calls == (ToolCall("refund", "{}"),)


def test_near_copies_of_a_prompt_are_one_group() -> None:
    texts = (
        "Where is my parcel number one please?",
        "where is my parcel number one please",
        "What does it cost?",
    )
    calls = [answered(n, t, f"No {n}.") for n, t in enumerate(texts, 1)]
    groups = [c.group for c in cases_of(calls, [said("flag", c, category="inaccurate") for c in calls])]
    assert groups[0] == groups[1] != groups[2]
