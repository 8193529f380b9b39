import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from berth import BUILD, Site, vendor  # noqa: E402


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """The vendor's keys: one set for a whole run."""
    assert (BUILD / "berth").exists(), f"no binaries in {BUILD}: build first"
    folder = tmp_path_factory.mktemp("vendor") / "keys"
    vendor("init", "--dir", folder, "--name", "Test Vendor")
    return folder


@pytest.fixture
def site(tmp_path, keys):
    """An installation that is not running yet; stopped afterwards."""
    site = Site(tmp_path, keys)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def module_site(tmp_path_factory, keys):
    """One running installation for all tests of a file that do not change it."""
    site = Site(tmp_path_factory.mktemp("site"), keys)
    site.license("steady", modules="fc12", count=5)
    site.start()
    yield site
    site.stop()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium. Tests that use it say pytestmark = pytest.mark.xdist_group("chromium"),
    so that a run on several workers has one of it."""
    from browser import Browser
    made = Browser(tmp_path_factory.mktemp("downloads"))
    yield made
    made.quit()
