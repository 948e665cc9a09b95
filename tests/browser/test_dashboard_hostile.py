"""Text that wants to be more than text: in every place where a stranger's words can stand, on every page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote, urlsplit

import dashboard_world as worlds
import pytest
from dashboard_browser import settled, signed_in_context
from playwright.sync_api import Browser, Page, expect

from heedloop.client import Client
from heedloop.schema import Author, CharRange, Feedback, Ranking, Run, Target, answer_hash

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOST = "evil.example"
ATTACKS = (
    f"![x](http://{HOST}/markdown.png) [click](http://{HOST}/link) <http://{HOST}/auto> :material/face: $x^2$ :red[a]",
    f"<img src=http://{HOST}/img.png onerror=\"window.pwned=1\"><script>window.pwned=1;fetch('http://{HOST}/f')</script>",
    f"<svg onload=window.pwned=1><style>@import 'http://{HOST}/s.css';*{{background:url(http://{HOST}/b.png)}}</style></svg>",
    f"<iframe src='http://{HOST}/frame'></iframe><link rel=stylesheet href=http://{HOST}/l.css><base href=http://{HOST}/>",
    "‮txet desrever‬ ⁦isolate⁩ ‏rtl",
    "bell\x07 escape\x1b[31m backspace\x08 delete\x7f",
    '=HYPERLINK("http://evil.example")',
)
SHORT = f"![m](http://{HOST}/m.png)<img src=http://{HOST}/i.png onerror=window.pwned=1>"
ANSWER = "\n".join(ATTACKS) + "\n" + "W" * 200_000


TRACE, SPAN = worlds.hexid("hostile trace", 32), worlds.hexid("hostile span", 16)
NUM_OTHERS = 80


@pytest.fixture(scope="module")
def hostile(api: Client, server: tuple[str, str]) -> dict[str, str]:
    """A project in which everything that can be named is named by an attacker."""
    url, key = server[0], api.create_project("hostile").key
    client = Client(url, key)
    spans = _spans(datetime.now(timezone.utc) - timedelta(minutes=10))
    worlds.post(url, key, spans)
    worlds.wait_until(lambda: client.ledger().stored >= len(spans), "the hostile spans are stored")
    answer = client.send_feedback([*_judgements(), *(_comparison(i) for i in range(0, 60, 2))])
    assert answer.rejected == 0
    snapshot = client.create_snapshot(SHORT)
    _run(client, snapshot.id)
    return {
        "key": key,
        "trace": TRACE,
        "feedback": answer.results[0].feedback_id,
        "correction": answer.results[2].feedback_id,
        "snapshot": snapshot.id,
        "alert": _alert(client),
    }


def _spans(now: datetime) -> list[dict[str, Any]]:
    """One answer with all that an attacker can write, and others beside it."""
    names = {"model": SHORT, "topic": SHORT}
    more = {f"heedloop.metadata.{SHORT[:60]}": SHORT, "user.id": SHORT, "gen_ai.conversation.id": SHORT}
    first = worlds.answer_span(
        now, trace=TRACE, id=SPAN, question=ATTACKS[1], answer=ANSWER, version=SHORT, **names, **more
    )
    others = [
        worlds.answer_span(
            now - timedelta(seconds=i),
            trace=worlds.hexid(f"h{i}", 32),
            id=worlds.hexid(f"hs{i}", 16),
            question=ATTACKS[i % 7],
            answer=ATTACKS[(i + 1) % 7],
            version=SHORT if i % 2 else SHORT + " 2",
            **names,
        )
        for i in range(NUM_OTHERS)
    ]
    return [first, *others]


def _judgements() -> list[Feedback]:
    """Every kind of word about the first answer, then thumbs with comments on the others."""
    target, author = Target(trace_id=TRACE, span_id=SPAN), Author("end_user", SHORT)
    part = Target(trace_id=TRACE, span_id=SPAN, range=CharRange(0, 40, answer_hash(ANSWER)))
    return [
        Feedback(kind="rating", target=target, value=0, comment=ATTACKS[0], author=author),
        Feedback(kind="flag", target=part, category=SHORT, comment=ATTACKS[1], author=author),
        Feedback(kind="correction", target=target, correction=ATTACKS[1] + ATTACKS[2], author=author),
        Feedback(kind="comment", target=target, comment=ATTACKS[3], author=author),
        *(
            Feedback(
                kind="rating",
                target=_other(i),
                value=i % 2,
                comment=f"{ATTACKS[i % 7]} wrong answer {i}" if i % 2 == 0 else None,
                author=Author("end_user", f"u{i}"),
            )
            for i in range(NUM_OTHERS)
        ),
    ]


def _other(i: int) -> Target:
    return Target(trace_id=worlds.hexid(f"h{i}", 32), span_id=worlds.hexid(f"hs{i}", 16))


def _alert(client: Client) -> str:
    """An acknowledged alert's id."""
    rule = {
        "name": SHORT,
        "metric": "rate",
        "filters": {"model": SHORT, "tag": [SHORT], f"metadata.{SHORT[:60]}": SHORT},
        "kind": "threshold",
        "threshold": 0.9,
        "min_count": 1,
    }
    alert = client.create_alert(rule)
    client.acknowledge_alert(alert.id, ATTACKS[1], comment=ATTACKS[0])
    return alert.id


