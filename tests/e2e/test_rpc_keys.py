"""trust.md, "Who may talk to trust": the four processes over tls+tcp with `berth rpc-keys`."""

import shutil
import ssl
import socket
import stat

from berth import BUILD, free_port, run

PROCESSES = ("gateway", "pool", "trust", "borrow")


def test_rpc_keys_makes_one_key_per_process_and_overwrites_nothing(tmp_path):
    folder = tmp_path / "rpc"
    run(BUILD / "berth", "rpc-keys", folder)
    names = {"ca.pem"} | {f"{p}.{end}" for p in PROCESSES for end in ("pem", "key")}
    assert {f.name for f in folder.iterdir()} == names
    for process in PROCESSES:
        assert stat.S_IMODE((folder / f"{process}.key").stat().st_mode) == 0o600
    before = (folder / "pool.key").read_bytes()
    again = run(BUILD / "berth", "rpc-keys", folder, check=False)
    assert again.returncode == 1 and "not overwritten" in again.stderr
    assert (folder / "pool.key").read_bytes() == before
    assert run(BUILD / "berth", "rpc-keys", check=False).returncode == 2


def test_sessions_over_tls_between_the_processes(site):
    run(BUILD / "berth", "rpc-keys", site.folder / "rpc-keys")
    ports = {name: free_port() for name in ("pool", "trust", "borrow")}
    site.configure(rpc__keys="rpc-keys",
                   **{f"rpc__{name}": f"tls+tcp://127.0.0.1:{port}" for name, port in ports.items()})
    site.license("a", count=1)
    site.start()
    client = site.client()
    session = client.request()["sessionId"]
    client.revalidate(session)
    assert site.protection()["valid_license"] is True
    # Who has no certificate of this installation gets no word out of them.
    for port in ports.values():
        context = ssl.create_default_context(cafile=site.folder / "rpc-keys" / "ca.pem")
        context.check_hostname = False
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            plain.settimeout(5)
            try:
                with context.wrap_socket(plain) as tls:
                    assert tls.recv(1) == b""
            except ssl.SSLError as e:
                assert "required" in str(e).lower() or "alert" in str(e).lower()
    assert "did not return a certificate" in site.server.text()
    client.revalidate(session)


def test_one_address_may_be_given_and_the_others_stay_private(site):
    site.configure(rpc__trust=f"tcp://127.0.0.1:{free_port()}")
    site.license("a")
    site.start()
    site.client().request()


def test_refusals_say_what_to_do(site):
    site.configure(rpc__pool="tls+tcp://127.0.0.1:1")
    refused = run(BUILD / "berth", "check-config", site.config, check=False)
    assert refused.returncode == 1 and "rpc.keys" in refused.stderr
    assert "berth rpc-keys" in refused.stderr
    folder = site.folder / "rpc-keys"
    run(BUILD / "berth", "rpc-keys", folder)
    shutil.copy(folder / "gateway.key", folder / "pool.key")
    site.configure(rpc__keys="rpc-keys")
    refused = run(BUILD / "berth-pool", "-c", site.config, check=False)
    assert refused.returncode == 78 and "pool.key" in refused.stderr
    (folder / "ca.pem").unlink()
    refused = run(BUILD / "berth-pool", "-c", site.config, check=False)
    assert refused.returncode == 78 and "ca.pem: No such file or directory" in refused.stderr
