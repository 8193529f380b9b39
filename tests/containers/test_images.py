"""The images: what is in them, and that they come out the same again."""

import tarfile

import pytest

from engine import SERVICES, UID

BINARIES = {"gateway": ["berth-gateway"], "pool": ["berth-pool"], "trust": ["berth-trust"],
            "borrow": ["berth-borrow"], "tools": ["berth", "berth-cloud", "berth-vendor"]}
# MB; today's sizes stand in docs/containers.md.
LARGEST = {"gateway": 20, "pool": 20, "borrow": 20, "trust": 25, "tools": 25}
# What the engine itself adds to a container.
ENGINES = (".dockerenv", "dev", "proc", "sys", "etc")


def content(engine, image, folder):
    """Name → member of all that the image brings along."""
    container = engine.docker("create", image, "/none").stdout.strip()
    try:
        engine.docker("export", "-o", folder / "image.tar", container)
    finally:
        engine.docker("rm", container)
    with tarfile.open(folder / "image.tar") as tar:
        return {m.name.rstrip("/"): m for m in tar.getmembers()
                if m.name.split("/")[0] not in ENGINES}


@pytest.mark.parametrize("name", BINARIES)
def test_an_image_holds_its_binaries_their_libraries_and_nothing_else(built, name, tmp_path):
    members = content(built, f"berth/{name}", tmp_path)
    files = {n for n, m in members.items() if m.isfile()}
    binaries = {f"usr/bin/{b}" for b in BINARIES[name]}
    others = files - binaries
    assert binaries <= files
    assert others and all(".so" in n and n.startswith(("lib/", "lib64/", "usr/lib/"))
                          for n in others), others
    # No more than they load: each library is named by one of the other files.
    text = {n: tarfile_bytes(tmp_path, n) for n in files}
    for library in others:
        soname = library.rsplit("/", 1)[1].encode()
        assert any(soname in text[n] for n in files if n != library), library


def tarfile_bytes(folder, name):
    with tarfile.open(folder / "image.tar") as tar:
        return tar.extractfile(name).read()


@pytest.mark.parametrize("name", BINARIES)
def test_an_image_belongs_to_root_but_for_its_state(built, name, tmp_path):
    for path, m in content(built, f"berth/{name}", tmp_path).items():
        if path == "state":
            assert (m.uid, m.gid, m.mode & 0o7777) == (UID, UID, 0o700)
        else:
            assert (m.uid, m.gid) == (0, 0), path
            assert m.issym() or not m.mode & 0o6022, path


@pytest.mark.parametrize("name", BINARIES)
def test_an_image_is_small(built, name):
    assert built.inspect(f"berth/{name}")["Size"] < LARGEST[name] * 1_000_000


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_says_who_runs_it_and_how_its_health_is_asked(built, name):
    config = built.inspect(f"berth/{name}")["Config"]
    start = [f"/usr/bin/berth-{name}", "-c", "/etc/berth/config.yaml"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == start
    # Alive, not ready: where an engine restarts by this, the absence of a peer must not count.
    assert config["Healthcheck"]["Test"] == ["CMD", *start, "health", "alive"]


def test_the_tools_run_in_their_image(built):
    for name in BINARIES["tools"]:
        said = built.docker("run", "--rm", "--network", "none", "--read-only", "berth/tools",
                            f"/usr/bin/{name}", "--version").stdout
        assert said.startswith(f"{name} "), said


def test_the_same_sources_give_the_same_layers(built, layers_again):
    assert layers_again.result(timeout=600) == {n: built.layers(f"berth/{n}") for n in BINARIES}
    first, second = (built.inspect(i)["Id"] for i in ("berth/build", "berth/again-build"))
    assert first != second
