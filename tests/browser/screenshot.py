"""Draw the picture of the page that the README shows: ``python tests/browser/screenshot.py``."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from browser.chromium import Visit, chromium

from tinygrad_stab.cli.targets import example, run
from tinygrad_stab.inspection import page

HERE = Path(__file__).parent


def main():
    loss, model = run("the example", example())
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = page(loss, Path(folder) / "page.html", model)
        visit = Visit(browser, path, viewport={"width": 1440, "height": 900})
        while "the sum is now" not in visit.text("#words") or "2 of 2" not in visit.text("#words"):
            visit.press("ArrowRight")  # to where a gradient becomes the sum of two
        visit.tab.screenshot(path=HERE / "page.png")
        visit.close()


if __name__ == "__main__":
    main()
