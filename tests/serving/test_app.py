"""The web page in a real browser: Debian's chromium, driven by Playwright."""

import concurrent.futures
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from dicom_files import RAMP, film, save
from PIL import Image
from support import ROOT, TESTS

import app
import model_test
from bones.runs.folder import RunFolder
from bones.serving import server as server_room
from bones.serving.page import Page

gradio_client = pytest.importorskip("gradio_client", reason="the page needs gradio: pip install -r requirements/extra.txt")
sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install -r requirements/test.txt")

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt install chromium")
pytestmark = pytest.mark.xdist_group("page")  # one server for all


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    """Address and upload folder of the page of a tiny network, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    command = [sys.executable, str(TESTS / "tiny.py"), "app.py", str(trained), "--port", str(port)]
    process = subprocess.Popen(
        command,
        # A proxy that nobody answers at, as of a hospital whose machine has no other way out.
        env=os.environ
        | {"TMPDIR": str(folder), "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
        | {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9", "GRADIO_SHARE": "True"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith(f"http://127.0.0.1:{port} ")
    yield f"http://127.0.0.1:{port}", folder
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not list(folder.iterdir())  # nothing of anyone stays


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(server, browser):
    page = browser.new_page()
    page.goto(server[0])
    page.get_by_role("button", name="Example: normal").wait_for(timeout=60_000)
    yield page
    page.close()


@pytest.fixture(scope="module")
def study(phantoms):
    """A held-out study of two views or more, as a folder."""
    folders = sorted((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    return next(folder for folder in folders if len(list(folder.iterdir())) == 2)


def upload(page, *files):
    page.get_by_text("Drop File Here").wait_for(timeout=60_000)  # the box is empty again
    page.locator("input[type=file]").set_input_files([str(file) for file in files])


def uploaded(folder):
    """Files that lie in the page's folder but for its examples."""
    return [path for path in folder.rglob("*") if path.is_file() and "examples" not in path.parts]


@needs_chromium
def test_a_study_gets_the_decision_of_model_test(page, server, study, trained, capsys):
    assert model_test.main([str(trained), str(study)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.strip().split("\n")]
    upload(page, *sorted(study.iterdir()))
    page.locator(".decision").wait_for(timeout=60_000)
    _, decision, probability = lines[-1]
    assert page.locator(".decision").inner_text() == f"{decision}: probability of abnormal {probability}"
    shown = page.locator("figcaption").all_inner_texts()
    assert shown == [f"{Path(path).name}: {value}" for path, _, value in lines[:-1]]
    assert page.locator(".views img").count() == 6  # the film and two maps of each
    threshold = json.loads((trained / "run.json").read_text())["threshold"]
    body = page.locator("body").inner_text()
    for text in (
        f"Positive is {threshold:.3f} or more",
        "not a medical device",
        "trained on phantoms",
        "does not rule one out",
    ):
        assert text in body
    assert uploaded(server[1]) == []


@needs_chromium
def test_bad_files_are_told_and_the_page_lives_on(page, server, study, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(next(study.iterdir()).read_bytes()[:500])
    (tmp_path / "<b onerror=alert(1)>.png").write_bytes(b"")
    for number in range(13):
        shutil.copy(next(study.iterdir()), tmp_path / f"many{number}.png")
    for files, message in (
        (["text.png"], "not an image that Pillow can read"),
        (["cut.png", "many1.png"], "cut.png: ends after 500 bytes"),
        (["<b onerror=alert(1)>.png"], "0 bytes"),
        ([f"many{number}.png" for number in range(13)], "13 files: expected the views of one study, 12 at most"),
    ):
        upload(page, *(tmp_path / name for name in files))
        page.get_by_role("alert").filter(has_text=message).wait_for(timeout=60_000)
        assert page.locator("figure").count() == 0
    upload(page, next(study.iterdir()))
    page.locator(".decision").wait_for(timeout=60_000)
    assert uploaded(server[1]) == []


@needs_chromium
def test_nothing_comes_from_outside(server, browser):
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server[0])
    page.get_by_role("button", name="Example: normal").wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((server[0], "data:", "blob:"))] == []
    page.close()


@needs_chromium
def test_by_keyboard_on_a_phone(server, browser):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(server[0])
    button = page.get_by_role("button", name="Example: displaced fracture")
    button.wait_for(timeout=60_000)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"))
        if reached[-1] == "Example: displaced fracture":
            break
    assert any("upload" in text.lower() for text in reached), reached
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for(timeout=60_000)
    assert re.fullmatch(r"(Positive|Negative): probability of abnormal 0\.\d{3}", page.get_by_role("alert").inner_text())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(image.get_attribute("alt") for image in page.locator("#answer img").all())
    assert page.get_by_role("heading", level=1).count() == 1 and page.evaluate("document.documentElement.lang") == "en"
    page.close()