def _run(client: Client, snapshot_id: str) -> None:
    run = Run(
        id="hostile-run",
        method="sft",
        name=SHORT,
        model_name=SHORT,
        snapshot_id=snapshot_id,
        parent=SHORT,
        config={SHORT: SHORT},
        error=ATTACKS[1],
    )
    client.create_run(run)
    client.add_run_history("hostile-run", [{"step": s, SHORT: float(s)} for s in range(3)])


def _comparison(i: int) -> Feedback:
    """Two answers of two hostile versions, side by side."""
    targets = (_other(i), _other(i + 1))
    return Feedback(
        kind="comparison",
        target=targets[0],
        ranking=Ranking(answers=targets, ranks=(1, 2), shown_order=(0, 1)),
        comment=ATTACKS[1],
        author=Author("end_user", f"{SHORT} {i}"),
    )


class Watch:
    """What a page did beyond showing itself."""

    def __init__(self, page: Page, dashboard: str) -> None:
        self.host = urlsplit(dashboard).netloc
        self.requests: list[str] = []
        self.surprises: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("dialog", lambda d: (self.surprises.append(d.message), d.dismiss()))
        page.on("popup", lambda p: self.surprises.append(p.url))
        page.on("pageerror", lambda e: self.surprises.append(str(e)))

    def foreign(self) -> list[str]:
        """Requests to any other host, blocked ones too."""
        return [
            u
            for u in self.requests
            if urlsplit(u).scheme not in ("data", "blob") and urlsplit(u).netloc != self.host
        ]


@pytest.fixture
def victim(browser: Browser, dashboard: str, hostile: dict[str, str]) -> Iterator[tuple[Page, Watch]]:
    with signed_in_context(
        browser, dashboard, hostile["key"], viewport={"width": 1280, "height": 900}
    ) as context:
        context.set_default_timeout(20_000)
        page = context.new_page()
        yield page, Watch(page, dashboard)


def pages(hostile: dict[str, str]) -> list[str]:
    return [
        "/",
        f"/?model={quote(SHORT)}&segment=metadata.{quote(SHORT)}",
        f"/traces?text={quote(ATTACKS[0])}",
        "/traces",
        f"/trace?trace_id={hostile['trace']}",
        "/feedback",
        f"/feedback?feedback_id={hostile['feedback']}",
        f"/feedback?feedback_id={hostile['correction']}",
        "/?trust=1&period=All",
        f"/traces?tag={quote(SHORT)}&metadata.{quote(SHORT[:60])}={quote(SHORT)}&user_id={quote(ATTACKS[1])}",
        "/failures",
        "/failures?of=comments",
        f"/failures?cluster={quote(ATTACKS[1])}",
        "/compare?within=tag",
        "/compare?field=model",
        "/alerts",
        f"/alerts?alert_id={hostile['alert']}",
        f"/alerts?alert_id={quote(ATTACKS[1])}",
        f"/alerts?new=1&tag={quote(SHORT)}&metric={quote(ATTACKS[1])}",
        f"/datasets?new=1&tag={quote(SHORT)}&model={quote(SHORT)}",
        f"/compare?a={quote(SHORT)}&b={quote(ATTACKS[1])}",
        "/datasets",
        f"/datasets?snapshot_id={hostile['snapshot']}",
        "/runs",
        "/runs?run_id=hostile-run",
        f"/trace?trace_id={quote(ATTACKS[1])}",
    ]


def test_hostile_text_stays_text_on_every_page(
    victim: tuple[Page, Watch], dashboard: str, hostile: dict[str, str]
) -> None:
    page, watch = victim
    for path in pages(hostile):
        page.goto(dashboard + path)
        settled(page)
        expect(page.get_by_role("heading").first).to_be_visible()
        assert page.evaluate("window.pwned") is None, path
        assert watch.foreign() == [], path
        assert watch.surprises == [], path
        assert page.locator(f"img[src*='{HOST}'], iframe, object, embed").count() == 0, path
        hosts = page.locator("a[href]").evaluate_all("nodes => nodes.map((n) => new URL(n.href).host)")
        assert set(hosts) <= {watch.host}, path
        assert page.get_by_test_id("stException").count() == 0, path
        wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} pixels too wide"


def test_the_trace_shows_the_attack_as_it_was_written(
    victim: tuple[Page, Watch], dashboard: str, hostile: dict[str, str]
) -> None:
    page, watch = victim
    page.goto(f"{dashboard}/trace?trace_id={hostile['trace']}")
    settled(page)
    text = page.locator(".st-key-panel_conversation .message.assistant .text")
    expect(text).to_contain_text(f"![x](http://{HOST}/markdown.png)")
    expect(text).to_contain_text("<script>window.pwned=1")
    expect(text).to_contain_text("⟨U+202E⟩txet desrever⟨U+202C⟩")
    expect(text).to_contain_text("bell␇ escape␛[31m")
    expect(text).to_contain_text("W" * 1000)
    assert watch.foreign() == []


def test_choosers_and_tooltips_show_hostile_names_as_text(victim: tuple[Page, Watch], dashboard: str) -> None:
    page, watch = victim
    page.goto(f"{dashboard}/")
    settled(page)
    page.get_by_role("combobox").first.click()
    expect(page.get_by_role("option").filter(has_text=SHORT[:20]).first).to_be_visible()
    page.keyboard.press("Escape")
    for mark in page.locator('[data-testid="stVegaLiteChart"] svg path[aria-roledescription="point"]').all()[
        :4
    ]:
        mark.hover(force=True)
    assert watch.foreign() == []
    assert watch.surprises == []
    assert page.evaluate("window.pwned") is None
