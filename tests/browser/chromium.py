"""A headless Chromium for the tests, driven by Playwright; one that is on the system already."""

import os
import shutil
from contextlib import contextmanager

import pytest

# Set where the tests of the page must run: then a missing browser is a failure, not a skip.
REQUIRED = "TINYGRAD_STAB_BROWSER"


def executable():
    """The system's Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


def missing(what):
    if os.environ.get(REQUIRED):
        pytest.fail(f"{what} is missing, and {REQUIRED} says that it must be there")
    pytest.skip(f"needs {what}")


@contextmanager
def chromium():
    """A running browser; skips where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright: pip install -e '.[browser]'")
    path = executable()
    if path is None:
        missing("a Chromium on the path, such as Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page that is open: what a visitor does and sees, and what the browser complains of."""

    def __init__(self, browser, path, **settings):
        settings = {
            "viewport": {"width": 1280, "height": 800},
            "reduced_motion": "reduce",
        } | settings
        self.context = browser.new_context(**settings)
        self.tab = self.context.new_page()
        self.requests, self.complaints, self.dialogs = [], [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", self._refuse)
        self.tab.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error(e.violatedDirective))"
        )
        self.url = path.resolve().as_uri()
        self.tab.goto(self.url)
        self.tab.wait_for_selector("html[data-ready]")

    def _refuse(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def press(self, *keys):
        for key in keys:
            self.tab.keyboard.press(key)

    def text(self, selector):
        """What is written there, with the minus that numbers are read with."""
        return self.tab.locator(selector).first.text_content().replace("−", "-")

    def texts(self, selector):
        return [t.replace("−", "-") for t in self.tab.locator(selector).all_text_contents()]

    def box(self, name):
        """The box of a tensor or a closed module."""
        return self.tab.locator(f'g.box:has(title:text-is("{name}"))')

    def focused(self):
        return self.tab.evaluate("document.activeElement.getAttribute('aria-label')")

    def close(self):
        """Leave; nothing may have gone out, and nothing may have gone wrong."""
        self.context.close()
        assert self.requests == [self.url]
        assert self.complaints == []
        assert self.dialogs == []
