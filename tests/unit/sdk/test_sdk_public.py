"""The public surface, its cost at import, and the guard between us and the host."""

import logging
import subprocess
import sys

import pytest

import heedloop
from heedloop import _guard

KEY = "hl_0123456789ab_" + "k" * 43
NAMES = [
    "Assignment",
    "Author",
    "Counts",
    "Delivery",
    "Examples",
    "Feedback",
    "Options",
    "Prompt",
    "Redactor",
    "Scale",
    "Target",
    "Usage",
    "assign",
    "collect_handles",
    "comment",
    "compare",
    "configure",
    "context",
    "correct",
    "delivery",
    "examples",
    "feedback_token",
    "fetch_settings",
    "flag",
    "flush",
    "handle",
    "keep",
    "prompt",
    "rate",
    "record",
    "retract",
    "set",
    "shutdown",
    "span",
    "target",
    "thumbs_down",
    "thumbs_up",
    "trace",
    "with_handle",
]


def test_the_public_names_are_these():
    assert sorted(heedloop.__all__) == sorted(NAMES)
    assert all(hasattr(heedloop, name) for name in NAMES)


def test_every_public_name_says_what_it_is():
    for name in NAMES:
        assert (getattr(heedloop, name).__doc__ or "").strip(), name


def test_no_public_call_has_more_than_eight_parameters():
    import inspect

    for name in NAMES:
        value = getattr(heedloop, name)
        if inspect.isfunction(value):
            assert len(inspect.signature(value).parameters) <= 8, name


def test_importing_brings_no_heavy_package():
    code = "import sys, heedloop; print(','.join(m for m in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("requests", "numpy", "google.protobuf", "fastapi", "opentelemetry.sdk.trace"):
        assert heavy not in loaded.split(","), heavy


def test_what_only_feedback_needs_is_loaded_with_the_first_use_of_it():
    code = f"""if True:
        import sys, heedloop
        heedloop.configure("http://127.0.0.1:1", {KEY!r}, options=heedloop.Options(outbox="memory"))
        heedloop.trace(lambda question: "answer")("question")
        late = ["_feedback", "_redact", "schema._call", "schema._feedback", "schema._json"]
        assert not {{f"heedloop.{{name}}" for name in late}} & sys.modules.keys()
        heedloop.thumbs_up("00-" + "1" * 32 + "-" + "2" * 16 + "-01")
        heedloop.shutdown(0)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_none_of_heedloops_is_refused_as_any_module_does():
    assert set(heedloop.__all__) <= set(dir(heedloop))
    for module in (heedloop, heedloop.schema):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'Thumb'"):
            getattr(module, "Thumb")  # noqa: B009


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 0}, "sample_rate: 0 is not a probability"),
        ({"sample_rate": 2}, "sample_rate: 2 is not a probability"),
        ({"sample_rate": "1"}, "is not a probability"),
        ({"url": "localhost:8321"}, "does not begin with http://"),
        ({"url": KEY, "api_key": "http://127.0.0.1:8321"}, "'hl_0123456789ab_…' does not begin with http://"),
        ({"api_key": KEY, "instrument": "openai"}, "is not 'auto' or a list"),
        ({"api_key": KEY, "instrument": ["opnai"]}, "'opnai' is not one of openai"),
    ],
)
def test_wrong_settings_raise(arguments, message, monkeypatch):
    monkeypatch.setenv("HEEDLOOP_OUTBOX", "memory")
    with pytest.raises(ValueError, match=message):
        heedloop.configure(**arguments)
    heedloop.shutdown(0)


def test_a_key_in_the_place_of_the_address_is_not_repeated():
    for call in (heedloop.configure, heedloop.client.Client):
        with pytest.raises(ValueError) as raised:
            call(KEY)
        assert "kkk" not in str(raised.value)


def test_modules_of_the_docs_are_there_without_an_import_of_their_own():
    code = "import heedloop; heedloop.aio.thumbs_up, heedloop.client.Client, heedloop.testing.recording"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_key_or_when_disabled_it_is_off(monkeypatch):
    monkeypatch.delenv("HEEDLOOP_API_KEY", raising=False)
    heedloop.configure()
    assert heedloop._runtime.state.runtime is None
    monkeypatch.setenv("HEEDLOOP_DISABLED", "1")
    heedloop.configure(api_key="hl_0123456789ab_" + "k" * 43)
    assert heedloop._runtime.state.runtime is None


def test_the_guard_swallows_in_production_and_raises_under_pytest(monkeypatch, caplog):
    @_guard.guarded("doing a test", 7)
    def fails():
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError):
        fails()
    monkeypatch.delenv("PYTEST_VERSION")
    monkeypatch.setattr(_guard, "_last_said", {})
    with caplog.at_level(logging.WARNING, "heedloop"):
        assert [fails() for _ in range(5)] == [7] * 5
    assert [r.message for r in caplog.records] == ["heedloop: doing a test failed: RuntimeError: ours"]


def test_a_fault_of_ours_costs_the_host_nothing(monkeypatch):
    from heedloop import testing

    with testing.recording() as seen:
        monkeypatch.delenv("PYTEST_VERSION")

        def broken(*_):
            raise RuntimeError("ours")

        monkeypatch.setattr(seen.runtime, "random_bits", broken)

        @heedloop.trace
        def call(q):
            return q

        assert call("q") == "q"
        with heedloop.span("s"):
            pass
