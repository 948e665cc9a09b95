"""The report of a run: one HTML file that needs nothing else, to be opened from the run folder or sent by mail.

Every text in it (prompts and answers above all) is escaped; there is no script, and nothing is loaded from anywhere.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from heedloop.schema import format_time
from heedloop_trainer.runs.folder import RunFolder

WIDTH, HEIGHT, EDGE = 340, 170, 34
MAX_POINTS = 300
FIRST = (
    "loss", "accuracy", "objective/score", "objective/raw_score", "objective/held_out_score", "objective/kl", "policy/entropy",
    "response/length", "response/ended_share", "response/distinct_2", "policy/clip_share", "policy/ratio_max", "value/loss",
    "value/explained_variance", "sampler/drift", "objective/disagreement", "grad_norm", "policy/grad_norm",
)  # fmt: skip
"""Curves in this order; what is logged besides is left to metrics.jsonl."""

STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#5b6475;--line:#d8dce4;--page:#fff;--card:#f6f7f9;--a:#2b5fd9;--b:#c2571a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa3b2;--line:#343b49;--page:#14171d;--card:#1c2029;--a:#7aa2ff;--b:#f0a070}}
body{margin:2rem auto;max-width:1120px;padding:0 1rem;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}p.soft,figcaption,td.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:1rem}figure{margin:0;background:var(--card);padding:.6rem;border-radius:6px}
svg{width:100%;height:auto}svg text{font-size:10px;fill:var(--soft)}.pair{white-space:pre-wrap;overflow-wrap:anywhere}
.good{border-left:4px solid #2a8a4a;padding-left:.8rem}.bad{border-left:4px solid #c0392b;padding-left:.8rem}
code{overflow-wrap:anywhere}
"""


def write_report(run: RunFolder) -> None:
    """Write `report.html` into the run's folder."""
    page = report_page(run)
    fresh = run.path / "report.html.tmp"
    fresh.write_text(page, encoding="utf-8")
    fresh.replace(run.path / "report.html")


