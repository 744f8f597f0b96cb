"""The viewer in a browser and its server: masks that are switched, names that stay text, and who
gets an answer.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from orchestrator.view import main
from orchestrator.viewing import page as page_module
from orchestrator.viewing.page import embedded_page, write_embedded
from orchestrator.viewing.server import ViewerServer
from record.study import StoredStudy
from tests.orchestrator.viewing.studies import (
    CASES,
    HOSTILE,
    MODELS,
    TASK,
    finished_study,
    scenes_of,
)
from tools.report_screenshots import chromium

BROWSER = pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed")
WAIT = "--virtual-time-budget=20000"
# Waits for the case, then counts pixels of a plane with masks on and off. The truth's outline is
# white, and the first model's colour is orange where it lies on the image.
PROBE = """<script>
const shown = () => new Promise((done) => { const look = () =>
  document.documentElement.dataset.shown ? done() : setTimeout(look, 20); look(); });
const rest = () => new Promise((done) => setTimeout(done, 700));
const count = (name, wanted) => { const canvas = document.getElementById(name);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0;
  for (let p = 0; p < data.length; p += 4) n += wanted(data[p], data[p + 1], data[p + 2]);
  return n; };
const orange = (r, g, b) => r - b > 60, white = (r, g, b) => r > 250 && b > 250;
(async () => {
  await shown(); await rest();
  const room = (one) => one.getBoundingClientRect();
  const planes = Array.from(document.querySelectorAll("#planes figure"), room);
  const high = Math.max(...planes.map((one) => one.bottom)) <= innerHeight;
  const shapes = Array.from(document.querySelectorAll("canvas"), room);
  const fits = high && shapes.every((one) => Math.abs(one.width - one.height) < 2);
  document.getElementById("cross").click(); await rest();
  const boxes = document.querySelectorAll("#layers input"), found = {};
  const counted = () => ["axial", "coronal", "sagittal", "3D"].map((name) => count(name, orange));
  const labels = document.querySelectorAll(".layer label");
  found.layers = Array.from(labels, (one) => one.textContent.trim());
  found.disabled = Array.from(boxes, (one) => one.disabled);
  found.fits = fits || JSON.stringify([innerWidth, innerHeight, planes, shapes]);
  found.on = counted();
  found.outline = count("axial", white);
  boxes[1].click(); await rest();
  found.off = counted();
  boxes[0].click(); await rest();
  found.bare = count("axial", white);
  boxes[1].click(); await rest();
  const slider = document.querySelector("#planes input");
  slider.value = 0; slider.dispatchEvent(new Event("input")); await rest();
  found.below = count("axial", orange);
  location.hash = "nowhere/to be found"; await rest();
  found.lost = document.getElementById("notes").textContent;
  document.title = JSON.stringify(found);
})().catch((error) => { document.title = String(error.stack); });
</script></body>"""


@pytest.mark.slow
@BROWSER
def test_masks_are_switched_on_and_off_in_three_planes_and_3d(tmp_path: Path) -> None:
    store = finished_study(tmp_path)
    assert write_embedded(StoredStudy.opened(store)) == []
    written = Path(store.uri) / "report" / "viewer.html"
    probed = written.with_name("probed.html")
    probed.write_text(written.read_text().replace("</body>", PROBE))
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    dom = chromium(probed, WAIT, "--window-size=1600,1000", offline, "--dump-dom")
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert title
    found = json.loads(title[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert found["fits"] is True  # all four views in one window, and square
    assert found["layers"] == ["truth", *MODELS]
    assert found["disabled"] == [False, False, False, True]
    # the box is 6 x 8 of 20 x 16 voxels across, 640 pixels the longer edge
    assert found["on"][0] == pytest.approx(6 * 8 * 32 * 32, rel=0.15)
    assert all(pixels > 2000 for pixels in found["on"])
    assert found["off"][:3] == [0, 0, 0]
    assert found["off"][3] < 300  # the letter R of the axes
    assert found["outline"] - found["bare"] > 1.5 * 2 * (6 + 8) * 32  # the image is white, too
    assert found["below"] == 0
    assert "medvision view STUDY --task 'nowhere' --case 'to be found'" in found["lost"]


@pytest.mark.slow
@BROWSER
def test_hostile_names_are_shown_as_text(tmp_path: Path) -> None:
    store = finished_study(tmp_path)
    write_embedded(StoredStudy.opened(store))
    written = Path(store.uri) / "report" / "viewer.html"
    key = f"{quote(TASK, safe='')}/{quote(HOSTILE, safe='')}"
    dom = chromium(f"{written.resolve().as_uri()}#{key}", WAIT, "--dump-dom")
    assert "<img" not in dom.replace("\\u003c", "")
    assert "&lt;img src=x onerror=alert(1)&gt;" in dom
    assert "nothing&lt;/script&gt;&lt;b&gt;" in dom
    assert "<title>boxes&lt;/title&gt;: cases</title>" in dom
    assert "data-shown=" in dom
    assert 'data-shown="nothing"' not in dom


def test_a_file_of_a_study_never_outgrows_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = scenes_of(finished_study(tmp_path))
    whole, missing = embedded_page(scenes)
    assert missing == []
    stored = [json.loads(one) for one in re.findall(r'class="scene">(.*?)</script>', whole)]
    assert [one["case"] for one in stored] == list(CASES)
    monkeypatch.setattr(page_module, "SMALLEST", 8)
    monkeypatch.setattr(page_module, "MOST_BYTES", 9000)
    small, missing = embedded_page(scenes)
    texts = re.findall(r'class="scene">(.*?)</script>', small)
    assert 0 < sum(map(len, texts)) <= 9000
    assert any("coarser grid" in text for text in texts)
    monkeypatch.setattr(page_module, "MOST_BYTES", 300)
    none, missing = embedded_page(scenes)
    assert 'class="scene"' not in none
    assert len(missing) == 3
    assert "too large for viewer.html beside the others" in missing[0]
    monkeypatch.setattr(page_module, "LARGEST", 100)
    assert "its file is too large" in embedded_page(scenes)[1][0]


def test_a_file_is_written_again_only_after_other_results(tmp_path: Path) -> None:
    store = finished_study(tmp_path)
    write_embedded(StoredStudy.opened(store))
    written = store.read("report/viewer.html") or b""
    (tmp_path / "data").rename(tmp_path / "moved")  # nothing is read where nothing is new
    assert write_embedded(StoredStudy.opened(store)) == []
    marker = store.commits()["e1"]
    store.save("commits/e1.json", marker.model_copy(update={"sha256": {"cases": "other"}}))
    assert "there is no folder" in write_embedded(StoredStudy.opened(store))[0]
    (tmp_path / "moved").rename(tmp_path / "data")
    assert write_embedded(StoredStudy.opened(store)) == []
    assert store.read("report/viewer.html") not in (written, None)


def test_images_that_are_gone_leave_no_viewer_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = finished_study(tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    assert main([store.uri, "--write"]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main([store.uri, "--write", "--data", str(tmp_path / "moved")]) == 0
    assert store.names("report") == ["viewer.html"]
    assert main([store.uri, "--write"]) == 2  # that of before stays, and does not count as written
    assert "nothing is written" in capsys.readouterr().err
    assert store.names("report") == ["viewer.html"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--case", "no such"], "is none of the 3 tested cases"),
        (["--task", "Task00"], "the study has Task99_Boxes"),
        (["--data", "/dev/null/no"], "there is no folder"),
    ],
)
def test_a_wrong_case_task_or_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    store = finished_study(tmp_path)
    try:
        code = main([store.uri, *arguments])
    except SystemExit as end:
        code = int(str(end.code))
    assert code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ViewerServer]:
    with ViewerServer(scenes_of(finished_study(tmp_path)), (TASK, HOSTILE)) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def answer(server: ViewerServer, path: str, host: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host} if host else {})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def test_the_server_answers_this_machine_and_only_its_secret_address(server: ViewerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    folder = urlsplit(server.address).path
    asked = f"{folder}case?task={TASK}&case="
    assert answer(server, folder)[0] == 200
    status, text = answer(server, asked + quote(HOSTILE))
    assert status == 200
    assert json.loads(text)["case"] == HOSTILE
    assert answer(server, "/")[0] == 404
    assert answer(server, "/case?task=x&case=y")[0] == 404
    assert answer(server, f"{folder}../../etc/passwd")[0] == 404
    assert answer(server, folder, host=f"attacker.example:{server.server_port}")[0] == 403
    status, text = answer(server, f"{asked}..%2F..%2Fsecret")
    assert status == 404
    assert "no test case '../../secret'" in text


@pytest.mark.slow
@BROWSER
def test_the_served_page_opens_with_the_wanted_case(server: ViewerServer) -> None:
    dom = chromium(server.address, WAIT, "--dump-dom")
    assert "Dice 0.800, 288 voxels" in dom
    assert "Its mask is empty." in dom
    assert "&lt;img src=x onerror=alert(1)&gt;'\"&amp; (worst)" in dom
    assert dom.count("<option") >= len(CASES)


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    store = finished_study(tmp_path)
    command = [sys.executable, "-m", "orchestrator.cli", "view", store.uri, "--case", "good"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = urlsplit(process.stdout.readline().strip())
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=60)
        connection.request("GET", address.path)
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert address.hostname == "127.0.0.1"
