"""How costs grow with the number of projects: the same spans into one, 300 and 3,000 of them, idling, and a quiet one beside a loud.

    python benchmarks/scale_tenants.py [--projects 1 300 3000] [--spans 30000] [--each 10] [--seconds 10]

A server of its own on an embedded store with so many projects; eight connections send requests of `--each` spans, project by project in
turn. Stored is what the log holds no more. The loud project sends 10,000 spans/s, a quiet one ten thumbs a second.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dashboard import serve
from ingest_load import Load, Patched, Target, bodies, cpu_s, exporter, judge

CONNECTIONS = 8


def make_projects(folder: Path, num: int) -> list[str]:
    """A key of each of so many new projects."""
    from heedloop_server.http.auth import SCOPES, make_key
    from heedloop_server.store.open import open_store

    store = open_store(f"chdb://{(folder / 'clickhouse').absolute()}", num_clients=2)
    keys = [make_key(store, f"project-{i}", name="bench", scopes=SCOPES)[0] for i in range(num)]
    store.close()
    return keys


def num_stored(folder: Path) -> int:
    """Spans in the store of a server that has stopped."""
    from heedloop_server.store.open import open_store

    store = open_store(f"chdb://{(folder / 'clickhouse').absolute()}", num_clients=2)
    num = store.rows("SELECT count() AS num FROM spans")[0]["num"]
    store.close()
    return num


async def send_turns(targets: list[Target], made: list[Patched], num: int) -> None:
    """So many requests over some connections, each to the next project."""
    turns = iter([targets[i % len(targets)] for i in range(num)])
    await asyncio.gather(*(_send_turns(turns, made) for _ in range(CONNECTIONS)))


async def _send_turns(turns: Iterator[Target], made: list[Patched]) -> None:
    reader = writer = None
    for n, target in enumerate(turns):
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        assert reader is not None
        body = made[n % len(made)].fresh()
        writer.write(
            f"{target.head('/v1/traces', 'application/x-protobuf')}{len(body)}\r\n\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(head.decode())
    if writer is not None:
        writer.close()


def wait_until_stored(folder: Path) -> None:
    """Until the server's log is empty."""
    while any(path.stat().st_size for path in (folder / "log").glob("*.log") if path.exists()):
        time.sleep(0.05)


async def beside_a_loud_one(loud: Target, quiet: Target, made: list[Patched], seconds: float) -> Load:
    """What thumbs of a quiet project took beside 10,000 spans/s of a loud one."""
    end, spans, thumbs = time.perf_counter() + seconds, Load("loud"), Load("quiet")
    pause = CONNECTIONS * 50 / 10_000
    sending = [exporter(loud, made, end, pause, spans, 50) for _ in range(CONNECTIONS)]
    await asyncio.gather(judge(quiet, end, thumbs), *sending)
    thumbs.wall_s = seconds
    print(f"  loud: {spans.acknowledged / seconds:,.0f} spans/s, {spans.refused} refused", flush=True)
    return thumbs


def measure(num: int, args: argparse.Namespace) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="heedloop-tenants-") as scratch:
        folder = Path(scratch)
        keys = make_projects(folder, max(2, num))
        process, url = serve(folder, folder / "key")
        try:
            port = int(url.rsplit(":", 1)[1].strip("/"))
            targets = [Target(port, {"Authorization": f"Bearer {key}"}) for key in keys]
            time.sleep(3)
            before, begin = cpu_s(process.pid), time.perf_counter()
            made = [Patched(b) for b in bodies(64, args.each)]
            asyncio.run(send_turns(targets[:num], made, args.spans // args.each))
            wait_until_stored(folder)
            stored_s, used = time.perf_counter() - begin, cpu_s(process.pid) - before
            time.sleep(15)
            before = cpu_s(process.pid)
            time.sleep(args.seconds)
            idle = (cpu_s(process.pid) - before) / args.seconds
            loud = [Patched(b) for b in bodies(64, 50)]
            thumbs = asyncio.run(beside_a_loud_one(targets[0], targets[1], loud, args.seconds)).latencies_ms
            wait_until_stored(folder)
        finally:
            process.terminate()
            process.wait(60)
        if num_stored(folder) < args.spans:
            raise AssertionError("some spans are missing")
        p99 = sorted(thumbs)[int(0.99 * len(thumbs))]
        return f"| {num:,} | {args.spans / stored_s:,.0f} | {used:.1f} | {100 * idle:.1f}% | {p99:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--projects", type=int, nargs="+", default=[1, 300, 3000])
    parser.add_argument("--spans", type=int, default=30_000)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    rows = []
    for num in args.projects:
        rows.append(measure(num, args))
        print(rows[-1], flush=True)
    print("| projects | stored, spans/s | processor, s | idle, of a core | quiet thumbs' p99, ms |")
    print("|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
