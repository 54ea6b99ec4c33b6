"""Photograph pages (reports, the site) as people meet them: light and dark, at a desk's width and at a phone's, and on paper.

python scripts/make_screenshots.py report/report.html --output shots

Chromium and its driver are those of the tests (``scripts/test`` installs them), and selenium.
"""

from __future__ import annotations

import argparse
import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WIDTHS = (1400, 390, 360)
SCHEMES = ("light", "dark")
TALLEST = 8000
"""Pixels of a page that are shown; a browser makes no picture without end."""


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from selenium import webdriver

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None or shutil.which("chromedriver") is None:
        raise SystemExit("no Chromium here (Debian: apt-get install chromium chromium-driver)")
    with TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = found
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):  # fmt: skip
            options.add_argument(flag)
        driver = webdriver.Chrome(
            options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
        )
        try:
            yield driver
        finally:
            driver.quit()


def photograph(driver: Any, page: Path, width: int, scheme: str, clicks: tuple[str, ...] = ()) -> bytes:
    """The page from top to bottom, after a click on each of ``clicks``."""
    look = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", look)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get(page.resolve().as_uri())
    for selector in clicks:
        driver.find_element("css selector", selector).click()
    height = min(TALLEST, driver.execute_script("return document.documentElement.scrollHeight"))
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    return base64.b64decode(shot["data"])


def printed(driver: Any, page: Path) -> bytes:
    """The page as a PDF."""
    driver.get(page.resolve().as_uri())
    paper = {"printBackground": False, "paperWidth": 8.27, "paperHeight": 11.69}
    return base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", paper)["data"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=Path("shots"))
    parser.add_argument(
        "--click", action="append", default=[], help="A selector that is clicked first; may be repeated."
    )
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        for page in given.pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    shot = given.output / f"{page.stem}-{width}-{scheme}.png"
                    shot.write_bytes(photograph(driver, page, width, scheme, tuple(given.click)))
                    print(shot)
            (given.output / f"{page.stem}.pdf").write_bytes(printed(driver, page))


if __name__ == "__main__":
    main()
