"""What one recorded call costs the caller's thread: heedloop, the bare OpenTelemetry SDK, and the decorators of its peers.

    python benchmarks/sdk_overhead.py                     # heedloop and bare OpenTelemetry
    python benchmarks/sdk_overhead.py --peers             # installs each peer into a throw-away environment of its own first
    python benchmarks/sdk_overhead.py --peers --markdown out.md
    python benchmarks/sdk_overhead.py --start-only        # processor time until the first call can be recorded

Every contender runs in a process of its own against a sink on loopback, in turn, several rounds; a row gives the median
over the rounds. A call takes a prompt of 1.5 KB and gives an answer of 1.5 KB; both are captured. Pauses of 20 ms after
every 50 calls let exporters work while calls go on, as in a service. `burst` is 20,000 calls without a pause: how many
arrived (for those that speak OTLP). `memory` is the growth of the process over 100,000 calls while the sink accepts connections and never answers.
`installed` is what installing the contender brings into an empty environment, without pip itself and compiled files.
weave does not start without an account at a server: the sink says that there is one, and takes what it sends.
"""

from __future__ import annotations

import argparse
import gzip
import http.server
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROMPT = "How do I return a lamp that I bought last week? " * 31
ANSWER = "You can return it within thirty days of delivery. " * 30
KEY = "hl_0123456789ab_" + "k" * 43

