"""Test only: ClickHouse's HTTP interface over embedded chDB, so that the real clickhouse-connect HTTP client runs end to end.

    python tests/integration/clickhouse_http.py FOLDER [PORT]

It tests our use of the HTTP client (wire format, parameters, settings, compression, errors) on the same engine; it says nothing about
a server's users, roles, quotas, ON CLUSTER or Replicated tables. `POST /shim/failing?code=242` makes every later query fail with that
ClickHouse error code, `POST /shim/failing?code=0` ends it.
"""

import gzip
import json
import os
import re
import sys
import tempfile
import threading
import zlib
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import chdb

# parameters of the HTTP interface itself; every other one is a setting of the query
TRANSPORT = {
    "database", "default_format", "query", "query_id", "session_id", "session_timeout", "session_check", "compress", "decompress",
    "wait_end_of_query", "client_protocol_version", "enable_http_compression", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "buffer_size", "user", "password", "quota_key", "role", "http_make_head_request",
}  # fmt: skip
_INSERT = re.compile(rb"^\s*INSERT\s+INTO\s.*?\bFORMAT\s+(\w+)[ \t]*(?:\r?\n|$)", re.IGNORECASE | re.DOTALL)
_READS = re.compile(rb"\s*(SELECT|WITH|SHOW|DESC|EXISTS|EXPLAIN|CHECK)\b", re.IGNORECASE)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_STATUS = {"60": 404, "81": 404, "47": 404, "62": 400, "516": 403, "497": 403}


class Shim(ThreadingHTTPServer):
    """One engine behind a port; sessions keep their connection, other queries get a new one each."""

    daemon_threads = True

    def __init__(self, folder: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = folder
        self.root = chdb.connect(folder)
        self.timezone = self.root.query("SELECT timezone()", "TabSeparated").bytes().decode().strip()
        self.sessions: dict[str, tuple[object, threading.Lock]] = {}
        self.lock = threading.Lock()
        self.failing = ""

    def session(self, name: str):
        if not name:
            return chdb.connect(self.folder), None
        with self.lock:
            if name not in self.sessions:
                self.sessions[name] = (chdb.connect(self.folder), threading.Lock())
            return self.sessions[name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shim

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self._body()
        if url.path == "/shim/failing":
            self.server.failing = params["code"].strip("0") and params["code"]
            return self._reply(200, b"Ok.\n")
        if url.path == "/ping":
            return self._reply(200, b"Ok.\n")
        if self.server.failing:
            return self._error(
                f"Code: {self.server.failing}. DB::Exception: made to fail by the test. (MADE_TO_FAIL)"
            )
        body = self._form(params, body)
        if not params.get("query") and not body:
            return self._reply(200, b"Ok.\n")
        try:
            self._query(params, body)
        except RuntimeError as err:
            self._error(str(err))

    # ------------------------------------------------------------------------------------------------------ queries

    def _query(self, params: dict[str, str], body: bytes) -> None:
        connection, lock = self.server.session(params.get("session_id", ""))
        if lock and not lock.acquire(blocking=False):
            return self._error(
                f"Code: 373. DB::Exception: Session {params['session_id']} is locked. (SESSION_IS_LOCKED)"
            )
        settings = [k for k in params if k not in TRANSPORT and not k.startswith("param_")]
        try:
            if params.get("database"):
                connection.query("USE `{}`".format(params["database"].replace("`", "``")))
            for name in settings:
                connection.query(f"SET {name} = {_quote(params[name])}")
            self._run(connection, params, body)
        finally:
            if lock:
                for name in settings:  # settings of a URL are the query's, not the session's
                    connection.query(f"SET {name} = DEFAULT")
                lock.release()
            else:
                connection.close()
        return None

    def _run(self, connection, params: dict[str, str], body: bytes) -> None:
        sql = params.get("query", "").encode()
        values = {k[6:]: v for k, v in params.items() if k.startswith("param_")}
        out_format = params.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        insert = _INSERT.match(sql or body)
        if insert and (body if sql else len(body) > insert.end()):
            head, payload = (sql, body) if sql else (body[: insert.end()], body[insert.end() :])
            found = self._insert(connection, head, insert, payload, out_format, values)
        else:
            sql = sql + b"\n" + body if sql and body else sql or body
            found = connection.query(sql.decode(), out_format, params=values)
        self._answer(found, params, sql, out_format, inserted=bool(insert))

    def _insert(
        self, connection, head: bytes, insert, payload: bytes, out_format: str, values: dict[str, str]
    ):
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(payload)
        try:
            table = head[: insert.start(1)].decode().rstrip()[: -len("FORMAT")].rstrip()
            sql = f"{table} FROM INFILE {_quote(file.name)} FORMAT {insert.group(1).decode()}"
            return connection.query(sql, out_format, params=values)
        finally:
            Path(file.name).unlink()

    # ------------------------------------------------------------------------------------------------------ the wire

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            data = bytes(parts)
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return _decompress(data, self.headers.get("Content-Encoding", "identity"))

    def _form(self, params: dict[str, str], body: bytes) -> bytes:
        """Parameters sent as a form are taken out of the body."""
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data"):
            return body
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        for part in message.get_payload():
            name = part.get_param("name", header="content-disposition")
            params[name] = part.get_payload(decode=True).decode()
        return b""

    def _answer(self, found, params: dict[str, str], sql: bytes, out_format: str, *, inserted: bool) -> None:
        body = found.bytes() or b""
        summary = {
            "read_rows": str(found.rows_read()),
            "read_bytes": str(found.bytes_read()),
            "written_rows": str(found.rows_read() if inserted else 0),
            "written_bytes": str(found.bytes_read() if inserted else 0),
            "elapsed_ns": str(int(found.elapsed() * 1e9)),
        }
        headers = {
            "X-ClickHouse-Query-Id": params.get("query_id") or os.urandom(8).hex(),
            "X-ClickHouse-Summary": json.dumps(summary),
        }
        named = _FORMAT.search(sql)
        if body or _READS.match(sql):
            headers["X-ClickHouse-Format"] = named.group(1).decode() if named else out_format
        wants = (
            self.headers.get("Accept-Encoding", "") if params.get("enable_http_compression") == "1" else ""
        )
        if "gzip" in wants and len(body) > 1024:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        self._reply(200, body, headers)

    def _error(self, message: str) -> None:
        message = message[message.find("Code: ") :] if "Code: " in message else message
        match = re.match(r"Code: (\d+)", message)
        code = match[1] if match else "1000"
        self._reply(_STATUS.get(code, 500), f"{message}\n".encode(), {"X-ClickHouse-Exception-Code": code})

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Server-Display-Name": "chdb",
            "X-ClickHouse-Timezone": self.server.timezone,
            "Content-Length": str(len(body)),
        }
        for name, value in {**fixed, **(headers or {})}.items():
            self.send_header(name, value)
        self._headers_buffer.append(b"\r\n" + body)  # one write: two would wait for the client's delayed ACK
        self.flush_headers()


def _quote(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _decompress(data: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(data)
    if encoding == "deflate":
        return zlib.decompress(data)
    if encoding not in ("lz4", "zstd"):
        return data
    import lz4.frame

    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        from backports import zstd

    out = bytearray()
    while data:  # one frame per block
        reader = lz4.frame.LZ4FrameDecompressor() if encoding == "lz4" else zstd.ZstdDecompressor()
        out += reader.decompress(data)
        data = reader.unused_data
    return bytes(out)


if __name__ == "__main__":
    shim = Shim(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(shim.server_address[1], flush=True)
    shim.serve_forever()
