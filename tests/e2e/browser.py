"""A headless Chromium for the tests of the web page: one for a whole run, with what it complained
about and what it asked for kept, so that tests can look at both."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from berth import BUILD, wait_until

# The accessibility checks are axe-core's (MPL-2.0). It is installed when it is needed, never kept in
# the tree: this package carries it as a file.
AXE_REQUIREMENT = ("axe-playwright-python==0.1.8 "
                   "--hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n")
AXE_MEMBER = "axe_playwright_python/axe.min.js"

ZONE = "Europe/Berlin"


def axe_source():
    """The text of axe.min.js, or None with the reason printed."""
    kept = BUILD / "axe.min.js"
    if kept.exists():
        return kept.read_text()
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(AXE_REQUIREMENT)
        try:
            done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps",
                                   "--require-hashes", "-d", folder, "-r", wanted], timeout=120,
                                  capture_output=True, text=True, stdin=subprocess.DEVNULL)
            print(done.stderr)
        except subprocess.TimeoutExpired as e:
            print(e)
        for wheel in Path(folder).glob("*.whl"):
            text = zipfile.ZipFile(wheel).read(AXE_MEMBER).decode()
            kept.write_text(text)
            return text
    return None


class Browser:
    def __init__(self, downloads):
        self.downloads = Path(downloads)
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        options.accept_insecure_certs = True  # the server's certificate is a test's own
        flags = ["--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--disable-default-apps", "--force-device-scale-factor=1", "--lang=en-GB",
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        for flag in flags:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.add_experimental_option("prefs", {
            "download.default_directory": str(self.downloads), "download.prompt_for_download": False,
            "profile.default_content_setting_values.automatic_downloads": 1})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)
        self.requested = []  # URLs
        self.complaints = []  # of the console

    def quit(self):
        self.driver.quit()

    # -- pages --

    def look(self, width=1280, height=900, scheme="light", zone=ZONE):
        """What screen and zone the page believes in; for pages opened from now on."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=width < 600)
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.cdp("Emulation.setTimezoneOverride", timezoneId=zone)

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def open(self, url, forget=True):
        """Opens a page, without what an earlier test left in the tab, and waits for its data."""
        self.driver.get(url)
        if forget:
            self.driver.execute_script("sessionStorage.clear()")
            self.driver.get(url)
        wait_until(lambda: self.js("return document.documentElement.dataset.ready"), 20, "page ready")

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def module(self, name, expression, *arguments):
        """The value of a JavaScript expression of the module m, the arguments in a."""
        value = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1], [name, code, a] = arguments;"
            f"import(name).then((m) => {{ done({{value: {expression}}}); }})"
            ".catch((e) => done({error: String(e)}));", name, expression, list(arguments))
        assert "error" not in value, value
        return value.get("value")

    # -- parts of a page --

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def shown(self, selector):
        return bool(self.js("return document.querySelector(arguments[0])?.checkVisibility() ?? false",
                            selector))

    def wait_text(self, selector, *parts, seconds=20):
        def there():
            text = self.text(selector)
            assert all(p in text for p in parts), f"{selector}: {text!r}"
            return text
        return wait_until(there, seconds, f"{parts} in {selector}")

    def click(self, selector):
        self.find(selector).click()

    def fill(self, selector, text):
        element = self.find(selector)
        element.clear()
        element.send_keys(text)

    def set_value(self, selector, value):
        """For inputs that are typed in pieces (dates): sets the value as a picker does."""
        self.js("const n = document.querySelector(arguments[0]); n.value = arguments[1];"
                "n.dispatchEvent(new Event('input', {bubbles: true}));"
                "n.dispatchEvent(new Event('change', {bubbles: true}));", selector, value)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self):
        return self.js("const n = document.activeElement; return n.id || n.dataset.key || n.tagName")

    def tab_to(self, wanted, most=60):
        """Tab until the element with this id or data-key has the focus, as a person would."""
        for _ in range(most):
            if self.focused() == wanted:
                return
            self.press(Keys.TAB)
        raise AssertionError(f"Tab never came to {wanted}; last at {self.focused()}")

    # -- what happened --

    def collect(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        self.complaints += [e["message"] for e in self.driver.get_log("browser")
                            if e["level"] in ("SEVERE", "WARNING")]

    def violations(self):
        """Complaints of the Content-Security-Policy since the start."""
        self.collect()
        return [c for c in self.complaints if "Content Security Policy" in c or "Trusted" in c]

    def axe(self, source):
        """What axe-core finds on the page as it stands: [(impact, rule, where)]."""
        if not self.js("return typeof axe === 'object'"):
            self.cdp("Runtime.evaluate", expression=source)  # the policy does not bind the debugger
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((r) => done(r.violations)).catch((e) => done([{id: String(e), nodes: []}]));")
        return [(v.get("impact"), v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found]

    def downloaded(self, name, seconds=20):
        """The bytes of a file that was saved; the file is taken away."""
        def there():
            unfinished = list(self.downloads.glob("*.crdownload"))
            return not unfinished and (self.downloads / name).exists()
        wait_until(there, seconds, f"download of {name}")
        data = (self.downloads / name).read_bytes()
        (self.downloads / name).unlink()
        return data