PACKAGES = {
    "langfuse @observe": ["langfuse"],
    "opik @track": ["opik"],
    "mlflow @trace": ["mlflow-tracing"],
    "logfire.instrument": ["logfire"],
    "traceloop @task": ["traceloop-sdk", "httpx"],
    "OpenInference @chain": [
        "openinference-instrumentation",
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
    ],
    "langsmith @traceable": ["langsmith"],
    "weave @op": ["weave"],
}
OWN_PACKAGES = {
    "bare OpenTelemetry": ["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
    "heedloop": [str(Path(__file__).parent.parent)],
}
"""Installed into environments of their own only to see how large they are."""
IMPORTS = {
    "bare OpenTelemetry": "from opentelemetry.sdk.trace import TracerProvider;"
    " from opentelemetry.sdk.trace.export import BatchSpanProcessor as B;"
    " from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as E;"
    " TracerProvider().add_span_processor(B(E('http://127.0.0.1:1/v1/traces')))",
    "heedloop": f"import heedloop; heedloop.configure('http://127.0.0.1:1', {KEY!r})",
    "langfuse @observe": "import langfuse",
    "opik @track": "import opik",
    "mlflow @trace": "import mlflow",
    "logfire.instrument": "import logfire",
    "traceloop @task": "import traceloop.sdk",
    "OpenInference @chain": "import openinference.instrumentation, opentelemetry.sdk.trace.export,"
    " opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "langsmith @traceable": "import langsmith",
    "weave @op": "import weave",
}
SPEAK_OTLP = (
    "bare OpenTelemetry",
    "heedloop",
    "langfuse @observe",
    "mlflow @trace",
    "logfire.instrument",
    "traceloop @task",
    "OpenInference @chain",
)
"""Those whose spans the sink can count."""
OWN = ("bare OpenTelemetry", "heedloop", "heedloop, sampled out", "heedloop, off")


# ------------------------------------------------------------------------------------------------------ contenders


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


# ------------------------------------------------------------------------------------------------- in the worker


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


# --------------------------------------------------------------------------------------------------------- the sink


WEAVE_ANSWER = json.dumps(
    {
        "data": {
            "project": {"name": "bench"},
            "viewer": {"username": "b", "defaultEntity": {"name": "bench"}},
        },
        "min_required_weave_python_version": "0.0.1",
        "digest": "a" * 43,
    }
).encode()
"""What weave wants to hear before it starts (who the account is, which version will do) and where it stores a function."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        if self.server.hung:
            time.sleep(3600)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "/v1/traces" in self.path or "/otel" in self.path:
            self.server.num_spans += count_spans(body)
        payload = b"{}" if "/v1/" in self.path else WEAVE_ANSWER
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_PATCH = do_POST

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    hung = False
    num_spans = 0

    def handle_error(self, request, client_address):
        pass


def count_spans(body):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


def sink(*, hung=False):
    """Serve in a process of its own; prints its address, and the number of spans for every line it reads."""
    server = Server(("127.0.0.1", 0), Handler)
    server.hung = hung
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    for _line in sys.stdin:
        print(server.num_spans, flush=True)


class Sink:
    def __init__(self, *, hung=False):
        command = [sys.executable, __file__, "--sink", "hung" if hung else "well"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def num_spans(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


# ------------------------------------------------------------------------------------------------------ the table


def run(python, name, task, *, num_calls, timeout_s=240):
    """One task in a fresh process and against a fresh sink; None where the contender fails or takes too long."""
    server = Sink(hung=task == "memory")
    command = [
        python,
        __file__,
        "--worker",
        name,
        "--task",
        task,
        "--url",
        server.url,
        "--calls",
        str(num_calls),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        if task == "burst":
            found["arrived"] = server.num_spans()
        return found
    except (subprocess.TimeoutExpired, IndexError, json.JSONDecodeError) as error:
        tail = (
            done.stderr.strip().splitlines()[-1:]
            if not isinstance(error, subprocess.TimeoutExpired)
            else ["too long"]
        )
        print(f"  {name}: {task}: {' '.join(tail)[:150]}", file=sys.stderr)
        return None
    finally:
        server.close()


def import_ms(pythons, rounds=9):
    """Name -> processor time until the first call can be recorded (peers: of the import alone), in turn, the median.

    Everybody's bytecode is compiled first, as an installation does it: without that a contender from a source tree
    would be charged for its compilation at every start (PYTHONDONTWRITEBYTECODE keeps it from being kept).
    """
    times = {name: [] for name in pythons if name in IMPORTS}
    with tempfile.TemporaryDirectory(prefix="sdk-bytecode-") as compiled:
        environment = {**os.environ, "HEEDLOOP_OUTBOX": "memory", "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for name, spent in times.items():
                code = f"import time; t=time.process_time(); {IMPORTS[name]}; print((time.process_time()-t)*1000)"
                done = subprocess.run(
                    [pythons[name], "-c", code], capture_output=True, text=True, env=environment
                )
                if done.returncode == 0 and number:
                    spent.append(float(done.stdout.strip().splitlines()[-1]))
    return {name: statistics.median(spent) for name, spent in times.items() if spent}


def install(name, folder):
    """A throw-away environment with one peer; its interpreter, or None where it does not install."""
    home = folder / name.split()[0].replace("@", "")
    uv = shutil.which("uv")
    make = [uv, "venv", "-q", str(home)] if uv else [sys.executable, "-m", "venv", str(home)]
    python = home / "bin" / "python"
    pip = (
        [uv, "pip", "install", "-q", "--python", str(python)]
        if uv
        else [str(python), "-m", "pip", "install", "-q"]
    )
    try:
        subprocess.run(make, check=True, capture_output=True, timeout=120)
        subprocess.run(
            [*pip, *{**PACKAGES, **OWN_PACKAGES}[name]], check=True, capture_output=True, timeout=600
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"  {name}: cannot be installed: {error}", file=sys.stderr)
        return None
    return str(python)


def installed_mib(python):
    """Size of what was installed into an environment: its site-packages without pip itself and compiled files."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sum(p.stat().st_size for p in files if not is_installer(p.relative_to(folder))) / 2**20


def is_installer(path):
    """True for what an empty environment holds already."""
    return path.parts[0].startswith(("pip", "setuptools", "pkg_resources", "_distutils_hack", "_virtualenv"))


def measure(pythons, sized, rounds, num_calls):
    rows = {name: {"latency": []} for name in pythons}
    for _ in range(rounds):
        for name, python in pythons.items():
            found = run(python, name, "latency", num_calls=num_calls, timeout_s=90)
            if found is not None:
                rows[name]["latency"].append(found)
    started = import_ms(pythons)
    for name, python in pythons.items():
        row = rows[name]
        if not row["latency"]:
            continue
        row["import_ms"] = started.get(name)
        if name in sized:
            row["installed_mib"] = installed_mib(sized[name])
        if name in SPEAK_OTLP:
            row["burst"] = run(python, name, "burst", num_calls=20_000, timeout_s=120)
        if name in ("bare OpenTelemetry", "heedloop"):
            row["memory"] = run(python, name, "memory", num_calls=100_000, timeout_s=120)
        print(name, json.dumps(row), file=sys.stderr)
    return rows


def table(rows, rounds, num_calls):
    bare = median(rows["bare OpenTelemetry"], "p50_us")
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}; `python benchmarks/sdk_overhead.py --peers --rounds {rounds} --calls {num_calls}`",
        "",
        "| contender | median us | x bare | p99 us | burst of 20,000: arrived | start, CPU ms (x bare) | installed MiB | memory MiB, sink hung |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if not row["latency"]:
            lines.append(f"| {name} | did not run | | | | | | |")
            continue
        p50, p99 = median(row, "p50_us"), median(row, "p99_us")
        burst = row.get("burst")
        arrived = "-" if not burst else f"{burst['arrived'] - 300:,}" if burst["arrived"] else "not OTLP"
        imported = start_cell(row.get("import_ms"), rows["bare OpenTelemetry"].get("import_ms"))
        size = f"{row['installed_mib']:.1f}" if row.get("installed_mib") else "-"
        memory = f"{row['memory']['grown_mib']:.0f}" if row.get("memory") else "-"
        lines.append(
            f"| {name} | {p50:.1f} | {p50 / bare:.2f} | {p99:.0f} | {arrived} | {imported} | {size} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def start_cell(spent, bare):
    if not spent:
        return "-"
    return f"{spent:.0f} ({spent / bare:.2f})" if bare else f"{spent:.0f}"


def median(row, key):
    return statistics.median(r[key] for r in row["latency"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", action="store_true", help="also install and measure the peers' decorators")
    parser.add_argument(
        "--peer-environments", type=Path, help="folder of environments to reuse, one per peer"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--start-only", action="store_true", help="measure only what starting up costs")
    parser.add_argument("--markdown", type=Path, help="also write the table here")
    for hidden in ("--worker", "--task", "--url", "--sink"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.sink:
        sink(hung=given.sink == "hung")
    elif given.start_only:
        spent = import_ms(dict.fromkeys(OWN[:2], sys.executable))
        for name, ms in spent.items():
            print(f"{name}: {start_cell(ms, spent['bare OpenTelemetry'])} CPU ms")
    elif given.worker:
        work(given.worker, given.task, given.url, given.calls)
    else:
        compare(given)


def compare(given):
    pythons, sized = dict.fromkeys(OWN, sys.executable), {}
    with tempfile.TemporaryDirectory(prefix="sdk-overhead-") as scratch:
        if given.peers:
            folder = given.peer_environments or Path(scratch)
            for name in (*OWN_PACKAGES, *PACKAGES):
                ready = folder / name.split()[0].replace("@", "") / "bin" / "python"
                python = str(ready) if ready.exists() else install(name, folder)
                if python is not None:
                    sized[name] = python
                    pythons.setdefault(name, python)
        text = table(measure(pythons, sized, given.rounds, given.calls), given.rounds, given.calls)
    print(text)
    if given.markdown:
        given.markdown.write_text(text)


if __name__ == "__main__":
    main()
