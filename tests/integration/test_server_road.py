"""The whole road through a real server process, with the embedded store and through ClickHouse's HTTP client."""

import base64
import gzip
import hashlib
import hmac
import json
import time
import uuid
import zlib

import pytest
import requests
from forked_server import ForkedServer
from server_process import ShimProcess, wait_for
from server_requests import span, thumb, traces_request

from heedloop.client import Forbidden, Invalid, NotFound, Unauthorized
from heedloop.responses import FacetValue
from heedloop.schema import Author, Feedback, Message, Target, canonical_json

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module", params=["embedded", "http"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    shim = ShimProcess(folder / "clickhouse") if request.param == "http" else None
    one = ForkedServer(folder, *(["--store", shim.dsn] if shim else [])).start()
    yield one
    assert one.stop() == 0
    if shim:
        shim.stop()


def post(server, body, path="/v1/traces", **headers):
    return requests.post(
        server.url + path, data=body, headers={**server.headers(), **PROTOBUF, **headers}, timeout=30
    )


def ids():
    return uuid.uuid4().hex, uuid.uuid4().hex[:16]


def seen(client, trace_id):
    """The trace once it is in the store."""

    def found():
        try:
            trace = client.trace(trace_id)
        except NotFound:
            return None
        return trace if trace.spans else None

    return wait_for(found, what=f"trace {trace_id}")


def settled(client):
    """The ledger once nothing waits; it must balance at every look on the way."""

    def found():
        ledger = client.ledger()
        total = ledger.stored + ledger.rejected + ledger.duplicate + ledger.pending
        assert ledger.received == total, ledger
        assert sum(ledger.rejected_reasons.values()) == ledger.rejected
        return ledger if not ledger.pending else None

    return wait_for(found, what="the ledger to settle")


ENCODINGS = {
    "identity": (lambda b: b, {}),
    "gzip": (gzip.compress, {"Content-Encoding": "gzip"}),
    "deflate": (zlib.compress, {"Content-Encoding": "deflate"}),
}


@pytest.mark.parametrize("coding", ENCODINGS)
def test_a_span_is_stored_in_every_encoding(server, coding):
    trace_id, span_id = ids()
    encode, headers = ENCODINGS[coding]
    body = traces_request(
        [span(trace_id=trace_id, span_id=span_id, answer="Zebras are striped.", user__id="ada")]
    )
    answer = post(server, encode(body.SerializeToString()), **headers)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-protobuf"
    call = seen(server.client(), trace_id).spans[0]
    assert call.span_id == span_id
    assert call.output_messages == (Message("assistant", "Zebras are striped."),)
    assert (call.model_requested, call.user_id, call.is_answer) == ("model-a", "ada", True)


