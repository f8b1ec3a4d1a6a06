"""Take the README's picture of a model's page: python tools/picture.py [PATH], docs/page.png by default.

It needs Playwright (pip install playwright) and a Chromium, as tests/test_browser.py does.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import charlstm

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "page.png")
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder, "page.html")
        charlstm.save_page(path, *charlstm.read_model_file(charlstm.PRETRAINED))
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1000, "height": 930}, color_scheme="light", reduced_motion="reduce")
        page.goto(path.as_uri())
        for label, value in [("Prompt", "Once upon a time"), ("Temperature", "0.7"), ("Seed", "5")]:
            page.get_by_label(label).fill(value)
        page.get_by_role("button", name="Write").click()
        page.get_by_role("status").filter(has_text="Done").wait_for(timeout=300_000)
        page.locator("#text span").nth(30).hover()
        page.screenshot(path=target)
        browser.close()
    print(f"{target}: {target.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
