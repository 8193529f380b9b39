import contextlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from berth import ROOT  # noqa: E402
from engine import Bridge, CannotRun, Engine, Network, Stack, run  # noqa: E402

TARGETS = ("build", "gateway", "pool", "trust", "borrow", "tools")


@contextlib.contextmanager
def running(engine, network):
    """The engine runs meanwhile; the network is made for it."""
    try:
        made = network()
        try:
            engine.start(made)
            yield made
        finally:
            engine.stop()
            made.close()
    except CannotRun as e:
        pytest.skip(f"no container engine runs here: {e}")


@pytest.fixture(scope="session")
def built():
    """An engine without containers' networks, in which the images were built from the tree."""
    try:
        Engine.check_machine()
    except CannotRun as e:
        pytest.skip(f"no container engine runs here: {e}")
    engine = Engine()
    try:
        with running(engine, Bridge):
            if engine.docker("inspect", "berth/base", check=False).returncode:
                run(ROOT / "deploy" / "base-image.sh", "berth/base", env=engine.env, timeout=900)
            for target in TARGETS:
                engine.build(target, f"berth/{target}")
            yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def engine(built):
    """The same engine, started anew in a network of its own."""
    built.stop()
    with running(built, Network) as network:
        built.network = network
        yield built


def build_again(engine, folder):
    """Layers of the images, built later and of other files: the compiler runs anew, because one
    file more is there, and so do the last stages; the engine's cache would look at content only."""
    tree, last = folder / "tree", folder / "last"
    names = run("git", "ls-files", "-z").stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    (tree / "tools" / "more.txt").write_text("Nothing is built of this.\n")
    engine.build("build", "berth/again-build", tree)
    stages = (ROOT / "Dockerfile").read_text().partition("\nFROM scratch ")
    last.mkdir()
    (last / "Dockerfile").write_text("FROM berth/again-build AS build\n" + "".join(stages[1:]))
    for target in TARGETS[1:]:
        engine.build(target, f"berth/again-{target}", last, "--no-cache")
    return {target: engine.layers(f"berth/again-{target}") for target in TARGETS[1:]}


@pytest.fixture(scope="session")
def layers_again(engine, tmp_path_factory):
    """Comes while the tests of the containers wait for this and that."""
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(build_again, engine, tmp_path_factory.mktemp("again"))


@pytest.fixture(scope="session")
def stack(engine, layers_again):
    """The demo, brought up from nothing by the shipped Compose files."""
    stack = Stack(engine, engine.network)
    stack.down("-v")
    stack.seconds_to_up = stack.up()
    yield stack
    stack.down("-v")


@pytest.fixture(autouse=True)
def log_on_failure(request):
    """What the containers said during a test that failed."""
    began = time.time()
    yield
    report = getattr(request.node, "report", None)
    if report is not None and report.failed and "stack" in request.fixturenames:
        stack = request.getfixturevalue("stack")
        for service in ("trust", "pool", "borrow", "gateway"):
            said = stack.engine.docker("logs", "--since", str(int(began)), "--tail", "40",
                                       stack.container(service), check=False)
            print(f"-- {service}\n{said.stdout}{said.stderr}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.report = outcome.get_result()
