"""`instrument`: one instrumentation per client, none twice, broken ones named. Stand-in packages in a fresh process."""

import subprocess
import sys
import textwrap

import pytest

INSTRUMENTOR = """
class {name}:
    is_instrumented_by_opentelemetry = False
    def instrument(self): type(self).is_instrumented_by_opentelemetry = True; print("on {package}")
"""
HIDDEN = ("openai", "anthropic", "langchain_core", "openinference", "opentelemetry.instrumentation")
BROKEN = "raise ImportError('no httpx')"


def packages(folder, **modules):
    for dotted, text in modules.items():
        path = folder / dotted.replace("__", "/")
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(text)


def run(folder, what):
    code = f"""
    import logging, sys
    from importlib.machinery import PathFinder
    import opentelemetry
    sys.path.insert(0, {str(folder)!r})

    class OnlyStandIns:
        # the real clients and instrumentations may be installed here too; these tests are about which one is chosen
        def find_spec(self, name, path=None, target=None):
            if not name.startswith({HIDDEN!r}):
                return None
            places = [p for p in (sys.path if path is None else path) if p.startswith({str(folder)!r})]
            found = PathFinder.find_spec(name, places)
            if found is None:
                raise ModuleNotFoundError(name, name=name)
            return found

    sys.meta_path.insert(0, OnlyStandIns())
    opentelemetry.__path__.append({str(folder / "opentelemetry")!r})
    logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
    from heedloop._instrument import instrument
    print(instrument({what!r}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path):
    packages(
        tmp_path,
        openai="",
        langchain_core="",
        openinference__instrumentation__openai=INSTRUMENTOR.format(
            name="OpenAIInstrumentor", package="oi-openai"
        ),
        opentelemetry__instrumentation__openai=INSTRUMENTOR.format(
            name="OpenAIInstrumentor", package="tl-openai"
        ),
        openinference__instrumentation__langchain=INSTRUMENTOR.format(
            name="LangChainInstrumentor", package="oi-lc"
        ),
    )
    return tmp_path


def test_auto_takes_one_per_client_and_leaves_covered_frameworks(folder):
    lines = run(folder, "auto")
    assert [line for line in lines if line.startswith("on ")] == ["on oi-openai"]
    assert lines[-1] == "['openai (openinference.instrumentation.openai)']"
    assert any("langchain is left alone, because openai records the same calls" in line for line in lines)


def test_naming_a_framework_switches_it_on(folder):
    assert run(folder, ["langchain"])[-1] == "['langchain (openinference.instrumentation.langchain)']"


def test_a_broken_instrumentation_gives_way_to_the_next(folder):
    (folder / "openinference/instrumentation/openai/__init__.py").write_text(BROKEN)
    lines = run(folder, ["openai"])
    assert any("is installed but cannot be switched on: no httpx" in line for line in lines)
    assert lines[-1] == "['openai (opentelemetry.instrumentation.openai)']"


def test_a_client_without_instrumentation_is_said(tmp_path):
    lines = run(tmp_path, ["anthropic"])
    assert lines[-1] == "[]" and any("no instrumentation of anthropic" in line for line in lines)