def test_twenty_at_once_are_all_answered(server, study):
    client = gradio_client.Client(server[0], verbose=False)
    files = [gradio_client.handle_file(str(path)) for path in sorted(study.iterdir())]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.predict(files, api_name="/call")[0], range(20)))
    decisions = {re.search(r"(Positive|Negative): probability of abnormal [\d.]+", answer)[0] for answer in answers}
    assert len(answers) == 20 and len(decisions) == 1
    assert uploaded(server[1]) == []


def test_limits_hold_for_those_who_bypass_the_page(server, study, tmp_path):
    client = gradio_client.Client(server[0], verbose=False)
    (tmp_path / "large.png").write_bytes(bytes(51 * 2**20))
    with pytest.raises(Exception, match=r"413|large|size"):
        client.predict([gradio_client.handle_file(str(tmp_path / "large.png"))], api_name="/call")
    secret = tmp_path / "secret.png"  # a file of the server's own
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(secret)
    asked = {"data": [[{"path": str(secret), "meta": {"_type": "gradio.FileData"}}]]}
    assert b"error" in ask(f"{server[0]}/gradio_api/call/call", asked) and secret.exists()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{server[0]}/gradio_api/file={secret}")
    with urllib.request.urlopen(server[0]) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert uploaded(server[1]) == []


def ask(url, content):
    """What Gradio's interface answers to a request that is sent by hand."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{event}") as answer:
        return answer.read()


def test_faults(trained, tmp_path, capsys, monkeypatch):
    assert app.main([str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert app.main([str(trained), "--port", str(taken.getsockname()[1])]) == 1
    assert "is in use, or not an address" in capsys.readouterr().err
    for options in (["--port", "0"], ["--port", "x"], ["--hos", "a"]):
        with pytest.raises(SystemExit) as error:
            app.main([str(trained), *options])
        assert error.value.code == 2
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert app.main([str(trained)]) == 1
    assert "gradio" in (message := capsys.readouterr().err) and "pip install -r requirements/extra.txt" in message


def test_the_page_says_how_good_the_network_is(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    (run / "scores.json").unlink(missing_ok=True)
    assert "This network has not been scored" in Page(RunFolder.open(run)).reliability_note
    assert model_test.main([str(run)]) == 0
    studies = json.loads((run / "scores.json").read_text())["studies"]
    assert f"{studies['sensitivity']['value']:.3f}" in Page(RunFolder.open(run)).reliability_note


def test_each_of_several_dicom_studies_gets_an_answer(trained, study, in_tmp):
    page = Page(RunFolder.open(trained))
    uid = "1.2.826.0.1.3680043.10.1338"
    for place, number in enumerate((1, 2, 2)):  # a folder for each upload, as Gradio has it
        (in_tmp / str(place)).mkdir()
        save(film(np.roll(RAMP, 300 * place), StudyInstanceUID=f"{uid}.{number}"), f"{place}/<i>{place}.dcm")
    films = [str(in_tmp / str(place) / f"<i>{place}.dcm") for place in range(3)]
    names = [f"&lt;i&gt;{place}.dcm" for place in range(3)]
    shown = page.answer(films)
    headings = re.findall("<h2>(.*?)</h2>", shown)
    assert headings == [f"Study 1 of 2: {names[0]}", f"Study 2 of 2: {names[1]}, {names[2]}"]
    assert shown.count("class='decision'") == 2 and shown.count("Research only") == 1
    assert "probability of its single view" in shown and "mean of its 2 views" in shown
    assert uid not in shown and "<h2>" not in page.answer(films[1:])
    for number, alone in ((1, films[:1]), (2, films[1:])):
        decision = re.search("<p class='decision'.*?</p>", page.answer(alone))[0]
        assert decision in shown.split("<h2>")[number]
    # Other images: one study, beside several of DICOM another one; a damaged file is reported in a study of its own.
    pictures = sorted(str(path) for path in study.iterdir())
    assert "<h2>" not in page.answer(pictures)
    mixed = page.answer([*films, *pictures])
    assert "Study 3 of 3: image1.png, image2.png" in mixed and "without a Study Instance UID" in mixed
    Path("cut.dcm").write_bytes(Path(films[0]).read_bytes()[:200])
    damaged = page.answer([*films, "cut.dcm"])
    assert "Study 3 of 3: cut.dcm</h2><p class='fault' role='alert'>Not classified. cut.dcm: its header" in damaged
    assert damaged.count("class='decision'") == 2


def open_sockets():
    """How many sockets this process has open, as Linux sees it."""
    gc.collect()
    links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.islink(link))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="takes Linux's /proc")
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_an_address_that_is_taken_leaves_no_socket_open(trained, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        before = open_sockets()
        for address in (["--port", str(taken.getsockname()[1])], ["--host", "203.0.113.1"]):
            assert app.main([str(trained), *address]) == 1
            assert "is in use, or not an address of this machine" in capsys.readouterr().err
            assert open_sockets() == before


def test_a_fault_after_the_start_closes_the_server(trained, monkeypatch):
    monkeypatch.setattr(server_room, "remove_expired", lambda folder: 1 / 0)
    monkeypatch.setattr(server_room.time, "sleep", lambda seconds: None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ZeroDivisionError):
        app.main([str(trained), "--port", str(port)])
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
