"""gunicorn and celery workers deliver: what was recorded arrives once, also when they are told to stop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from sdk_sink import Sink, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="gunicorn and celery's prefork pool are POSIX"),
]

CONFIGURE = """
import heedloop
heedloop.configure({url!r}, "hl_0123456789ab_" + "k" * 43, service="app",
                   options=heedloop.Options(outbox={outbox!r}, **{options!r}))

@heedloop.trace(name="call")
def call(question):
    heedloop.thumbs_up(author=question)
    return question
"""

WSGI = """
import os

def app(environ, start_response):
    said = call(environ["PATH_INFO"].lstrip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {said}".encode()]
"""

CELERY = """
import logging, os
from celery import Celery

def folder(name):
    path = os.path.join(ROOM, name)
    os.makedirs(path, exist_ok=True)
    return path

app = Celery("tasks", broker="filesystem://", result_backend="file://" + folder("results"))
app.conf.update(
    broker_transport_options={
        "data_folder_in": folder("queue"), "data_folder_out": folder("queue"), "control_folder": folder("control"),
    },
    worker_prefetch_multiplier=1,
)

@app.task
def judged(question):
    call(question)
    return os.getpid()

@app.task(autoretry_for=(ConnectionError,), max_retries=4, retry_kwargs={"countdown": 0})
def tried_again(question):
    return busy_at_first(question)

@heedloop.trace
def busy_at_first(question):
    attempts = os.path.join(folder("attempts"), question)
    with open(attempts, "a") as log:
        log.write("x")
    if os.path.getsize(attempts) < 3:
        raise ConnectionError("busy")
    return f"A:{question}"
"""


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


@pytest.fixture
def launch(sink, tmp_path):
    """Writes the app's module, starts a command of its folder and ends it after the test."""
    running = []

    def start(module, text, command, **options):
        if find_spec(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        head = CONFIGURE.format(url=sink.url, outbox=str(tmp_path / "outbox"), options=options)
        (tmp_path / f"{module}.py").write_text(f"ROOM = {str(tmp_path)!r}\n{head}{textwrap.dedent(text)}")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
        with (tmp_path / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=tmp_path,
                env=environment,
                stdout=log,
                stderr=log,
            )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
            return answer.read().decode()
    except OSError:  # not listening yet
        return None


def expect_once(sink, questions):
    """Each question has one span and one feedback, about that span, and nothing was sent twice."""
    assert sorted(s.input_text for s in sink.spans.values()) == sorted(questions)
    assert sorted(f["author"]["id"] for f in sink.feedback.values()) == sorted(questions)
    spans = {s.input_text: (s.trace_id, s.span_id) for s in sink.spans.values()}
    for feedback in sink.feedback.values():
        target = feedback["target"]
        assert spans[feedback["author"]["id"]] == (target["trace_id"], target["span_id"])
    assert set(sink.num_posts.values()) == {1} and set(sink.num_span_posts.values()) == {1}


@pytest.mark.parametrize("preload", [True, False], ids=["preload", "no preload"])
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_gunicorn_workers_deliver(sink, launch, preload, sign):
    port = free_port()
    command = [
        "gunicorn",
        "web:app",
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        *(["--preload"] if preload else []),
    ]
    server = launch("web", WSGI, command)
    until(lambda: get(port, "first") is not None, 30)
    asked = ["first"]
    workers = set()
    while len(asked) < 40 or len(workers) < 2:
        assert len(asked) < 2000, "only one worker answers"
        asked.append(f"q{len(asked)}")
        workers.add(get(port, asked[-1]).split()[0])
    server.send_signal(sign)
    assert server.wait(15) == 0
    expect_once(sink, asked)


def test_gunicorn_workers_that_are_replaced_deliver(sink, launch):
    """--max-requests ends each worker after a few requests, the way long-running services do."""
    port = free_port()
    command = [
        "gunicorn",
        "web:app",
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        "--preload",
        "--max-requests",
        "5",
    ]
    server = launch("web", WSGI, command)
    until(lambda: get(port, "first") is not None, 30)
    asked = ["first"]
    workers = set()
    while len(workers) < 4:
        asked.append(f"q{len(asked)}")
        workers.add(get(port, asked[-1]).split()[0])
    server.terminate()
    assert server.wait(15) == 0
    expect_once(sink, asked)


SEND = """
import sys
from tasks import judged
for number in range(int(sys.argv[1])):
    judged.delay(f"t{number}")
"""
CELERY_COMMAND = [
    "celery",
    "-A",
    "tasks",
    "worker",
    "-P",
    "prefork",
    "-c",
    "2",
    "--without-gossip",
    "--without-mingle",
]


def run_python(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, timeout=60)


@pytest.fixture
def worked(launch, tmp_path):
    """Starts a celery worker that has done 20 tasks."""

    def start(**options):
        worker = launch("tasks", CELERY, CELERY_COMMAND, **options)
        (tmp_path / "send.py").write_text(SEND)
        run_python(tmp_path, "send.py", "20")
        until(lambda: sum(p.stat().st_size > 0 for p in (tmp_path / "results").glob("*-meta-*")) == 20, 60)
        return worker

    return start


TASKS = [f"t{number}" for number in range(20)]


def test_celery_workers_deliver(sink, worked):
    worker = worked()
    worker.terminate()
    assert worker.wait(20) == 0
    expect_once(sink, TASKS)


def test_a_celery_task_that_is_tried_again_is_one_answer(sink, launch, tmp_path):
    """The next attempt may run in another child: its message says which trace it goes on in."""
    worker = launch("tasks", CELERY, CELERY_COMMAND)
    send = "from tasks import tried_again\nfor n in range(6): tried_again.delay(f'r{n}')"
    run_python(tmp_path, "-c", send)
    until(lambda: sum(p.stat().st_size == 3 for p in (tmp_path / "attempts").glob("r*")) == 6, 60)
    worker.terminate()
    assert worker.wait(20) == 0
    answers = [s for s in sink.spans.values() if s.is_answer]
    assert sorted(s.output_text for s in answers) == [f"A:r{n}" for n in range(6)]
    assert len(sink.spans) == 18 and len({s.trace_id for s in sink.spans.values()}) == 6
    for answer in answers:
        parts = [s for s in sink.spans.values() if s.trace_id == answer.trace_id]
        assert sorted(s.status for s in parts) == [0, 2, 2]
        assert {s.input_text for s in parts} == {answer.input_text}


def has_ended(pid):
    """True for a process that is gone, or only waits to be noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_celery_child_that_is_told_to_end_loses_nothing(sink, worked, tmp_path):
    """SIGTERM to the pool's own processes, as systemd sends it."""
    sink.mode = "hung"
    worker = worked(exit_timeout_s=1.0)
    results = (tmp_path / "results").glob("celery-task-meta-*")
    children = {json.loads(path.read_text())["result"] for path in results}
    for child in children:
        os.kill(child, signal.SIGTERM)
    try:
        until(lambda: all(has_ended(child) for child in children), 10)
    except (
        AssertionError
    ):  # a child of billiard's that died with the lock of its queue leaves the others waiting for it,
        for child in (
            children
        ):  # after they have told us (and celery) that they end: what they recorded must be safe by then
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    worker.kill()  # celery 5.7 itself often does not end once its children were ended by somebody else
    worker.wait()
    sink.mode = "well"
    sink.released.set()
    run_python(tmp_path, "-c", "import tasks; assert tasks.heedloop.flush(20).complete")
    expect_once(sink, TASKS)


def test_celery_workers_that_stop_while_the_server_hangs_lose_nothing(sink, worked, tmp_path):
    """A worker's child leaves by os._exit: what it could not deliver must be in the outbox by then."""
    sink.mode = "hung"
    worker = worked(exit_timeout_s=1.0)
    worker.terminate()
    worker.wait(20)
    sink.mode = "well"
    sink.released.set()
    run_python(tmp_path, "-c", "import tasks; assert tasks.heedloop.flush(20).complete")
    expect_once(sink, TASKS)
