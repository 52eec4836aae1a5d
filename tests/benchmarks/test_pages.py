"""The pages that people look at: small, quick, self-contained, and quiet in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.report.history import history_lines, history_page
from benchmarks.report.write import html_page, markdown_page, write_report
from tests.benchmarks.reports import made_up

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# What the browser asks for on its own, whatever the page.
BROWSERS_OWN = (
    "www.google.com/async",
    "update.googleapis.com",
    "clients2.google.com",
    "accounts.google.com",
)


def test_twelve_contenders_under_twelve_workloads_make_a_small_page_soon(tmp_path: Path) -> None:
    report = made_up(contenders=12, workloads=12)
    start = time.process_time()
    write_report(report, None, tmp_path)
    assert time.process_time() - start < 30  # the measured figure is in the records
    assert (tmp_path / "report.html").stat().st_size < 1_500_000


def test_a_page_refers_to_nothing_outside_itself() -> None:
    pages = [html_page(made_up()), history_page([made_up(seed=i) for i in range(3)], "abc")]
    for page in pages:
        assert not re.findall(r"(?:src|href)=[\"'](?!#)|@import|url\((?!#)", page)


def test_text_takes_the_pages_colour_so_that_it_reads_in_the_dark() -> None:
    page = html_page(made_up())
    assert "prefers-color-scheme: dark" in page
    assert "currentColor" in page


def test_user_text_is_escaped() -> None:
    page = html_page(made_up() | {"title": "<script>alert(1)</script>"})
    assert "<script>" not in page


def test_markdown_tells_every_contender_and_workload() -> None:
    text = markdown_page(made_up(contenders=3, workloads=2))
    assert len(re.findall(r"^\| [12] × 64 \| other0 cpu-fp32", text, re.MULTILINE)) == 4


def test_history_follows_each_contender_over_reports() -> None:
    reports = [made_up(slower=s, seed=i) for i, s in enumerate((1.0, 1.0, 1.3))]
    lines = {(x.quantity, x.contender): x for x in history_lines(reports)}
    found = lines["speedup", "student cpu-fp32"].values
    assert found[0] == pytest.approx(2.0, rel=0.02)
    assert found[2] == pytest.approx(2 / 1.3, rel=0.02)
    page = history_page(reports, ["a1", "b2", "c3"])
    assert all(label in page for label in ("a1", "b2", "c3"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("options", [[], ["--force-dark-mode"], ["--window-size=390,900"]])
def test_a_browser_shows_the_page_without_errors_or_requests(
    tmp_path: Path, options: list[str]
) -> None:
    page, picture, log = (tmp_path / name for name in ("report.html", "page.png", "net.json"))
    page.write_text(html_page(made_up(contenders=4, workloads=4)), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               "--hide-scrollbars", "--window-size=1040,2600", "--enable-logging=stderr",
               f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}", *options,
               f"--screenshot={picture}", page.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 20_000
    assert not [url for url in requested(log) if not any(host in url for host in BROWSERS_OWN)]


def requested(log: Path) -> set[str]:
    text = log.read_text(encoding="utf-8").rstrip().rstrip(",")
    try:
        events = json.loads(text)["events"]
    except ValueError:  # a browser that ends soon leaves the list open
        events = json.loads(text + "]}")["events"]
    urls = {event.get("params", {}).get("url", "") for event in events}
    return {url for url in urls if url.startswith(("http:", "https:", "ws:"))}
