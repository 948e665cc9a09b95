"""Processes that fork, spawn, end, are told to end, or are killed: what they recorded arrives."""

import os
import random
import signal
import subprocess
import sys
import textwrap

import pytest
from sdk_sink import Sink, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX")

START = """
import os, sys, time, signal
import heedloop
heedloop.configure({url!r}, "hl_0123456789ab_" + "k" * 43, service="app",
                   options=heedloop.Options(outbox={outbox!r}, read_timeout_s=8.0, **{options!r}))
HANDLE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

@heedloop.trace(name="call")
def call(q):
    return q
"""


@pytest.fixture
def sink():
    server = Sink()
    yield server
    server.stop()


@pytest.fixture
def app(sink, tmp_path):
    running = []

    def start(code, **options):
        text = START.format(url=sink.url, outbox=str(tmp_path), options=options) + textwrap.dedent(code)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, env=environment
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def inputs(sink):
    return sorted(s.input_text for s in sink.spans.values())


def test_a_short_script_delivers_at_exit(sink, app):
    assert app("heedloop.thumbs_up(call.with_handle('q').handle)").wait(60) == 0
    assert inputs(sink) == ["q"] and len(sink.feedback) == 1


@pytest.mark.parametrize("mode", ["hung", "away"])
def test_exit_does_not_wait_for_a_sick_server_and_the_next_start_delivers(sink, app, mode):
    sink.mode = mode
    process = app("heedloop.thumbs_up(call.with_handle('q').handle); print('end', flush=True)")
    process.stdout.readline()
    assert process.wait(60) == 0  # the hung server does not reply before it is released below
    sink.mode = "well"
    sink.released.set()
    app("heedloop.flush(5)").wait(60)
    assert inputs(sink) == ["q"] and len(sink.feedback) == 1


def test_exit_is_quick_when_nobody_listens(sink, app):
    sink.stop()
    process = app("heedloop.thumbs_up(call.with_handle('q').handle); print('end', flush=True)")
    process.stdout.readline()
    assert process.wait(60) == 0


def test_forked_children_deliver_their_own_and_only_that(sink, app):
    code = """
    call("parent before")
    heedloop.thumbs_up(HANDLE, author="parent")
    for i in range(3):
        if os.fork() == 0:
            call(f"child {i}")
            heedloop.thumbs_up(HANDLE, author=f"child {i}")
            sys.exit(0)
    for _ in range(3):
        os.wait()
    call("parent after")
    """
    assert app(code).wait(20) == 0
    assert inputs(sink) == ["child 0", "child 1", "child 2", "parent after", "parent before"]
    assert sorted(f["author"]["id"] for f in sink.feedback.values()) == [
        "child 0",
        "child 1",
        "child 2",
        "parent",
    ]
    assert set(sink.num_posts.values()) == {1}


def test_a_child_forked_inside_a_call_is_outside_of_it_and_the_call_is_sent_once(sink, app):
    code = """
    @heedloop.trace(name="outer")
    def outer(q):
        child = os.fork()
        if child == 0:
            assert heedloop.handle() == ""
            call("child")
        else:
            os.waitpid(child, 0)
        return q
    with heedloop.context(user_id="parent's user"):
        outer("parent")
    """
    assert app(code).wait(20) == 0
    assert inputs(sink) == ["child", "parent"]
    assert [s.attributes["heedloop.answer"] for s in sink.spans.values()] == [True, True]
    assert sorted(str(s.attributes.get("user.id")) for s in sink.spans.values()) == ["None", "parent's user"]
    assert set(sink.num_span_posts.values()) == {1}


@pytest.mark.parametrize("pool", ["multiprocessing.Pool(1)", "concurrent.futures.ProcessPoolExecutor(1)"])
def test_a_pool_that_one_answer_started_gives_the_next_ones_their_own_handles(sink, app, pool):
    code = f"""
    import concurrent.futures, multiprocessing
    def ask(q):
        return tuple(heedloop.with_handle(call, q))
    @heedloop.trace(name="outer")
    def outer(q):
        pool = {pool}
        list(pool.map(ask, ["first"]))
        return pool
    pool = outer("first")
    ((text, handle),) = pool.map(ask, ["second"])
    print(handle)
    stop = getattr(pool, "shutdown", None) or pool.close
    stop()
    getattr(pool, "join", int)()
    """
    process = app(code)
    assert process.wait(30) == 0
    handle = process.stdout.read().strip()
    assert [s.input_text for s in sink.spans.values() if s.handle == handle] == ["second"]


PROCESSES = """
workers = [context.Process(target=work, args=(i,)) for i in range(2)]
for w in workers: w.start()
for w in workers: w.join()
"""
EXECUTOR = """
with ProcessPoolExecutor(2, mp_context=context) as pool:
    list(pool.map(work, range(2)))
"""


