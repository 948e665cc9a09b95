"""docs/other-languages.md as it is written: curl and Node, with the real npm packages, against a real server."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from forked_server import ForkedServer
from server_process import wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "other-languages.md").read_text()
HANDLE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SAID = [json.loads(f"{{{entry}}}") for entry in re.findall(r"^\| [^|]+ \| `([^`]+)`", PAGE, re.M)]

pytestmark = pytest.mark.slow


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```", PAGE, re.S | re.M)[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    one = ForkedServer(tmp_path_factory.mktemp("server")).start()
    yield one
    one.stop()


@pytest.fixture
def environment(server):
    return {**os.environ, "HEEDLOOP_URL": server.url, "HEEDLOOP_API_KEY": server.key}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with the npm packages that the page names."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    names = re.search(r"`npm install ([^`]+)`", PAGE)[1].split()
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        pytest.skip(f"npm installs nothing here: {done.stderr.strip()[-200:]}")
    return folder


def test_curl_posts_a_thumb(server, environment):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["sh", "-c", block("sh")], capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout)["results"][0]["status"] == "stored", done.stdout + done.stderr
    (thumb,) = server.client().feedback(trace_id=HANDLE[3:35]).feedback
    assert (thumb.value, thumb.author.id, thumb.comment) == (0, "user-17", "Wrong policy")


@pytest.mark.parametrize("said", SAID, ids=lambda s: s.get("name") or s["kind"])
def test_every_body_of_the_table_is_taken(server, said):
    about = {} if "ranking" in said else {"handle": HANDLE}
    if "ranking" in said:
        said["ranking"]["answers"] = [HANDLE, HANDLE.replace("b7-01", "b8-01")]
    body = {**about, **said, "author": {"id": "user-17"}}
    response = requests.post(f"{server.url}/v1/feedback", json=body, headers=server.headers(), timeout=30)
    assert response.json()["results"][0]["status"] in ("stored", "replaced"), response.text


def test_node_records_an_answer_and_its_thumb(server, environment, packages):
    (packages / "app.mjs").write_text(block("js"))
    done = subprocess.run(
        ["node", "app.mjs"], cwd=packages, capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    handle = done.stdout.split()[-1]

    def judged():
        calls = server.client().calls().calls
        return next((c for c in calls if c.trace_id == handle[3:35] and c.thumb is not None), None)

    call = wait_for(judged, what="the judged answer of Node")
    assert (call.output_preview, call.input_preview) == ("Within thirty days.", "How long do I have?")
    assert (call.model, call.user_id, call.thumb) == ("small-2", "user-17", 0)
    (thumb,) = server.client().feedback(trace_id=handle[3:35]).feedback
    assert thumb.comment == "too short"
