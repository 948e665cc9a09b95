"""What one recorded call costs the caller's thread: heedloop, the bare OpenTelemetry SDK, and the decorators of its peers.

    python benchmarks/sdk_overhead.py                     # heedloop and bare OpenTelemetry
    python benchmarks/sdk_overhead.py --peers             # installs each peer into a throw-away environment of its own first
    python benchmarks/sdk_overhead.py --peers --markdown out.md
    python benchmarks/sdk_overhead.py --start-only        # processor time until the first call can be recorded

Every contender runs in a process of its own against a sink on loopback, in turn, several rounds; a row gives the median
over the rounds. A call takes a prompt of 1.5 KB and gives an answer of 1.5 KB; both are captured. "x bare" is the
median of the ratios to the bare span of the same round: a machine that changes its pace between rounds changes both. Pauses of 20 ms after
every 50 calls let exporters work while calls go on, as in a service. `burst` is 20,000 calls without a pause: how many
arrived (for those that speak OTLP). `memory` is the growth of the process over 100,000 calls while the sink accepts connections and never answers.
`installed` is what installing the contender brings into an empty environment, without pip itself and compiled files.
weave does not start without an account at a server: the sink says that there is one, and takes what it sends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from counting_sink import Sink
from sdk_contenders import KEY

WORKER = Path(__file__).with_name("sdk_contenders.py")

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


def run(python, name, task, *, num_calls, timeout_s=240):
    """One task in a fresh process and against a fresh sink; None where the contender fails or takes too long."""
    server = Sink(hung=task == "memory")
    command = [python, str(WORKER), name, task, server.url, str(num_calls)]
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
        bare = None
        for name, python in pythons.items():
            found = run(python, name, "latency", num_calls=num_calls, timeout_s=90)
            if found is not None:
                bare = bare or found["p50_us"]
                rows[name]["latency"].append({**found, "ratio": found["p50_us"] / bare})
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


def table(rows):
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f}; `python {' '.join(sys.argv)}`",
        "",
        "| contender | median us | x bare | p99 us | burst of 20,000: arrived | start, CPU ms (x bare) | installed MiB | memory MiB, sink hung |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        if not row["latency"]:
            lines.append(f"| {name} | did not run | | | | | | |")
            continue
        p50, p99, ratio = (median(row, key) for key in ("p50_us", "p99_us", "ratio"))
        burst = row.get("burst")
        arrived = "-" if not burst else f"{burst['arrived'] - 300:,}" if burst["arrived"] else "not OTLP"
        imported = start_cell(row.get("import_ms"), rows["bare OpenTelemetry"].get("import_ms"))
        size = f"{row['installed_mib']:.1f}" if row.get("installed_mib") else "-"
        memory = f"{row['memory']['grown_mib']:.0f}" if row.get("memory") else "-"
        lines.append(
            f"| {name} | {p50:.1f} | {ratio:.2f} | {p99:.0f} | {arrived} | {imported} | {size} | {memory} |"
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
    given = parser.parse_args()
    if given.start_only:
        spent = import_ms(dict.fromkeys(OWN[:2], sys.executable))
        for name, ms in spent.items():
            print(f"{name}: {start_cell(ms, spent['bare OpenTelemetry'])} CPU ms")
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
        text = table(measure(pythons, sized, given.rounds, given.calls))
    print(text)
    if given.markdown:
        given.markdown.write_text(text)


if __name__ == "__main__":
    main()