@pytest.mark.parametrize("configured", ["in the module", "in the work"])
@pytest.mark.parametrize("workers", [PROCESSES, EXECUTOR], ids=["processes", "executor"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_workers_deliver(sink, tmp_path, method, workers, configured):
    start, configure, define = START.partition("heedloop.configure")
    configure, rest = (configure + define).split("HANDLE", 1)
    program = tmp_path / "program.py"
    program.write_text(
        (start + "def configure():\n    " + configure + "\nHANDLE" + rest).format(
            url=sink.url, outbox=str(tmp_path), options={}
        )
        + textwrap.dedent(f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        {"configure()" if configured == "in the module" else ""}

        def work(i):
            {"" if configured == "in the module" else "configure()"}
            call(f"worker {{i}}")
            return i

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
        """)
        + textwrap.indent(workers, "    ")
        + '    configure()\n    call("parent")\n'
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    subprocess.run([sys.executable, program], check=True, timeout=60, env=environment)
    assert inputs(sink) == ["parent", "worker 0", "worker 1"]


def test_os_exit_keeps_feedback(sink, app):
    sink.mode = "away"
    assert app("heedloop.thumbs_up(HANDLE); os._exit(3)").wait(60) == 3
    sink.mode = "well"
    app("heedloop.flush(5)").wait(60)
    assert len(sink.feedback) == 1


def test_sigterm_delivers_where_asked_and_still_ends_the_process(sink, app):
    process = app(
        "for i in range(100): call(f'{i}')\nprint('ready', flush=True)\ntime.sleep(60)", on_sigterm=True
    )
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM
    assert len(sink.spans) == 100


def test_sigterm_calls_the_apps_own_handler(sink, app):
    code = """
    signal.signal(signal.SIGTERM, lambda *_: (print("mine", flush=True), sys.exit(5)))
    from heedloop import _process
    _process.watch(heedloop.Options(on_sigterm=True))
    call("q")
    print("ready", flush=True)
    time.sleep(60)
    """
    process = app(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 5 and process.stdout.readline() == "mine\n"
    assert inputs(sink) == ["q"]


def test_two_processes_share_an_outbox_and_send_each_feedback_once(sink, app):
    code = "[heedloop.thumbs_up(HANDLE, author='{0}-%d' % i) for i in range(50)]; heedloop.flush(20)"
    processes = [app(code.format(n)) for n in range(3)]
    for process in processes:
        assert process.wait(30) == 0
    assert len(sink.feedback) == 150 and set(sink.num_posts.values()) == {1}
    for n in range(3):
        mine = [sink.feedback[i]["author"]["id"] for i in sink.order]
        assert [a for a in mine if a.startswith(f"{n}-")] == [f"{n}-{i}" for i in range(50)]


def test_feedback_in_one_process_brings_back_the_call_of_another(sink, app, tmp_path):
    code = f"""
    heedloop.configure(os.environ.get("X") or {sink.url!r}, "hl_0123456789ab_" + "k" * 43, sample_rate=1e-9,
                       options=heedloop.Options(outbox={str(tmp_path)!r}))
    print(call.with_handle("q").handle, flush=True)
    time.sleep(60)
    """
    worker = app(code)
    handle = worker.stdout.readline().strip()
    again = code.replace(
        'print(call.with_handle("q").handle, flush=True)', f'heedloop.thumbs_up("{handle}")'
    ).replace("time.sleep(60)", "")
    assert app(again).wait(60) == 0
    until(lambda: inputs(sink) == ["q"])


@pytest.mark.slow
def test_killed_at_random_moments_while_the_server_comes_and_goes(sink, app):
    """1,000 feedback calls returned; every one of them is on the server, exactly once."""
    rng = random.Random(20261121)
    returned = []
    code = """
    number = int({first})
    while True:
        call(f"{{number}}")
        print(heedloop.thumbs_up(HANDLE, author=f"{{number}}"), flush=True)
        number += 1
    """
    num_kills = 0
    while len(returned) < 1000:
        process = app(code.format(first=len(returned)))
        for _ in range(rng.randint(1, 150)):
            returned.append(process.stdout.readline().strip())
        if rng.random() < 0.5:
            sink.stop()
            sink.start()
        process.kill()
        num_kills += 1
        returned += [line.strip() for line in process.stdout if line.endswith("\n")]
        sink.mode = rng.choice(["well", "well", "away"])
    sink.mode = "well"
    assert num_kills >= 5 and len(set(returned)) == len(returned) >= 1000
    assert app("print(heedloop.flush(20).complete)").wait(30) == 0
    assert set(returned) <= set(sink.feedback)
    assert len(sink.order) == len(set(sink.order))
    authors = [int(sink.feedback[i]["author"]["id"]) for i in sink.order if i in set(returned)]
    assert authors == sorted(authors)
