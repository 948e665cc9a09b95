"""Token counts: one way to count, whatever the client's."""

import json

import pytest

from heedloop.schema import Usage
from heedloop_server.normalise.usage import including_cache, read_usage


@pytest.mark.parametrize(
    ("sent", "usage"),
    [
        # OpenAI chat: input includes the cached tokens
        (
            {
                "prompt_tokens": 127,
                "completion_tokens": 14,
                "total_tokens": 141,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 8},
            },
            Usage(127, 14, 64, None, 8),
        ),
        # OpenAI Responses
        (
            {
                "input_tokens": 43,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 23,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 66,
            },
            Usage(43, 23, 0, None, 0),
        ),
        # Anthropic's own form leaves them out
        (
            {
                "input_tokens": 11,
                "output_tokens": 23,
                "cache_read_input_tokens": 1801,
                "cache_creation_input_tokens": 307,
            },
            Usage(2119, 23, 1801, 307),
        ),
        (
            {
                "input_tokens": 2000,
                "output_tokens": 23,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 0,
            },
            Usage(2100, 23, 100, 0),
        ),
        # MLflow uses Anthropic's names for OpenAI's counts: the total decides
        (
            {"input_tokens": 127, "output_tokens": 14, "total_tokens": 141, "cache_read_input_tokens": 64},
            Usage(127, 14, 64),
        ),
        # langfuse-js subtracts them: 63 + 64 = 127
        ({"input": 63, "output": 14, "total": 141, "input_cached_tokens": 64}, Usage(127, 14, 64)),
        (
            {"input": 31, "output": 7, "total": 38, "input_cache_read": 0, "output_reasoning": 0},
            Usage(31, 7, 0, None, 0),
        ),
        # LangChain, Gemini, Vercel AI SDK
        (
            {
                "input_tokens": 127,
                "output_tokens": 14,
                "total_tokens": 141,
                "input_token_details": {"cache_read": 64},
            },
            Usage(127, 14, 64),
        ),
        (
            {
                "promptTokenCount": 127,
                "candidatesTokenCount": 14,
                "totalTokenCount": 141,
                "cachedContentTokenCount": 64,
            },
            Usage(127, 14, 64),
        ),
        (
            {"inputTokens": 37, "outputTokens": 17, "totalTokens": 54, "cachedInputTokens": 0},
            Usage(37, 17, 0),
        ),
        ({"prompt_tokens": 12, "total_tokens": 12}, Usage(12)),
        # Langfuse's JavaScript takes the details out of both
        (
            {
                "input": 318,
                "output": 18,
                "total": 2148,
                "input_cached_tokens": 1801,
                "output_reasoning_tokens": 11,
            },
            Usage(2119, 29, 1801, None, 11),
        ),
        # Google's answer leaves the thoughts out
        (
            {
                "promptTokenCount": 127,
                "candidatesTokenCount": 18,
                "thoughtsTokenCount": 11,
                "totalTokenCount": 156,
            },
            Usage(127, 29, None, None, 11),
        ),
        # nothing was counted
        ({"input": 0, "output": 0, "total": 0}, Usage()),
        ({}, Usage()),
        ({"input_tokens": "many", "output_tokens": None}, Usage()),
        ({"input_tokens": -5, "output_tokens": 3}, Usage(None, 3)),
    ],
)
def test_read_usage(sent: dict[str, object], usage: Usage) -> None:
    assert read_usage(sent) == usage
    assert read_usage(json.dumps(sent)) == usage
    assert read_usage(repr(sent)) == usage


def test_a_part_greater_than_its_whole_is_beside_it() -> None:
    assert including_cache(Usage(11, 23, 1801, 307)) == Usage(2119, 23, 1801, 307)


def test_without_a_hint_the_standard_holds() -> None:
    assert including_cache(Usage(127, 14, 64)) == Usage(127, 14, 64)


def test_a_part_greater_than_its_whole_is_beside_it_whatever_the_total() -> None:
    assert including_cache(Usage(11, 23, 1801, 307), total=34) == Usage(2119, 23, 1801, 307)
    assert including_cache(Usage(12, 5, None, None, 40), total=99) == Usage(12, 45, None, None, 40)