def report_page(run: RunFolder) -> str:
    """The page as HTML."""
    record, found = run.record, dict(run.record.evaluation)
    name = record.model_name or record.name or record.id
    parts = [
        f"<h1>{_text(name)} <span class=soft>· {_text(record.method)}</span></h1>",
        _status(run),
        _lineage(run),
        _gate(found),
        _accuracy(found),
        _calibration(found),
        _win_rates(found),
        _slices(found),
        _curves(run.history),
        _frontier(run.history),
        _samples(found.get("samples", ())),
        _details("Settings", json.dumps(dict(record.config), indent=2, sort_keys=True)),
    ]
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{_text(name)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else _text(value)


def _interval(found: Mapping[str, Any]) -> str:
    span = f" [{_number(found['low'])}, {_number(found['high'])}]" if "low" in found else ""
    return f"{_number(found['estimate'])}{span}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML already."""
    top = "".join(f"<th>{_text(h)}</th>" for h in head)
    body = "".join(f"<tr>{''.join(f'<td>{c}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _details(title: str, text: str) -> str:
    return f"<details><summary>{_text(title)}</summary><pre>{_text(text)}</pre></details>"


# ------------------------------------------------------------------------------------------------- what came of it


def _status(run: RunFolder) -> str:
    record = run.record
    kind = "good" if record.status == "finished" else "bad"
    why = f": {_text(record.error)}" if record.error else ""
    metrics = _table(("metric", "value"), [(_text(k), _number(v)) for k, v in record.metrics.items()])
    return f"<p class={kind}>{_text(record.status)}{why}</p>{metrics if record.metrics else ''}"


def _lineage(run: RunFolder) -> str:
    """From the feedback to this model: what it was made of and what it started from."""
    record = run.record
    rows = [
        ("Run", f"<code>{_text(record.id)}</code>, started {_text(format_time(record.started_at))}"),
        ("Snapshot", f"<code>{_text(record.snapshot_id or 'none')}</code>"),
        ("Started from", f"<code>{_text(record.parent or 'random weights')}</code>"),
        ("Checkpoint", f"<code>{_text(record.checkpoint)}</code>"),
        ("Code", f"heedloop {_text(record.code_version)}, seed {_text(record.seed)}"),
    ]
    hashes = run.extra.get("model_files") or {}
    rows += [(f"SHA-256 of {_text(n)}", f"<code>{_text(h)}</code>") for n, h in hashes.items()]
    note = "Every row of the snapshot names the feedback behind it: GET /v1/snapshots/{id}/rows."
    return f"<h2>Where it comes from</h2>{_table(('', ''), rows)}<p class=soft>{_text(note)}</p>"


def _gate(found: Mapping[str, Any]) -> str:
    gate = found.get("gate")
    if not gate:
        return ""
    if gate["promote"]:
        return (
            "<h2>Gate</h2><p class=good>May be promoted: the gain is significant and not one of length.</p>"
        )
    reasons = "".join(f"<li>{_text(r)}</li>" for r in gate["reasons"])
    return f"<h2>Gate</h2><div class=bad>Not to be promoted:<ul>{reasons}</ul></div>"


def _accuracy(found: Mapping[str, Any]) -> str:
    if not found.get("accuracy"):
        return ""
    rows = [(_text(n), _interval(e)) for n, e in found["accuracy"].items()]
    ceiling = found.get("agreement_ceiling")
    if ceiling is not None:
        rows.append(("ceiling, from how far judges agree", _number(ceiling)))
    head = f"{found['num_comparisons']:,} held-out comparisons by {found['num_judges']:,} named judges"
    more = _cross_validation(found.get("cross_validation"))
    return f"<h2>{_text(head)}</h2>{_table(('model', 'accuracy, 95% interval'), rows)}{more}"


def _cross_validation(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    return (
        f"<p>Every prompt group held out once ({_text(found['num_folds'])} folds): accuracy {_interval(found['accuracy'])}, "
        f"mean of the folds {_number(found['mean_of_folds'])}, calibration error {_number(found['calibration_error'])}.</p>"
    )


def _calibration(found: Mapping[str, Any]) -> str:
    bins = found.get("reliability")
    if not bins:
        return ""
    points = [(b["confidence"], b["accuracy"]) for b in bins]
    plot = _plot([points, [(0.5, 0.5), (1.0, 1.0)]], x="said", y="came true", dots=True)
    error = f"expected calibration error {_number(found['calibration_error'])}, log-loss {_number(found['log_loss'])}"
    caption = f"<figcaption>Calibration: {error}</figcaption>"
    return f"<h2>Calibration</h2><div class=curves><figure>{plot}{caption}</figure></div>"


def _win_rates(found: Mapping[str, Any]) -> str:
    rate = found.get("win_rate")
    if not rate:
        return ""
    rows = [
        ("win rate over the parent", _interval(rate["win_rate"])),
        ("at equal length", _interval(rate["length_controlled"])),
        ("gain in reward", _interval(rate["gain"])),
        ("length, new over parent", _number(rate["length_ratio"])),
    ]
    best = found.get("best_of")
    if best:
        label = f"best of {best['n']} of the parent (at most {_number(best['kl_bound'])} nats)"
        rows.append((_text(label), _interval(best["win_rate"])))
    if found.get("people"):
        rows.append(("win rate by people", _interval(found["people"])))
    judge = f"{rate['num_prompts']} held-out prompts, judged by {rate['judge']}"
    return f"<h2>New against parent</h2><p class=soft>{_text(judge)}</p>{_table(('', '95% interval'), rows)}"


def _slices(found: Mapping[str, Any]) -> str:
    parts = []
    for title, slices in (
        ("accuracy by slice", found.get("slices")),
        ("win rate by slice", (found.get("win_rate") or {}).get("slices")),
    ):
        if slices:
            rows = [(_text(n), _interval(e), _text(e["n"])) for n, e in slices.items()]
            parts.append(_table(("slice", title, "rows"), rows))
    return f"<h2>Slices</h2>{''.join(parts)}" if parts else ""


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    if not samples:
        return ""
    rows = [
        (
            f"<div class=pair>{_text(s['prompt'])}</div>",
            f"<div class=pair>{_text(s['parent'])}</div>",
            f"<div class=pair>{_text(s['new'])}</div>",
            _number(s["gain"]),
        )
        for s in samples
    ]
    return f"<h2>Answers to read</h2>{_table(('prompt', 'parent', 'new', 'gain'), rows)}"


# ------------------------------------------------------------------------------------------------------- drawing


def _curves(history: Sequence[Mapping[str, float]]) -> str:
    figures = []
    for name in FIRST:
        points = [(float(r["step"]), float(r[name])) for r in history if name in r]
        if len(points) > 1:
            caption = f"{_text(name)}: {_number(points[0][1])} to {_number(points[-1][1])}"
            plot = _plot([points], x="step", y="")
            figures.append(f"<figure>{plot}<figcaption>{caption}</figcaption></figure>")
    return f"<h2>Curves</h2><div class=curves>{''.join(figures)}</div>" if figures else ""


def _frontier(history: Sequence[Mapping[str, float]]) -> str:
    """What reward was bought with how much KL, by the reward that was climbed and by one that was not (2210.10760)."""
    rows = [r for r in history if "objective/kl" in r]
    if len(rows) < 3:
        return ""
    lines, drawn_names = [], []
    for name in ("objective/raw_score", "objective/held_out_score"):
        points = sorted((math.sqrt(max(0.0, r["objective/kl"])), r[name]) for r in rows if name in r)
        if points:
            lines.append(points)
            drawn_names.append(name.removeprefix("objective/"))
    plot = _plot(lines, x="square root of KL to the reference", y="", dots=True)
    return f"<h2>Reward and KL</h2><div class=curves><figure>{plot}<figcaption>{_text(' and '.join(drawn_names))}</figcaption></figure></div>"


def _plot(lines: Sequence[Sequence[tuple[float, float]]], *, x: str, y: str, dots: bool = False) -> str:
    """An SVG of one or two lines over common axes; points that are not finite are left out."""
    lines = [_thinned([p for p in line if all(map(math.isfinite, p))]) for line in lines]
    points = [p for line in lines for p in line]
    if not points:
        return "<svg></svg>"
    (left, right), (low, high) = (_span([p[k] for p in points]) for k in (0, 1))

    def place(p: tuple[float, float]) -> tuple[float, float]:
        across = EDGE + (p[0] - left) / (right - left) * (WIDTH - 2 * EDGE)
        return across, HEIGHT - EDGE - (p[1] - low) / (high - low) * (HEIGHT - 1.6 * EDGE)

    drawn = []
    for line, colour in zip(lines, ("--a", "--b"), strict=False):
        placed = [place(p) for p in line]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        drawn.append(f"<polyline points='{path}' fill=none stroke='var({colour})' stroke-width=1.6 />")
        if dots:
            drawn += [f"<circle cx={a:.1f} cy={b:.1f} r=2.2 fill='var({colour})' />" for a, b in placed]
    labels = (
        f"<text x=2 y=12>{_number(high)} {_text(y)}</text><text x=2 y={HEIGHT - EDGE}>{_number(low)}</text>"
        f"<text x={EDGE} y={HEIGHT - 12}>{_number(left)}</text>"
        f"<text x={WIDTH - 4} y={HEIGHT - 12} text-anchor=end>{_number(right)} {_text(x)}</text>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{_text(x)}'>{''.join(drawn)}{labels}</svg>"
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, math.ceil(len(points) / MAX_POINTS))
    return [*points[::step], *([points[-1]] if points and (len(points) - 1) % step else [])]