def test_json_is_answered_in_json(server):
    trace_id, span_id = ids()
    body = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": trace_id,
                                "spanId": span_id,
                                "name": "x",
                                "startTimeUnixNano": str(time.time_ns()),
                            }
                        ]
                    }
                ]
            }
        ]
    }
    answer = post(server, json.dumps(body), **{"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert seen(server.client(), trace_id).spans[0].name == "x"


def test_spans_without_usable_ids_are_a_partial_success_and_counted(server):
    client = server.client()
    before = settled(client)
    trace_id, _ = ids()
    spans = [span(trace_id=trace_id), span(), span(), span()]
    spans[1].trace_id = bytes(16)
    spans[2].trace_id = b"short"
    spans[3].span_id = b""
    answer = post(server, traces_request(spans).SerializeToString())
    assert answer.status_code == 200
    assert answer.content[2:4] == b"\x08\x03"  # partial_success.rejected_spans = 3
    seen(client, trace_id)
    after = settled(client)
    assert after.received - before.received == 4
    assert after.stored - before.stored == 1
    reasons = {k: v - before.rejected_reasons.get(k, 0) for k, v in after.rejected_reasons.items()}
    assert reasons["bad_trace_id"] == 2
    assert reasons["bad_span_id"] == 1


def test_a_resent_request_is_stored_once_and_counted_as_duplicate(server):
    client = server.client()
    before = settled(client)
    trace_id, span_id = ids()
    body = traces_request([span(trace_id=trace_id, span_id=span_id)]).SerializeToString()
    post(server, body)
    seen(client, trace_id)
    post(server, body)
    after = wait_for(
        lambda: (led := settled(client)).duplicate > before.duplicate and led, what="the duplicate"
    )
    assert after.stored - before.stored == 1
    assert len(client.trace(trace_id).spans) == 1
    assert [c.trace_id for c in client.calls(limit=500).calls].count(trace_id) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff\xff", {}, 400),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(b"x" * 1000)[:-12], {"Content-Encoding": "gzip"}, 400),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b'{"resourceSpans": 3}', {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"", {"Content-Encoding": "br"}, 415),
    ],
)
def test_unreadable_bodies_are_refused_in_their_own_encoding(server, body, headers, status):
    answer = post(server, body, **headers)
    assert answer.status_code == status
    if headers.get("Content-Type") == "application/json":
        assert answer.json()["message"]
    else:
        assert answer.content.startswith(b"\x08\x03\x12")  # google.rpc.Status, INVALID_ARGUMENT, a message


def test_an_empty_request_is_fine(server):
    assert post(server, b"").status_code == 200
    assert post(server, b"{}", **{"Content-Type": "application/json"}).json() == {}


