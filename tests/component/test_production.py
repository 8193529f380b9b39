"""A build with -Dvendor_ca: the administrator cannot become the vendor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parents[1] / "common" / "vendor_ca.py"
CA = HERE / "production-ca.pem"
BUILD = Path(os.environ.get("BERTH_BUILD", HERE.parents[1] / "build"))
BERTH = BUILD / "tests" / "component" / "production_berth"
TRUST = BUILD / "tests" / "component" / "production_trust"

BASE = ("serve: {licenses: {tls: {certificate: c.pem, key: c.key}}}\n"
        "trust: {state_dir: state, server_license: sl%s}\n")


def run(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=30)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(BASE % "")
    return path


def test_the_key_is_not_demanded(config):
    assert run(BERTH, "check-config", config).returncode == 0


def test_the_key_is_an_error(config):
    config.write_text(BASE % ", vendor_ca: other.pem")
    for program in ((BERTH, "check-config", config), (TRUST, "-c", config)):
        done = run(*program)
        assert "trust.vendor_ca" in done.stderr and "compiled in" in done.stderr
        assert done.returncode == (78 if program[0] == TRUST else 1)


def test_the_environment_cannot_name_another(config):
    done = subprocess.run([BERTH, "check-config", config], capture_output=True, text=True,
                          env={**os.environ, "BERTH_TRUST_VENDOR_CA": "/other.pem"}, timeout=30)
    assert done.returncode == 1 and "compiled in" in done.stderr


def test_a_server_license_of_another_vendor_is_refused(config, tmp_path):
    keys = tmp_path / "keys"
    vendor = BUILD / "berth-vendor"
    assert run(vendor, "init", "--dir", keys).returncode == 0
    assert run(vendor, "cloud-license", "--dir", keys, "--server-id", "X", "--cloud-url",
               "https://localhost:1", "--out", tmp_path / "sl").returncode == 0
    (tmp_path / "state").mkdir()
    done = subprocess.run([TRUST, "-c", config], capture_output=True, text=True, timeout=30,
                          env={**os.environ, "BERTH_RPC_TRUST": f"ipc://{tmp_path}/trust",
                               "BERTH_OPS_TRUST": "127.0.0.1:0"})
    assert done.returncode == 1 and "not issued by the vendor" in done.stderr


def test_the_whole_file_is_compiled_in(tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(b"# \"two\"\\n\n" + CA.read_bytes() * 2)
    made = tmp_path / "out.c"
    assert run(sys.executable, SCRIPT, made, bundle).returncode == 0
    numbers = made.read_text().split("{")[1].split("}")[0]
    assert bytes(map(int, numbers.split(","))) == bundle.read_bytes() + b"\0"


def test_what_is_no_certificate_fails_the_build(tmp_path):
    for text in (b"", b"-----BEGIN PRIVATE KEY-----\n", CA.read_bytes() + b"\0"):
        (tmp_path / "ca").write_bytes(text)
        assert run(sys.executable, SCRIPT, tmp_path / "out.c", tmp_path / "ca").returncode != 0
    assert not (tmp_path / "out.c").exists()
