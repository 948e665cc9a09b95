"""A fork in the middle of another thread's write to the outbox: the child must not inherit the lock."""

import subprocess
import sys
import textwrap
from pathlib import Path

CODE = """
import os, sys, threading
import heedloop
from heedloop._runtime import state

heedloop.configure("http://127.0.0.1:1", "hl_000000000000_" + "x" * 43, options=heedloop.Options(outbox=sys.argv[1], exit_timeout_s=0.1))
inside, forking = threading.Event(), threading.Event()


def slow_write(db):
    db.execute("INSERT INTO wanted (trace_id, created) VALUES ('x', 0)")
    inside.set()
    forking.wait(0.5)  # nobody sets it: the fork falls into this half second


threading.Thread(target=lambda: state.runtime.outbox._disk._write(slow_write), daemon=True).start()
inside.wait()
child = os.fork()
if child == 0:
    heedloop.thumbs_up("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", author="child")
    os._exit(0 if state.runtime.outbox._disk.num_waiting() == (1, 0) else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_forked_during_a_write_keeps_its_feedback_on_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CODE), str(tmp_path / "outbox.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
