"""Work on the store in a process of its own, so that the server's threads stay free for ingestion and feedback.

`run_in_process(project, function, *args)` is `function(project, *args)`, executed by another Python of a lower priority; its memory
goes back when it ends. A ClickHouse server is asked by that process itself. An embedded engine lives in the server alone: there the
process sends its statements back, and gets what the engine answered as bytes, which only the process makes into objects.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from clickhouse_connect.driver import ctypes
from clickhouse_connect.driver.query import QueryContext, QueryResult
from clickhouse_connect.driver.transform import NativeTransform

from heedloop_server.errors import Unavailable
from heedloop_server.store.connection import Address, ArrowTable, ProjectStore, Row, Store
from heedloop_server.store.erasure_mask import ErasureMasks
from heedloop_server.store.job_statements import JobEnded, before_statement, report_progress, watched
from heedloop_server.store.topology import Topology

_P = ParamSpec("_P")
_T = TypeVar("_T")

_START = "import sys; from heedloop_server.store.worker_process import serve; serve(int(sys.argv[1]))"
LOOK_S = 0.5
"""Seconds between two looks at whether a job is to end."""
_ONE_AT_A_TIME = threading.Lock()
"""Each may need as much memory as the rows that it makes: others wait for their turn."""


@dataclass(frozen=True, slots=True)
class _Work:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    project: str
    address: Address
    topology: Topology


@dataclass(frozen=True, slots=True)
class _Statement:
    """A call of `Store` that the process asks for; `method` is native, arrow, command or insert."""

    method: str
    args: tuple[Any, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far the process is, for the job that waits for it."""

    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a call gave, or the error that it raised."""

    value: Any = None
    error: Exception | None = None

    def get(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def run_in_process(
    project: ProjectStore,
    function: Callable[Concatenate[ProjectStore, _P], _T],
    *args: _P.args,
    **_: _P.kwargs,
) -> _T:
    """What `function(project, *args)` gives, or raises. The function is one of a module; arguments and result are pickled.

    Raises:
        Unavailable: the process was ended from outside, such as for want of memory.
    """
    store = project.store
    while not _ONE_AT_A_TIME.acquire(timeout=LOOK_S):
        before_statement("read")
    try:
        ours, theirs = Pipe()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the terminal is for the server
            )
            theirs.close()
            try:
                ours.send(_Work(function, args, project.project, store.address, store.topology))
                return cast(_T, _serve_statements(store, ours).get())
            except (EOFError, OSError) as err:
                ours.close()
                raise Unavailable(
                    f"the process that does {function.__name__} ended ({process.wait()}) before it was done; nothing of it is "
                    "kept, send the request again; -9 is the system's, mostly for want of memory"
                ) from err
            except JobEnded:
                process.kill()
                raise
            finally:
                ours.close()
                process.wait()
    finally:
        _ONE_AT_A_TIME.release()


def _serve_statements(store: Store, process: Connection) -> _Outcome:
    """Execute what the process asks for until it gives its result."""
    while isinstance(asked := _received(process), _Statement):
        try:
            outcome = _Outcome(getattr(store, asked.method)(*asked.args, **asked.settings))
        except JobEnded:
            raise
        except Exception as err:  # noqa: BLE001  # whatever it is, it is for the other process
            outcome = _Outcome(error=err)
        process.send(outcome)
    return cast(_Outcome, asked)


def _received(process: Connection) -> object:
    """What the process sends next; until then the job that waits for it may be ended."""
    while True:
        while not process.poll(LOOK_S):
            before_statement("read")
        received = process.recv()
        if not isinstance(received, _Progress):
            return received
        report_progress(received.done, received.total, received.unit)


def serve(fd: int) -> None:
    """The life of the process: one piece of work, its outcome sent back."""
    os.nice(5)  # under full load it still gets a quarter of a core
    # records hold no cycles: looking for some took a quarter of `curate`'s time
    gc.set_threshold(200_000, 50, 100)
    with Connection(fd) as server:
        work = cast(_Work, server.recv())
        embedded = work.address.kind == "chdb"
        store = (
            _DistantStore(server, work.address, work.topology)
            if embedded
            else Store(work.address, topology=work.topology)
        )
        try:
            with watched(lambda _: None, lambda *progress: server.send(_Progress(*progress))):
                outcome = _Outcome(work.function(store.project(work.project), *work.args))
        except Exception as err:  # noqa: BLE001  # whatever it is, it is for the other process
            outcome = _Outcome(error=_portable(err))
        server.send(outcome)


def _portable(error: Exception) -> Exception:
    """The error as it is where it can be sent, otherwise its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # an error of any kind may be one that cannot be sent
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _DistantStore(Store):
    """The store as the process sees an embedded one: each statement is executed by the server."""

    def __init__(self, server: Connection, address: Address, topology: Topology) -> None:
        super().__init__(address, topology=topology)
        self.masks = ErasureMasks(self.rows, is_alone=False)
        self._server = server

    def rows(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> list[Row]:
        return rows_from_native(self._execute("native", sql, params, **settings))

    def arrow(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> ArrowTable:
        return self._execute("arrow", sql, params, **settings)

    def command(self, sql: str, params: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self._execute("command", sql, params, **settings)

    def insert(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        constants: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._execute("insert", table, rows, constants, **settings)

    def _execute(self, method: str, *args: Any, **settings: Any) -> Any:
        self._server.send(_Statement(method, args, settings))
        return cast(_Outcome, self._server.recv()).get()


class _Bytes:
    """What the driver's reader takes its bytes from."""

    exception_tag = None
    last_message = None

    def __init__(self, data: bytes) -> None:
        self.gen: Iterator[bytes] = iter((data,))

    def close(self) -> None:
        """Nothing is open."""


def rows_from_native(data: bytes) -> list[Row]:
    """Rows by column name from an answer in the engine's Native format, as `Store.rows` gives them."""
    reader = ctypes.RespBuffCls(_Bytes(data))
    found = cast(QueryResult, NativeTransform.parse_response(reader, QueryContext(tz_mode="aware")))
    return [dict(zip(found.column_names, r, strict=True)) for r in found.result_rows]
