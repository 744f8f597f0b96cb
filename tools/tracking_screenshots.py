"""Pictures of MLflow's page as a researcher meets a study there: `python -m
tools.tracking_screenshots STUDY FOLDER`.

Starts `mlflow server` on loopback over the study's database, drives headless Chromium through its
DevTools protocol, and waits for what each picture should show, so that
an empty page is an error and not a picture. Needs chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.planning.study_files import stored_spec
from orchestrator.tracking.server import run_name
from orchestrator.tracking.tracker import tracking_uri
from record.arguments import new_folder
from record.command import begin_command
from record.schema import StudyPlan
from record.store import Store, StoreError
from record.study import StoredStudy
from tools.report_screenshots import QUIET, browser

SIZE = (1500, 950)
PATIENCE = 120.0
EXPAND = "button[data-component-id*=runnamecellrenderer]"  # next to the name of a run with children
SEARCH_CHARTS = "input[placeholder='Search metric charts']"
TRAINING = "workflowType=machine_learning"  # the other half of the page is for language models
CLOSE_ASSISTANT = "button[data-component-id='mlflow.assistant.chat_panel.close']"


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def mlflow_server(backend: str) -> Iterator[str]:
    """A server over a database while the block runs; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", backend]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            for _ in range(int(PATIENCE / 0.2)):
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5),
                ):
                    break
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"mlflow server ended: {log.read().decode()[-2000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            process.wait()


class Page:
    """One page of headless Chromium, driven over its DevTools protocol."""

    def __init__(self, socket_: Any) -> None:
        self.socket, self.count = socket_, 0

    async def call(self, method: str, **parameters: Any) -> Any:
        """One command; returns its result.

        Raises:
            RuntimeError: Chromium refuses it.
        """
        self.count += 1
        await self.socket.send_json({"id": self.count, "method": method, "params": parameters})
        while True:
            answer = await self.socket.receive_json()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    async def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            RuntimeError: it stays false; the message holds the page's text.
        """
        for _ in range(int(PATIENCE / 0.25)):
            if await self.value(script):
                return
            await asyncio.sleep(0.25)
        raise RuntimeError(
            f"never became true: {script}\n{await self.value('document.body.innerText')}"
        )

    async def shows(self, *texts: str) -> None:
        """Wait until the page's text holds all of these."""
        for text in texts:
            await self.until(f"document.body.innerText.includes({text!r})")

    async def click(self, selector: str) -> None:
        """Click the first element of a CSS selector, as soon as there is one."""
        await self.until(f"document.querySelector({selector!r}) !== null")
        await self.value(f"document.querySelector({selector!r}).click()")

    async def picture(self, target: Path) -> Path:
        """What is visible, as PNG, after a moment for what still moves."""
        await asyncio.sleep(1.5)
        shot = await self.call("Page.captureScreenshot", format="png")
        target.write_bytes(base64.b64decode(shot["data"]))
        return target


@contextlib.asynccontextmanager
async def chromium() -> Any:
    """A page of headless Chromium with a profile of its own.

    Raises:
        RuntimeError: no Chromium is installed, or it does not start.
    """
    import aiohttp

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = [
            browser(),
            *QUIET,
            size,
            f"--user-data-dir={profile}",
            "--remote-debugging-port=0",
            "about:blank",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            written = Path(profile, "DevToolsActivePort")
            for _ in range(int(PATIENCE / 0.2)):
                if written.exists() and written.read_text().count("\n"):
                    break
                await asyncio.sleep(0.2)
            port = written.read_text().splitlines()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = await answer.json()
                address = next(
                    page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"
                )
                async with session.ws_connect(address, max_msg_size=0) as connection:
                    page = Page(connection)
                    await page.call("Page.enable")
                    yield page
        finally:
            process.terminate()
            process.wait()


async def photograph(server: str, plan: StudyPlan, experiment: str, folder: Path) -> list[Path]:
    """The study found among the experiments, its runs under their parent, a trial's charts, its
    trials compared by Dice, the parent, and a figure of the report.
    """
    from mlflow import MlflowClient

    client = MlflowClient(server)
    runs = client.search_runs([experiment])
    parent = next(run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags)
    report = [item.path for item in client.list_artifacts(parent, "report")]
    figure = next(path for path in sorted(report, reverse=True) if path.endswith(".png"))
    folder.mkdir(parents=True, exist_ok=True)
    home, made = f"{server}/#/experiments", []
    async with chromium() as page:
        await page.call("Page.navigate", url=f"{home}?{TRAINING}")
        await page.shows("Model training", plan.name)
        await page.click(CLOSE_ASSISTANT)
        await page.call("Page.navigate", url=f"{home}/{experiment}/runs?{TRAINING}")
        await page.shows(f"study {plan.name}")
        await page.click(EXPAND)
        await page.shows(*(run_name(trial) for trial in plan.trials))
        made.append(await page.picture(folder / "mlflow-runs.png"))
        await page.call(
            "Page.navigate", url=f"{home}/{experiment}/runs?compareRunsMode=CHART&{TRAINING}"
        )
        await page.click(SEARCH_CHARTS)
        await page.value(f"document.querySelector({SEARCH_CHARTS!r}).focus()")
        await page.call("Input.insertText", text="loss|lr|val/dice")
        await page.until(
            "document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length > 1"
        )
        made.append(await page.picture(folder / "mlflow-charts.png"))
        ids = ",".join(f'"{run.info.run_id}"' for run in runs if run.info.run_id != parent)
        await page.call(
            "Page.navigate",
            url=f'{server}/#/compare-runs?runs=[{ids}]&experiments=["{experiment}"]',
        )
        await page.until(
            "[...document.querySelectorAll('svg text')].some(t => t.textContent === 'Dice')"
        )
        made.append(await page.picture(folder / "mlflow-compare.png"))
        await page.call("Page.navigate", url=f"{home}/{experiment}/runs/{parent}?{TRAINING}")
        await page.shows("Significance", "Child runs", "count/finished", "Dice/")
        made.append(await page.picture(folder / "mlflow-study.png"))
        await page.call(
            "Page.navigate", url=f"{home}/{experiment}/runs/{parent}/artifacts/{figure}?{TRAINING}"
        )
        await page.until("[...document.images].some(image => image.naturalWidth > 300)")
        made.append(await page.picture(folder / "mlflow-figure.png"))
    return made


def main() -> int:
    """Command line."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="python -m tools.tracking_screenshots",
        description=__doc__,
        epilog="example: python -m tools.tracking_screenshots runs/quickstart docs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", help="folder of a finished study: <storage>/<name>")
    parser.add_argument("folder", type=new_folder, help="where the pictures go")
    arguments = parser.parse_args()
    try:
        study = StoredStudy.opened(Store(arguments.study))
        return _pictures(study, tracking_uri(stored_spec(study), study.store), arguments.folder)
    except (RuntimeError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, StoreError | ValueError) else 1


def _pictures(study: StoredStudy, backend: str, folder: Path) -> int:
    browser()
    with mlflow_server(backend) as server:
        from mlflow import MlflowClient

        experiment = MlflowClient(server).get_experiment_by_name(study.plan.name)
        if experiment is None:
            print(
                f"error: {backend} holds no experiment of this study; python -m orchestrator.track "
                f"{study.store.uri}",
                file=sys.stderr,
            )
            return 1
        for picture in asyncio.run(
            photograph(server, study.plan, experiment.experiment_id, folder)
        ):
            print(picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
