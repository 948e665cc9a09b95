"""`heedloop quickstart`: a server, a dashboard and an example app on this machine; ends at the first thumb's page."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from heedloop_cli.processes import free_port, start_dashboard, start_server

HELP = "a server, the dashboard and an example app on this machine: the address of the page with your first thumb"
INSTALL = "pip install 'heedloop[server,embedded,dashboard]'"
EXAMPLE = Path(__file__).parents[1] / "example_app.py"
_PARTS = ("fastapi", "uvicorn", "chdb", "streamlit")
_EXAMPLE_TIMEOUT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to keep everything, and the two ports."""
    parser.add_argument(
        "--data", type=Path, default=Path(".heedloop"), help="folder to keep everything in (./.heedloop)"
    )
    parser.add_argument("--port", type=int, default=8321, help="port of the server (8321, else a free one)")
    parser.add_argument(
        "--dashboard-port", type=int, default=8501, help="port of the dashboard (8501, else a free one)"
    )


def run(args: argparse.Namespace) -> int:
    """Start both, run the example, print the page's address and serve until interrupted."""
    missing = [name for name in _PARTS if find_spec(name) is None]
    if missing:
        print(f"heedloop quickstart: {', '.join(missing)} not installed: {INSTALL}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped too
    try:
        return _serve(args.data.absolute(), args.port, args.dashboard_port)
    except (OSError, RuntimeError, subprocess.SubprocessError) as err:
        print(f"heedloop quickstart: {err}", file=sys.stderr)
        return 1


def _serve(folder: Path, port: int, dashboard_port: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder / "first-key"
    with start_server(folder / "data", key_file, port=free_port(port)) as server:
        server.wait_until_ready("/readyz")
        key = _key(key_file)
        print(f"server       {server.url}, its data in {folder}", flush=True)
        print(f"key          in {key_file}; only you can read it", flush=True)
        handle = _run_example(folder, server.url, key)
        with start_dashboard(server.url, key, folder=folder, port=free_port(dashboard_port)) as dashboard:
            dashboard.wait_until_ready("/")
            _, trace_id, span_id, _ = handle.split("-")
            print(f"first thumb  {dashboard.url}/trace?trace_id={trace_id}&span_id={span_id}", flush=True)
            print(f"\nYour own app:\n{_settings(server.url, key_file)}\nCtrl-C ends.", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                dashboard.wait()
    return 0


def _key(key_file: Path) -> str:
    """The key of a new store; of one that is there already, the one in its file or in the environment.

    Raises:
        RuntimeError: the store has keys, but none is known here.
    """
    if key_file.is_file():
        return key_file.read_text("utf-8").strip()
    key = os.environ.get("HEEDLOOP_API_KEY", "").strip()
    if not key:
        raise RuntimeError(
            f"the store in {key_file.parent} was made by another command, whose key is not here; "
            "set HEEDLOOP_API_KEY to it, or give another folder with --data"
        )
    return key


def _run_example(folder: Path, url: str, key: str) -> str:
    """Run the example app in a process of its own; the handle of the answer that has the thumb.

    Raises:
        RuntimeError: it failed.
    """
    app = folder / "example_app.py"
    if not app.is_file():
        shutil.copyfile(EXAMPLE, app)
    environment = {**os.environ, "HEEDLOOP_URL": url, "HEEDLOOP_API_KEY": key, "HEEDLOOP_OUTBOX": "memory"}
    done = subprocess.run(
        [sys.executable, str(app)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=_EXAMPLE_TIMEOUT_S,
    )
    lines = done.stdout.split()
    if done.returncode != 0 or not lines or lines[-1].count("-") != 3:
        raise RuntimeError(f"{app} did not end with a handle:\n{done.stdout}{done.stderr}")
    print(f"example app  {app} answered once and got a thumb", flush=True)
    return lines[-1]


def _settings(url: str, key_file: Path) -> str:
    """How an app of this machine is told where to send to, in the words of the system's shell."""
    if os.name == "nt":
        return f"  set HEEDLOOP_URL={url}\n  set /p HEEDLOOP_API_KEY=<{key_file}"
    return f'  export HEEDLOOP_URL={url}\n  export HEEDLOOP_API_KEY="$(cat {shlex.quote(str(key_file))})"'
