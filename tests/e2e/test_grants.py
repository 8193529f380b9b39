"""Grants of a running server, verified as docs/reference/grants.md says, with the openssl command and
without any code of Berth."""

import base64
import contextlib
import datetime
import hashlib
import json
import os
import secrets
import subprocess

import pytest
from berth import RpcError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HOST = "00:1a:2b:3c:4d:5e"


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout


def when(text):
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def verify(site, tmp, grant):
    """The payload, after steps 1 to 4."""
    assert set(grant) == {"payload", "signature", "delegation", "certificate"}
    (tmp / "cert.pem").write_text(grant["certificate"])
    openssl("verify", "-purpose", "sslclient", "-CAfile", site.keys / "vendor-ca.pem", tmp / "cert.pem")
    subject = openssl("x509", "-in", tmp / "cert.pem", "-noout", "-subject", "-nameopt",
                      "multiline").decode()
    assert f"commonName                = {site.server_id}\n" in subject
    (tmp / "key.pem").write_bytes(openssl("x509", "-in", tmp / "cert.pem", "-noout", "-pubkey"))
    delegation = json.loads(base64.b64decode(grant["delegation"], validate=True))
    assert delegation["format"] == 1
    signed = base64.b64decode(delegation["payload"], validate=True)
    (tmp / "signed").write_bytes(b"berth-delegation-v1\n" + signed)
    (tmp / "signature").write_bytes(base64.b64decode(delegation["signature"], validate=True))
    openssl("dgst", "-sha256", "-verify", tmp / "key.pem", "-signature", tmp / "signature", tmp / "signed")
    terms = json.loads(signed)
    assert terms["format"] == 1 and terms["serverId"] == site.server_id
    span = when(terms["validUntil"]) - when(terms["validFrom"])
    assert datetime.timedelta(0) < span <= datetime.timedelta(minutes=10)
    payload = base64.b64decode(grant["payload"], validate=True)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(terms["key"]))
    key.verify(base64.b64decode(grant["signature"]), b"berth-grant-v1\n" + payload)
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(grant["signature"]), b"berth-grant-v1\n" + payload + b" ")
    payload = json.loads(payload)
    assert when(terms["validFrom"]) <= when(payload["time"]) < when(terms["validUntil"])
    return payload


def test_a_grant_proves_the_answer(module_site, tmp_path):
    client = module_site.client()
    nonce, instance = secrets.token_bytes(32), secrets.token_hex(16)
    got = client.request(modules="fc", instanceId=instance, client={"hostId": HOST, "user": "u"},
                         nonce=base64.b64encode(nonce).decode())
    payload = verify(module_site, tmp_path, got["grant"])
    time = payload.pop("time")
    assert abs(when(time) - datetime.datetime.utcnow()) < datetime.timedelta(minutes=1)
    assert payload == {
        "format": 1, "nonce": base64.b64encode(nonce).decode(),
        "sessionIdHash": hashlib.sha256(got["sessionId"].encode()).hexdigest(),
        "instanceId": instance, "client": {"hostId": HOST}, "license": got["license"],
        "serverId": module_site.server_id, "revalidateWithin": got["revalidateWithin"]}

    other = base64.b64encode(secrets.token_bytes(16)).decode()
    again = client.call("RevalidateSessionV1", sessionId=got["sessionId"], nonce=other)
    payload = verify(module_site, tmp_path, again["grant"])
    assert payload["nonce"] == other and payload["instanceId"] == instance
    assert payload["license"] == got["license"]
    assert "grant" not in client.revalidate(got["sessionId"])
    client.give_back(got["sessionId"])


@pytest.mark.parametrize("more, field", [
    ({"client": {"hostId": HOST}}, "instanceId"),
    ({"instanceId": "i"}, "client.hostId"),
    ({"instanceId": "i", "client": {"hostname": "h"}}, "client.hostId"),
    ({"instanceId": "i", "client": {"hostId": HOST}, "nonce": "AAAA"}, "nonce"),
    ({"instanceId": "i", "client": {"hostId": HOST}, "nonce": "A" * 24 + "!"}, "nonce"),
])
def test_what_a_grant_needs(module_site, more, field):
    client = module_site.client()
    free = module_site.client().licenses()[0]["available"]
    with pytest.raises(RpcError) as e:
        client.request(modules="fc", **{"nonce": base64.b64encode(bytes(16)).decode(), **more})
    assert e.value.code == -32602 and e.value.data["field"] == field
    assert client.licenses()[0]["available"] == free


def test_grants_survive_a_restart_of_pool_and_trust(site, tmp_path):
    """The key is another one then; the session, and who it is for, are the same."""
    import signal
    from berth import wait_until
    site.license("a", count=1)
    site.start()
    client = site.client()
    nonce = base64.b64encode(bytes(range(16))).decode()
    got = client.request(instanceId="run", client={"hostId": HOST}, nonce=nonce)
    verify(site, tmp_path, got["grant"])

    def proven():
        with contextlib.suppress(RpcError):
            return client.call("RevalidateSessionV1", sessionId=got["sessionId"], nonce=nonce)
        return None
    for name in ("pool", "trust"):
        pid = site.child(name)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: site.child(name) != pid, 10, f"{name} restarted")
        client.close()
        payload = verify(site, tmp_path, wait_until(proven, 15, "a grant")["grant"])
        assert payload["instanceId"] == "run" and payload["client"] == {"hostId": HOST}
