"""The two demos of the README, as people run them."""

import os
import subprocess

import pytest
from berth import BUILD, ROOT, free_port


@pytest.mark.parametrize("arguments, shown", [
    ([], ["cloud-ready", '"result":null']),
    (["--dongle"], ["on-premises", '"reason":"dongle-absent"', "and is plugged in again"])])
def test_demo(tmp_path, arguments, shown):
    ports = {f"BERTH_DEMO_{name}": str(free_port()) for name in ("PORT", "ADMIN_PORT", "CLOUD_PORT")}
    ports |= {f"BERTH_OPS_{name}": f"127.0.0.1:{free_port()}"
              for name in ("POOL", "TRUST", "BORROW")}
    done = subprocess.run([ROOT / "dev" / "demo.sh", "--once", *arguments], capture_output=True,
                          text=True, timeout=120, stdin=subprocess.DEVNULL,
                          env={**os.environ, **ports, "BERTH_BUILD": str(BUILD),
                               "BERTH_DEMO": str(tmp_path / "demo")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("A session was served.\n")
    for text in shown:
        assert text in done.stdout
    after = done.stdout.split("plugged in again")[-1]
    assert '"result"' in after and '"error"' not in after
