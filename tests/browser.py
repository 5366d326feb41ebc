"""A real browser (headless Chromium) for tests that look at pages."""

import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PROGRAMS = ("chromium", "chromedriver")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900", "--disable-gpu")


class Browser:
    """Chromium with a page open.

    Attributes
    ----------
    driver
        Selenium's driver.
    """

    def __init__(self):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for option in OPTIONS:
            options.add_argument(option)
        self.driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))

    def open(self, path):
        """Open a file."""
        self.driver.get(path.absolute().as_uri())

    def run(self, script, *arguments):
        """Run JavaScript and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, condition, seconds=20):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition.strip()})"):
            assert time.monotonic() < end, f"waited in vain for {condition}"
            time.sleep(0.05)

    def errors(self):
        """Return the errors that the console shows, since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="session")
def browser():
    """Chromium; tests that need it are skipped where it is not installed."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} are not installed: apt-get install chromium chromium-driver")
    browser = Browser()
    yield browser
    browser.driver.quit()
