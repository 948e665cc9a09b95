"""One decorator each: what every contender of sdk_overhead.py does to a function, and the worker that calls it.

    python benchmarks/sdk_contenders.py NAME latency|burst|memory URL NUM_CALLS

Runs in the contender's own environment, so it needs the standard library alone; prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "How do I return a lamp that I bought last week? " * 31
ANSWER = "You can return it within thirty days of delivery. " * 30
KEY = "hl_0123456789ab_" + "k" * 43


def answer(question):
    """The function that is recorded."""
    return ANSWER


def bare_opentelemetry(url):
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url + "/v1/traces")))
    tracer = provider.get_tracer("bench")

    def call(question):
        with tracer.start_as_current_span("answer") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            span.set_attribute("heedloop.answer", True)
            prompt = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
            span.set_attribute("gen_ai.input.messages", json.dumps(prompt))
            result = answer(question)
            said = [{"role": "assistant", "parts": [{"type": "text", "content": result}]}]
            span.set_attribute("gen_ai.output.messages", json.dumps(said))
            return result

    return call, lambda: provider.force_flush(60_000)


def heedloop(url, sample_rate=1.0):
    import heedloop as sdk

    folder = tempfile.mkdtemp(prefix="heedloop-bench-")
    sdk.configure(url, KEY, service="bench", sample_rate=sample_rate, options=sdk.Options(outbox=folder))
    return sdk.trace(answer), lambda: sdk.flush(60)


def heedloop_off(_url):
    import heedloop as sdk

    return sdk.trace(answer), lambda: None


def langfuse(url):
    from langfuse import Langfuse, observe

    client = Langfuse(public_key="pk", secret_key="sk", host=url)
    return observe(answer), client.flush


def opik(url):
    os.environ.update(OPIK_URL_OVERRIDE=url + "/api", OPIK_WORKSPACE="default", OPIK_TRACK_DISABLE="false")
    import opik as sdk

    return sdk.track(answer), lambda: sdk.flush_tracker(60)


def mlflow(url):
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = url + "/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    import mlflow as sdk

    return sdk.trace(answer), lambda: sdk.flush_trace_async_logging()


def logfire(url):
    import logfire as sdk
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processor = BatchSpanProcessor(OTLPSpanExporter(url + "/v1/traces"))
    sdk.configure(send_to_logfire=False, console=False, additional_span_processors=[processor])
    return sdk.instrument(extract_args=True, record_return=True)(answer), lambda: sdk.force_flush(60_000)


def traceloop(url):
    os.environ["TRACELOOP_TELEMETRY"] = "false"
    from opentelemetry import trace
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import task

    Traceloop.init(app_name="bench", api_endpoint=url, api_key="k", instruments=set())
    return task(name="answer")(answer), lambda: trace.get_tracer_provider().force_flush(60_000)


def openinference(url):
    from openinference.instrumentation import TracerProvider
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url + "/v1/traces")))
    return provider.get_tracer("bench").chain(answer), lambda: provider.force_flush(60_000)


def langsmith(url):
    os.environ.update(LANGSMITH_TRACING="true", LANGSMITH_ENDPOINT=url, LANGSMITH_API_KEY="k")
    from langsmith import Client, traceable

    client = Client()
    return traceable(client=client)(answer), client.flush


def weave(url):
    os.environ.update(WF_TRACE_SERVER_URL=url, WANDB_BASE_URL=url, WANDB_API_KEY="0" * 40)
    os.environ.update(WEAVE_PRINT_CALL_LINK="false")
    import weave as sdk

    client = sdk.init("bench/bench")
    return sdk.op(answer), client.flush


CONTENDERS = {
    "bare OpenTelemetry": bare_opentelemetry,
    "heedloop": heedloop,
    "heedloop, sampled out": lambda url: heedloop(url, 1e-9),
    "heedloop, off": heedloop_off,
    "langfuse @observe": langfuse,
    "opik @track": opik,
    "mlflow @trace": mlflow,
    "logfire.instrument": logfire,
    "traceloop @task": traceloop,
    "OpenInference @chain": openinference,
    "langsmith @traceable": langsmith,
    "weave @op": weave,
}


def work(name, task, url, num_calls):
    """Run one task of one contender and print its result as JSON."""
    call, flush = CONTENDERS[name](url)
    for _ in range(300):
        call(PROMPT)
    flush_quietly(flush, task)
    if task == "latency":
        print(json.dumps(latencies(call, num_calls)))
    elif task == "burst":
        for _ in range(num_calls):
            call(PROMPT)
        flush()
        print(json.dumps({"recorded": num_calls + 300}))
    else:
        before = resident_bytes()
        for _ in range(num_calls):
            call(PROMPT + "!")  # a text of its own each time, as in life
        print(json.dumps({"grown_mib": (resident_bytes() - before) / 2**20}))
    sys.stdout.flush()
    os._exit(0)


def flush_quietly(flush, task):
    if task != "memory":
        flush()


def latencies(call, num_calls):
    clock = time.perf_counter_ns
    spent = []
    for number in range(num_calls):
        started = clock()
        call(PROMPT)
        spent.append(clock() - started)
        if number % 50 == 49:
            time.sleep(0.02)
    spent.sort()
    return {
        "p50_us": spent[len(spent) // 2] / 1000,
        "p99_us": spent[int(len(spent) * 0.99)] / 1000,
        "mean_us": sum(spent) / len(spent) / 1000,
    }


def resident_bytes():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