def test_metrics_are_answered_politely(server):
    answer = post(server, b"{}", path="/v1/metrics", **{"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert "no metrics" in answer.json()["partialSuccess"]["errorMessage"]


@pytest.mark.parametrize("nanoseconds", [0, 1, 10**9, 9_214_646_400_000_000_000, 2**64 - 1])
def test_absurd_clocks_lose_nothing(server, nanoseconds):
    trace_id, _ = ids()
    assert (
        post(
            server,
            traces_request(
                [span(trace_id=trace_id, start_ns=min(nanoseconds, 2**64 - 6_000_000))]
            ).SerializeToString(),
        ).status_code
        == 200
    )
    assert seen(server.client(), trace_id).spans[0].start_time.year >= 2026


def test_huge_and_odd_texts_come_back_as_sent(server):
    trace_id, _ = ids()
    one = span(trace_id=trace_id)
    value = "é\u0000" + "x" * 5_000_000
    one.attributes.add(key="app.big").value.string_value = value
    post(server, traces_request([one]).SerializeToString())
    assert seen(server.client(), trace_id).spans[0].attributes["app.big"] == value


# ---------------------------------------------------------------------------------------------------------- feedback


def test_feedback_before_during_and_after_its_call(server):
    client = server.client()
    trace_id, span_id = ids()
    early = client.send_feedback([thumb(trace_id, span_id, author="early")])
    assert early.results[0].status == "stored"
    post(server, traces_request([span(trace_id=trace_id, span_id=span_id)]).SerializeToString())
    seen(client, trace_id)
    client.send_feedback([thumb(trace_id, span_id, value=0, author="late")])

    def bound():
        found = client.feedback(trace_id=trace_id).feedback
        return len(found) == 2 and all(f.model == "model-a" for f in found) and found

    found = wait_for(bound, what="both to know their call")
    assert {f.author.id: f.value for f in found} == {"early": 1, "late": 0}
    summary = next(c for c in client.calls(limit=500).calls if c.trace_id == trace_id)
    assert (summary.num_feedback, summary.thumb) == (2, 0)


def test_saying_it_again_replaces_and_keeps_the_history(server):
    client = server.client()
    trace_id, span_id = ids()
    first, second = thumb(trace_id, span_id, 1), thumb(trace_id, span_id, 0, comment="no")
    assert client.send_feedback([first]).results[0].status == "stored"
    assert client.send_feedback([second]).results[0].status == "replaced"
    again = client.send_feedback([first]).results[0]
    assert again.status == "duplicate"
    one = client.feedback_one(again.feedback_id)
    assert one.feedback.value == 0
    assert [h.value for h in one.history] == [0, 1]
    assert len(client.feedback(trace_id=trace_id).feedback) == 1


def test_the_newer_word_wins_whatever_the_order_of_arrival(server):
    client = server.client()
    trace_id, span_id = ids()
    older, newer = thumb(trace_id, span_id, 1), thumb(trace_id, span_id, 0)
    assert older.created_at < newer.created_at
    client.send_feedback([newer])
    client.send_feedback([older])
    assert [f.value for f in client.feedback(trace_id=trace_id).feedback] == [0]


def test_a_retraction_hides_and_the_history_stays(server):
    client = server.client()
    trace_id, span_id = ids()
    feedback_id = client.send_feedback([thumb(trace_id, span_id)]).results[0].feedback_id
    client.send_feedback([thumb(trace_id, span_id, retracted=True)])
    assert client.feedback(trace_id=trace_id).feedback == []
    assert [h.retracted for h in client.feedback_one(feedback_id).history] == [True, False]


def test_a_batch_answers_for_each_entry(server):
    client = server.client()
    trace_id, span_id = ids()
    good = {
        "kind": "flag",
        "target": {"trace_id": trace_id, "span_id": span_id},
        "category": "inaccurate",
        "id": "g-" + trace_id,
    }
    body = {"feedback": [good, {"kind": "rating", "target": {"trace_id": "xyz"}, "value": 1}, {**good}, 7]}
    answer = requests.post(server.url + "/v1/feedback", json=body, headers=server.headers(), timeout=30)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["status"] for r in results] == ["stored", "rejected", "duplicate", "rejected"]
    assert (
        results[1]["error"]["field"] == "feedback[1].target.trace_id"
        or results[1]["error"]["field"] == "target.trace_id"
    )
    assert answer.json()["rejected"] == 2
    with pytest.raises(Invalid) as wrong:
        client.send_feedback([])  # the client answers an empty batch itself
        requests.post(
            server.url + "/v1/feedback", json={"kind": "nonsense"}, headers=server.headers(), timeout=30
        )
        client._send("POST", "/v1/feedback", {"kind": "nonsense", "target": {"trace_id": trace_id}})
    assert wrong.value.field == "kind"


def test_feedback_on_a_response_and_on_a_whole_trace_finds_its_call(server):
    client = server.client()
    trace_id, span_id = ids()
    response = f"chatcmpl-{trace_id}"
    client.send_feedback(
        [
            Feedback(
                kind="rating", target=Target(response_id=response), value=1, author=Author("end_user", "r")
            )
        ]
    )
    client.send_feedback([thumb(trace_id, None, author="t")])
    post(
        server,
        traces_request(
            [span(trace_id=trace_id, span_id=span_id, gen_ai__response__id=response)]
        ).SerializeToString(),
    )

    def bound():
        found = client.feedback(span_id=span_id).feedback
        return len(found) == 2 and found

    assert {f.author.id for f in wait_for(bound, what="both to find the call")} == {"r", "t"}


# ------------------------------------------------------------------------------------------------------------ tokens


def token(
    key: str, trace_id: str, span_id: str, *, expires_in: float = 60, kinds=("rating",), subject: str = "ada"
) -> str:
    """Written from docs/api.md, not with the SDK: two readings of one page must agree."""

    def text(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    payload = {
        "e": int(time.time() + expires_in), "j": subject, "k": list(kinds), "n": uuid.uuid4().hex,
        "p": key.split("_")[1], "t": f"00-{trace_id}-{span_id}-01",
    }  # fmt: skip
    signed = "hlt1." + text(canonical_json(payload).encode())
    secret = hmac.digest(hashlib.sha256(key.encode()).digest(), b"heedloop feedback token v1", "sha256")
    return f"{signed}.{text(hmac.digest(secret, signed.encode(), 'sha256'))}"


def rate(server, given: str, more: dict[str, str] | None = None, **entry):
    entry = {"kind": "rating", "value": 1, **entry}
    headers = {"x-heedloop-token": given, **(more or {})}
    return requests.post(server.url + "/v1/feedback", json=entry, headers=headers, timeout=30)


def test_a_token_rates_one_answer_once_per_subject(server):
    trace_id, span_id = ids()
    given = token(server.key, trace_id, span_id)
    assert rate(server, given, value=1, author={"kind": "annotator", "id": "boss"}).status_code == 200
    assert rate(server, given, value=0).status_code == 401  # a token is good for one post
    newer = token(server.key, trace_id, span_id)
    assert rate(server, newer, value=0).json()["results"][0]["status"] == "replaced"
    found = server.client().feedback(trace_id=trace_id).feedback
    assert [(f.value, f.author) for f in found] == [(0, Author("end_user", "ada"))]
    assert (
        requests.get(server.url + "/v1/feedback", headers={"x-heedloop-token": given}, timeout=30).status_code
        == 401
    )


def test_tokens_that_are_forged_expired_or_for_something_else_are_refused(server):
    trace_id, span_id = ids()
    good = token(server.key, trace_id, span_id)
    payload, _ = good.rsplit(".", 1)
    other = token(server.key, *ids())
    assert rate(server, payload + "." + other.rsplit(".", 1)[1]).status_code == 401
    assert rate(server, token(server.key, trace_id, span_id, expires_in=-1)).status_code == 401
    assert rate(server, "hlt1.e30.x").status_code == 401
    assert rate(server, "nonsense").status_code == 401
    assert rate(server, good, kind="flag", value=None, category="x").status_code == 403
    assert rate(server, good, target={"trace_id": ids()[0], "span_id": span_id}).status_code == 403
    unknown = token("hl_" + "0" * 12 + "_" + "a" * 43, trace_id, span_id)
    assert rate(server, unknown).status_code == 401
    assert server.client().feedback(trace_id=trace_id).feedback == []


def test_a_page_of_another_origin_may_post_with_a_token_but_never_with_a_key(server):
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    ok = requests.options(
        server.url + "/v1/feedback",
        headers={**asked, "Access-Control-Request-Headers": "x-heedloop-token,content-type"},
        timeout=30,
    )
    assert ok.status_code == 200
    no = requests.options(
        server.url + "/v1/feedback",
        headers={**asked, "Access-Control-Request-Headers": "authorization"},
        timeout=30,
    )
    assert no.status_code == 400


# ------------------------------------------------------------------------------------------------ reading and filters


def test_lines_go_in_and_come_out_through_the_client_and_the_command(server, tmp_path, capsys):
    client = server.client()
    trace_id, span_id = ids()
    said = [thumb(trace_id, span_id, author=f"u{i}") for i in range(1_001)]
    results = list(client.import_feedback(said))
    assert [r.id for r in results] == [f.id for f in said]
    assert {r.status for r in results} == {"stored"}
    from heedloop_cli.main import main

    where = ["--where", f"trace_id={trace_id}", "--out", str(tmp_path)]
    assert main(["export", "feedback", *where, "--url", server.url, "--api-key", server.key]) == 0
    lines = [json.loads(line) for line in (tmp_path / "feedback.jsonl").read_text().splitlines()]
    assert {line["author"]["id"] for line in lines} == {f"u{i}" for i in range(1_001)}
    bad = ["export", "calls", "--where", "nonsense", "--url", server.url, "--api-key", server.key]
    assert main(bad) == 2
    assert "FILTER=VALUE" in capsys.readouterr().err


def test_an_export_of_calls_that_broke_off_goes_on_where_it_ended(server, tmp_path):
    from heedloop_cli.commands.export_records import part_of
    from heedloop_cli.main import main

    session = uuid.uuid4().hex
    sent = [span(gen_ai__conversation__id=session, start_ns=time.time_ns() - i * 1000) for i in range(9)]
    post(server, traces_request(sent).SerializeToString())
    client = server.client()
    wait_for(lambda: len(client.calls(session_id=session, limit=50).calls) == 9, what="9 calls")
    where, path = [f"session_id={session}"], tmp_path / "calls.jsonl"
    command = ["export", "calls", "--where", *where, "--out", str(tmp_path), "--url", server.url]
    assert main([*command, "--api-key", server.key]) == 0
    whole = path.read_bytes()
    assert len(whole.splitlines()) == 9
    for cut in (0, 10, len(whole) // 2, whole.rindex(b"\n", 0, -1) + 1, len(whole)):
        path.unlink()
        part_of(path, where).write_bytes(whole[:cut])
        part_of(path, ["model=other"]).write_bytes(b"of other filters")
        assert main([*command, "--api-key", server.key]) == 0
        assert path.read_bytes() == whole
        assert not part_of(path, where).exists()


def test_pages_cover_everything_once(server):
    client = server.client()
    session = uuid.uuid4().hex
    wanted = [
        span(gen_ai__conversation__id=session, start_ns=time.time_ns() - i % 3 * 1000) for i in range(23)
    ]
    post(server, traces_request(wanted).SerializeToString())
    wait_for(lambda: len(client.calls(session_id=session, limit=50).calls) == 23, what="23 calls")
    found, cursor = [], None
    while True:
        page = client.calls(session_id=session, limit=5, cursor=cursor)
        found += page.calls
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(c.span_id for c in found) == sorted(s.span_id.hex() for s in wanted)
    assert [c.start_time for c in found] == sorted((c.start_time for c in found), reverse=True)


def test_filters_find_what_they_say(server):
    client = server.client()
    session = uuid.uuid4().hex
    up, down, plain = (ids() for _ in range(3))
    spans = [
        span(trace_id=up[0], span_id=up[1], answer="The heron waits.", gen_ai__conversation__id=session),
        span(
            trace_id=down[0],
            span_id=down[1],
            question="Was ist 日本語?",
            gen_ai__conversation__id=session,
            gen_ai__request__model="model-b",
        ),
        span(trace_id=plain[0], span_id=plain[1], gen_ai__conversation__id=session),
    ]
    post(server, traces_request(spans).SerializeToString())
    wait_for(lambda: len(client.calls(session_id=session).calls) == 3, what="3 calls")
    client.send_feedback([thumb(*up, value=1), thumb(*down, value=0, comment="hm")])
    client.send_feedback(
        [
            Feedback(
                kind="flag", target=Target(*down), category="wrong language", author=Author("end_user", "x")
            )
        ]
    )

    def traces(**filters):
        return {c.trace_id for c in client.calls(session_id=session, **filters).calls}

    assert traces(rating="up") == {up[0]}
    assert traces(rating="down") == {down[0]}
    assert traces(rating="none") == {plain[0]}
    assert traces(rating="any") == {up[0], down[0]}
    assert traces(flag="wrong language") == {down[0]}
    assert traces(has="comment") == {down[0]}
    assert traces(has="correction") == set()
    assert traces(model="model-b") == {down[0]}
    assert traces(text="HERON waits") == {up[0]}
    assert traces(text="heron sleeps") == set()
    assert traces(text="日本") == {down[0]}
    assert traces(min_duration_ms=1000) == set()
    assert traces(status="error") == set()
    assert FacetValue(value="model-b", count=1) in client.facets("model", session_id=session)
    assert FacetValue(value="wrong language", count=1) in client.facets("flag", session_id=session)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/calls?limit=0", "limit"),
        ("/v1/calls?cursor=zzz", "cursor"),
        ("/v1/calls?since=yesterday", "since"),
        ("/v1/calls?rating=sideways", "rating"),
        ("/v1/feedback?trace_id=xyz", "trace_id"),
        ("/v1/traces/xyz", "trace_id"),
        ("/v1/facets?field=secret", "field"),
    ],
)
def test_wrong_parameters_name_the_field(server, path, field):
    answer = requests.get(server.url + path, headers=server.headers(), timeout=30)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field


def test_quotes_and_backslashes_in_filters_stay_values(server):
    client = server.client()
    for nasty in [
        "'; DROP TABLE spans; --",
        "\\",
        "a' OR '1'='1",
        "{project:String}",
        "%s",
        "\u0000",
        "\t\n",
    ]:
        assert client.calls(model=nasty).calls == []
        assert client.calls(text=nasty + " zzzunknown").calls == []


# -------------------------------------------------------------------------------------------------- keys and erasure


def test_keys_are_scoped_listed_and_revoked_at_once(server):
    admin = server.client()
    made = admin.create_key("reader", ["read"])
    reader = server.client(made.key)
    assert reader.me().scopes == ["read"]
    with pytest.raises(Forbidden):
        reader.send_feedback([thumb(*ids())])
    assert made.key not in repr(admin.keys())
    admin.delete_key(made.key_id)
    with pytest.raises(Unauthorized):
        reader.me()
    expired = admin.create_key("old", ["read"], expires_at="2020-01-01T00:00:00Z")
    with pytest.raises(Unauthorized):
        server.client(expired.key).me()
    with pytest.raises(Invalid) as wrong:
        admin.create_key("x", ["everything"])
    assert wrong.value.field == "scopes"


def test_a_persons_key_by_role_speaks_for_them_and_is_in_the_audit_log(server):
    admin = server.client()
    made = admin.create_key("ann's", role="annotator", author_id="ann@example.com")
    me = server.client(made.key).me()
    assert (me.role, me.author_id) == ("annotator", "ann@example.com")
    admin.delete_key(made.key_id)
    revoked, created = admin.audit(limit=2).entries
    assert (revoked.action, created.action) == ("revoke_key", "create_key")
    assert revoked.subject == created.subject == made.key_id
    with pytest.raises(Invalid):
        admin.create_key("x", ["read"], role="viewer")


def test_an_erasure_takes_everything_of_a_person_and_says_so(server):
    client = server.client()
    user = f"user-{uuid.uuid4().hex}"
    mine, others = ids(), ids()
    inner = span(trace_id=mine[0], answer="inside")
    body = [
        span(trace_id=mine[0], span_id=mine[1], user__id=user),
        inner,
        span(trace_id=others[0], span_id=others[1]),
    ]
    post(server, traces_request(body).SerializeToString())
    seen(client, others[0])
    client.send_feedback(
        [thumb(*mine, author="someone"), thumb(*others, author=user), thumb(*others, author="else")]
    )
    said = client.ledger().feedback.stored
    receipt = client.erase(user_id=user)
    assert client.ledger().feedback.stored == said, "what was erased came in all the same"
    assert receipt.num_traces == 1
    assert receipt.num_feedback == 2
    with pytest.raises(NotFound):
        client.trace(mine[0])
    left = wait_for(
        lambda: receipt.done or ((c := client.erasure(receipt.erasure_id)).done and c), what="the removal"
    )
    assert left is True or set(left.left.values()) == {0}
    assert [f.author.id for f in client.trace(others[0]).feedback] == ["else"]
    before = settled(client)
    post(server, traces_request([inner]).SerializeToString())  # an SDK's queue delivers it after all
    after = wait_for(
        lambda: (led := settled(client)).rejected > before.rejected and led, what="the late span"
    )
    assert after.rejected_reasons["erased"] >= 1
    with pytest.raises(NotFound):
        client.trace(mine[0])
