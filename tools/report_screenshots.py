"""Pictures of a report as a reader sees it: `python -m tools.report_screenshots STUDY/report
FOLDER`.

The page and the viewer of cases in Chromium (wide, laptop, dark, phone), and the LaTeX as PDF
pages. Needs chromium, pdflatex and pdftoppm.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from record import paths
from record.arguments import folder, new_folder
from record.command import begin_command

VIEWS = {
    "wide": (1600, 6000, "1"),
    "laptop": (1200, 6000, "1"),
    "dark": (1200, 6000, "0"),
    "phone": (390, 9000, "1"),
}
NARROWEST = 500  # pixels of a window of headless Chromium; a narrower page stands in a frame
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def browser() -> str:
    """The program of an installed Chromium.

    Raises:
        RuntimeError: none is installed.
    """
    program = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if program is None:
        raise RuntimeError("no Chromium is on the PATH; on Debian: apt-get install chromium")
    return program


def chromium(page: Path | str, *arguments: str) -> str:
    """Run headless Chromium with a profile of its own over a page, a file or an address of this
    machine; returns what it printed.

    Raises:
        RuntimeError: no Chromium is installed, or it fails.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser(),
            *QUIET,
            f"--user-data-dir={profile}",
            *arguments,
            page if isinstance(page, str) else page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(
            f"Chromium failed with {done.returncode} on {page}: {done.stderr[-2000:]}"
        )
    return done.stdout


def photograph(page: Path, folder: Path) -> list[Path]:
    """One PNG per view of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (width, height, scheme) in VIEWS.items():
        target = folder / f"{page.stem}-{name}.png"
        shown = page
        if width < NARROWEST:
            shown = folder / f"{page.stem}-{name}.html"
            shown.write_text(
                f'<body style="margin:0"><iframe src="{page.resolve().as_uri()}" '
                f'style="border:0;width:{width}px;height:{height}px"></iframe>'
            )
        chromium(
            shown,
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={scheme}",
            "--virtual-time-budget=5000",  # for pages that unpack what they show
            f"--screenshot={target.resolve()}",
        )
        made.append(target)
    return made


def compile_latex(report: Path, folder: Path) -> Path:
    """Compile `report.tex` of a report in a copy of it; returns the PDF.

    Raises:
        RuntimeError: LaTeX stops with an error; the message holds the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in [*report.glob("*.tex"), *report.glob("*.pdf")]:
        shutil.copy(source, folder)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise RuntimeError(f"pdflatex failed on {report}: {done.stdout[-2000:]}")
    return folder / "report.pdf"


def main() -> int:
    """Command line."""
    begin_command()
    parser = argparse.ArgumentParser(prog="python -m tools.report_screenshots", description=__doc__)
    parser.add_argument("report", type=folder, help="the folder that holds report.html")
    parser.add_argument("folder", type=new_folder, help="where the pictures go")
    arguments = parser.parse_args()
    page = arguments.report / paths.HTML
    if not page.is_file():
        parser.error(f"{arguments.report} holds no {paths.HTML}; make it: python -m reports.build")
    try:
        viewer = page.with_name(paths.VIEWER)
        for shown in (page, viewer) if viewer.is_file() else (page,):
            for picture in photograph(shown, arguments.folder):
                print(picture)
        pdf = compile_latex(arguments.report, arguments.folder / "latex")
        subprocess.run(
            ["pdftoppm", "-r", "80", "-png", str(pdf), str(arguments.folder / "page")], check=True
        )
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(pdf)
    return 0


if __name__ == "__main__":
    sys.exit(main())
