"""The probability of a call: heedloop's attribute, else OpenTelemetry's threshold in the tracestate."""

import pytest

from heedloop_server.normalise import normalise_request


@pytest.fixture
def probability(span, request_of):
    def read(trace_state: str = "", **attributes: object) -> float:
        one = span({"gen_ai.operation.name": "chat", **attributes})
        one.trace_state = trace_state
        (found,) = normalise_request(request_of(one))
        return found.sampling_probability

    return read


@pytest.mark.parametrize(
    ("trace_state", "expected"),
    [
        ("ot=th:8", 0.5),
        ("vendor=a,ot=rv:abcdef01234567;th:c", 0.25),
        ("ot=th:0", 1.0),
        ("ot=th:ffffffffffffff", 2**-56),
        ("ot=th:123456789abcdef", 1.0),
        ("ot=th:XYZ", 1.0),
        ("vendor=th:8", 1.0),
        ("", 1.0),
    ],
)
def test_the_threshold_of_the_tracestate(probability, trace_state: str, expected: float) -> None:
    assert probability(trace_state) == expected


def test_our_own_word_counts_first(probability) -> None:
    assert probability("ot=th:8", **{"heedloop.sampling.probability": 1.0}) == 1.0
