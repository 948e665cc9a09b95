"""Microseconds of CPU per span of `normalise_request`, for the standard form and for each foreign client.

    python benchmarks/normalise.py [--captures FOLDER] [--markdown]

The standard form is a request of 50 spans of about 1.1 KB, as heedloop's SDK sends them. `--captures` names a folder of
captured bodies (`<client>/<n>.bin` with `meta.json`); their spans are repeated to requests of 50. Best of several rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from heedloop_server.ingest.otlp_json import traces_from_json
from heedloop_server.normalise import normalise_request
from heedloop_server.normalise.span import span_views

NUM_SPANS = 50
ROUNDS = 7


def standard_request() -> ExportTraceServiceRequest:
    """50 spans of about 1.1 KB with 19 attributes, one conversation turn each."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (("service.name", "shop"), ("deployment.environment.name", "production")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "heedloop", "0.1.0"
    for i in range(NUM_SPANS):
        span = scope.spans.add(
            name="chat gpt-4o-mini", kind=3, trace_id=i.to_bytes(16, "big"), span_id=i.to_bytes(8, "big")
        )
        span.start_time_unix_nano, span.end_time_unix_nano = (
            1_795_257_768_181_648_176 + i,
            1_795_257_768_199_680_408 + i,
        )
        for key, value in _attributes(i).items():
            added = span.attributes.add(key=key).value
            setattr(
                added,
                {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value"}[
                    type(value)
                ],
                value,
            )
    return request


def _attributes(i: int) -> dict[str, str | int | float | bool]:
    question = "What is the capital of France, and why did it become the capital? " * 2
    answer = "Paris. It grew where the roads of the north cross the Seine, and the kings stayed. " * 4
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 256,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.id": f"chatcmpl-{i:08d}",
        "gen_ai.response.finish_reasons": '["stop"]',
        "gen_ai.usage.input_tokens": 31,
        "gen_ai.usage.output_tokens": 57,
        "gen_ai.input.messages": json.dumps(
            [
                {"role": "system", "parts": [{"type": "text", "content": "You are terse."}]},
                {"role": "user", "parts": [{"type": "text", "content": question}]},
            ]
        ),
        "gen_ai.output.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
        ),
        "gen_ai.prompt.name": "tutor",
        "gen_ai.prompt.version": "3",
        "gen_ai.conversation.id": "sess-1",
        "user.id": "user-7",
        "heedloop.answer": True,
        "heedloop.sampling.probability": 1.0,
        "heedloop.metadata.plan": "pro",
    }


def captured(folder: Path) -> dict[str, ExportTraceServiceRequest]:
    """Per client, a request of 50 or more of its spans."""
    requests: dict[str, ExportTraceServiceRequest] = {}
    for meta in sorted(folder.glob("*/meta.json")):
        client = ExportTraceServiceRequest()
        for entry in json.loads(meta.read_text())["files"]:
            if entry["signal"] == "traces":
                client.MergeFrom(_parse(entry, (meta.parent / entry["file"]).read_bytes()))
        size = num_spans(client)
        if size:
            repeated = ExportTraceServiceRequest()
            for _ in range(-(-NUM_SPANS // size)):
                repeated.MergeFrom(client)
            requests[meta.parent.name] = repeated
    return requests


def _parse(entry: dict[str, object], body: bytes) -> ExportTraceServiceRequest:
    headers = {str(k).lower(): str(v) for k, v in entry["headers"]}  # type: ignore[attr-defined]
    encoding = headers.get("content-encoding")
    body = (
        gzip.decompress(body)
        if encoding == "gzip"
        else zlib.decompress(body)
        if encoding == "deflate"
        else body
    )
    json_body = "json" in headers.get("content-type", "")
    return traces_from_json(body) if json_body else ExportTraceServiceRequest.FromString(body)


def num_spans(request: ExportTraceServiceRequest) -> int:
    return sum(len(ss.spans) for rs in request.resource_spans for ss in rs.scope_spans)


def us_per_span(work: Callable[[], object], spans: int) -> float:
    """The best round's CPU microseconds per span; a round lasts at least 50 ms."""
    work()
    started = time.process_time()
    work()
    repeats = max(1, int(0.05 / max(1e-6, time.process_time() - started)))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeats):
            work()
        best = min(best, (time.process_time() - started) / repeats)
    return best / spans * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    requests = {"standard (heedloop)": standard_request()}
    if options.captures:
        requests |= captured(options.captures)
    line = "| {} | {} | {} | {} | {} | {} |" if options.markdown else "{:42} {:>6} {:>7} {:>8} {:>8} {:>10}"
    print(line.format("client", "spans", "B/span", "parse us", "view us", "normalise us"))
    if options.markdown:
        print("|---|---|---|---|---|---|")
    for name, request in requests.items():
        spans, body = num_spans(request), request.SerializeToString()
        timed = [
            us_per_span(lambda body=body: ExportTraceServiceRequest.FromString(body), spans),
            us_per_span(lambda request=request: list(span_views(request)), spans),
            us_per_span(lambda request=request: normalise_request(request), spans),
        ]
        print(line.format(name, spans, len(body) // spans, *(f"{t:.1f}" for t in timed)))


if __name__ == "__main__":
    main()
