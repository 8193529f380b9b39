"""berth-vendor: what it writes, what it refuses, and that OpenSSL agrees with the certificates."""

import base64
import hashlib
import json
import re
import stat
import uuid

import pytest
from berth import BUILD, run, vendor
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LICENSE_EXTENSION = "2.25.244255721912295177021812022050223189361.1"
LICENSE_KEY_USAGE = "2.25.244255721912295177021812022050223189361.2"
URL = "https://cloud.example.com:22030"


@pytest.fixture
def own(tmp_path):
    """Keys of this test's own, for what changes them."""
    folder = tmp_path / "keys"
    vendor("init", "--dir", folder, "--name", "Example Vision GmbH", "--cloud-name", "cloud.example.com")
    return folder


def license_arguments(keys, out, **changes):
    given = {"server-id": "BERTH-1", "feature": "MVTec_HALCON", "version": "24.11",
             "edition": "Steady", "modules": "fc12", "count": "5", **changes}
    arguments = ["license", "--dir", keys]
    for name, value in given.items():
        arguments += [f"--{name.replace('_', '-')}", value]
    return [*arguments, "--out", out]


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


# python3-cryptography cannot read an OID with an arc of 128 bits; OpenSSL can.

def shown(path, *what):
    return run("openssl", "x509", "-noout", "-in", path, *what).stdout.strip()


def extension_of(path):
    lines = run("openssl", "asn1parse", "-in", path).stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.endswith(f":{LICENSE_EXTENSION}"))
    assert "OCTET STRING" in lines[at + 1]  # directly: not critical
    inner = bytes.fromhex(lines[at + 1].rsplit(":", 1)[1])
    assert inner[0] == 0x04  # OCTET STRING
    return json.loads(inner[2 if inner[1] < 0x80 else 2 + (inner[1] & 0x7f):])


def verify(text, public):
    """Checks a license file's only block as the design says, independently of Berth's code."""
    block, key_id, signature = re.search(
        r"-----BEGIN LICENSE-----\n(.*)-----END LICENSE-----\nsignature: (\S+) (\S+)\n", text, re.S).groups()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert key_id == hashlib.sha256(raw).hexdigest()[:16]
    public.verify(base64.b64decode(signature), b"berth-license-v1\n" + block.encode())
    return dict((line.split(":", 1)[0], line.split(":", 1)[1].strip()) for line in block.splitlines())


def test_init_layout(own):
    assert {p.name for p in (own / "cloud").iterdir()} == {"cloud.pem", "cloud.key", "vendor-ca.pem"}
    assert (own / "cloud" / "vendor-ca.pem").read_bytes() == (own / "vendor-ca.pem").read_bytes()
    private = sorted(p for p in own.rglob("*.key"))
    assert len(private) == 3
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert path.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    names = certificate(own / "cloud" / "cloud.pem").extensions.get_extension_for_class(
        x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "cloud.example.com"}
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1"}


def test_init_never_overwrites(own):
    before = {p: p.read_bytes() for p in own.rglob("*") if p.is_file()}
    done = vendor("init", "--dir", own, check=False)
    assert done.returncode == 1 and "never overwritten" in done.stderr
    assert {p: p.read_bytes() for p in own.rglob("*") if p.is_file()} == before


def test_openssl_accepts_the_chains(own, tmp_path):
    vendor("cloud-license", "--dir", own, "--server-id", "B-1", "--cloud-url", URL, "--out", tmp_path / "s")
    ca = own / "vendor-ca.pem"
    run("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, own / "cloud" / "cloud.pem")
    run("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca,
        tmp_path / "s" / "server-license.pem")
    for wrong, file in (("sslclient", own / "cloud" / "cloud.pem"),
                        ("sslserver", tmp_path / "s" / "server-license.pem")):
        assert run("openssl", "verify", "-purpose", wrong, "-CAfile", ca, file, check=False).returncode


def test_cloud_license(own, tmp_path):
    out = tmp_path / "s"
    done = vendor("cloud-license", "--dir", own, "--server-id", "BERTH-7F3A", "--cloud-url", URL, "--addon",
                  "borrow", "--valid-until", "2030-01-31", "--out", out)
    assert "PRIVATE" not in done.stdout
    assert {p.name for p in out.iterdir()} == {"server-license.pem", "server-license.key"}
    assert stat.S_IMODE((out / "server-license.key").stat().st_mode) == 0o600
    pem = out / "server-license.pem"
    assert shown(pem, "-subject") == "subject=CN = BERTH-7F3A"
    assert shown(pem, "-enddate") == "notAfter=Feb  1 00:00:00 2030 GMT"
    extension = extension_of(out / "server-license.pem")
    assert (extension["format"], extension["variant"], extension["addons"], extension["cloudUrl"]) == (
        1, "cloud-ready", ["borrow"], URL)
    assert [len(base64.b64decode(k)) for k in extension["licenseKeys"]] == [32]
    done = vendor("cloud-license", "--dir", own, "--server-id", "BERTH-7F3A", "--cloud-url", URL, "--out", out,
                  check=False)
    assert done.returncode == 1 and "not overwritten" in done.stderr


@pytest.mark.parametrize("arguments, status, message", [
    (["--server-id", "a b", "--cloud-url", URL], 1, "--server-id"),
    (["--server-id", "x" * 65, "--cloud-url", URL], 1, "--server-id"),
    (["--server-id", "", "--cloud-url", URL], 1, "--server-id"),
    (["--server-id", "A", "--cloud-url", "http://cloud.example.com"], 1, "--cloud-url"),
    (["--server-id", "A", "--cloud-url", "https://"], 1, "--cloud-url"),
    (["--server-id", "A", "--cloud-url", 'https://a","x":"b'], 1, "--cloud-url"),
    (["--server-id", "A", "--cloud-url", URL, "--addon", "everything"], 1, "--addon"),
    (["--server-id", "A", "--cloud-url", URL, "--valid-until", "tomorrow"], 1, "--valid-until"),
    (["--server-id", "A"], 2, "--cloud-url is missing"),
    (["--server-id", "A", "--server-id", "B", "--cloud-url", URL], 2, "twice"),
    (["--server-id", "A", "--cloud-url", URL, "--nonsense", "1"], 2, "--nonsense"),
])
def test_cloud_license_refuses(keys, tmp_path, arguments, status, message):
    done = vendor("cloud-license", "--dir", keys, *arguments, "--out", tmp_path / "s", check=False)
    assert done.returncode == status
    assert message in done.stderr
    assert not (tmp_path / "s" / "server-license.pem").exists()


def test_a_server_license_may_be_over_already(own, tmp_path):
    """As a vendor's tests want one: also from before the CA was made."""
    done = vendor("cloud-license", "--dir", own, "--server-id", "BERTH-1", "--cloud-url", URL,
                  "--valid-until", "2020-01-31", "--out", tmp_path / "a")
    assert "past" in done.stderr
    assert shown(tmp_path / "a" / "server-license.pem", "-enddate") == "notAfter=Feb  1 00:00:00 2020 GMT"


def test_certificates_of_a_plain_ca_tool(tmp_path):
    """OpenSSL's default CA has no key usage, its certificates what was asked for: that is enough."""
    def openssl(*arguments):
        run("openssl", *(tmp_path / a if "." in a and "=" not in a else a for a in arguments))

    extension = json.dumps({"format": 1, "variant": "cloud-ready", "addons": ["borrow"], "cloudUrl": URL,
                            "licenseKeys": [base64.b64encode(bytes(32)).decode()]})
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Plain CA")
    openssl("req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=PLAIN-1")
    for usage, good in ("clientAuth", True), ("serverAuth", False):  # the other is no server license
        (tmp_path / "leaf.ext").write_text(
            f"extendedKeyUsage={usage}\n{LICENSE_EXTENSION}="
            f"ASN1:FORMAT:HEX,OCTETSTRING:{extension.encode().hex()}\n")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "30", "-extfile", "leaf.ext", "-out", "leaf.pem")
        done = vendor("inspect", tmp_path / "leaf.pem", "--ca", tmp_path / "ca.pem", check=False)
        assert done.stdout.endswith("signature:   good\n"), done.stdout
        assert ("server ID:   PLAIN-1" in done.stdout) == good, done.stdout


def test_renew_keeps_the_key(own, tmp_path):
    arguments = ["cloud-license", "--dir", own, "--server-id", "BERTH-1", "--cloud-url", URL]
    vendor(*arguments, "--valid-until", "2027-01-01", "--out", tmp_path / "a")
    old, pem = (tmp_path / "a" / "server-license.key").read_bytes(), tmp_path / "a" / "server-license.pem"
    public = shown(pem, "-pubkey")
    vendor(*arguments, "--valid-until", "2031-01-01", "--renew", pem, "--out", tmp_path / "b")
    assert shown(tmp_path / "b" / "server-license.pem", "-pubkey") == public
    vendor(*arguments, "--valid-until", "2032-01-01", "--renew", pem, "--out", tmp_path / "a")
    assert shown(pem, "-pubkey") == public
    assert shown(pem, "-enddate") == "notAfter=Jan  2 00:00:00 2032 GMT"
    assert (tmp_path / "a" / "server-license.key").read_bytes() == old
    arguments[4] = "BERTH-2"
    done = vendor(*arguments, "--renew", pem, "--out", tmp_path / "c", check=False)
    assert done.returncode == 1 and "BERTH-1" in done.stderr
    other = tmp_path / "other"
    vendor("init", "--dir", other)
    arguments[2], arguments[4] = other, "BERTH-1"
    done = vendor(*arguments, "--renew", pem, "--out", tmp_path / "d", check=False)
    assert done.returncode == 1 and "not issued by" in done.stderr


def test_license_file(own, tmp_path):
    out = tmp_path / "license_a.dat"
    vendor(*license_arguments(own, out, valid_from="2026-01-01", valid_until="2027-11-24",
                              issued="2026-11-24T09:00:00+01:00", server_url="https://l.example.com:22022"))
    text = out.read_text()
    assert "\nserver=https://l.example.com:22022\n" in text
    key = serialization.load_pem_private_key((own / "license-key.key").read_bytes(), None)
    fields = verify(text, key.public_key())
    assert list(fields)[0] == "format"
    assert uuid.UUID(fields.pop("uuid")).version == 4
    assert fields == {"format": "1", "feature": "MVTec_HALCON", "version": "24.11", "edition": "Steady",
                      "modules": "fc12", "count": "5", "server-id": "BERTH-1",
                      "issued": "2026-11-24T08:00:00Z", "valid-from": "2026-01-01T00:00:00Z",
                      "valid-until": "2027-11-25T00:00:00Z"}
    vendor(*license_arguments(own, out, count="4"))  # issued anew: in its place
    assert "\ncount: 4\n" in out.read_text() and stat.S_IMODE(out.stat().st_mode) == 0o644
    for other in own / "license-key.key", own / "license-keys.txt":
        before = other.read_bytes()
        done = vendor(*license_arguments(own, other), check=False)
        assert done.returncode == 1 and "not overwritten" in done.stderr
        assert other.read_bytes() == before


@pytest.mark.parametrize("change, word", [
    ({"version": "24.11.0.0.0"}, "version"), ({"version": "v24"}, "version"), ({"version": ""}, "version"),
    ({"edition": "steady"}, "edition"), ({"modules": "cf"}, "modules"), ({"modules": "ff"}, "modules"),
    ({"count": "0"}, "count"), ({"count": "1000001"}, "count"), ({"count": "-1"}, "count"),
    ({"feature": "MVTec HALCON"}, "feature"), ({"feature": "a\nmust-x: 1"}, "feature"),
    ({"server-id": "x" * 65}, "server-id"), ({"uuid": "123"}, "uuid"), ({"issued": "now"}, "issued"),
    ({"valid_from": "2027-01-01", "valid_until": "2026-01-01"}, "valid-until"),
    ({"valid_until": "2027-02-30"}, "valid-until"), ({"server_url": "http://l.example.com"}, "server-url"),
])
def test_license_refuses_what_a_server_would(keys, tmp_path, change, word):
    done = vendor(*license_arguments(keys, tmp_path / "license.dat", **change), check=False)
    assert done.returncode == 1
    assert word in done.stderr
    assert not list(tmp_path.iterdir())


def test_rotation(own, tmp_path):
    vendor("cloud-license", "--dir", own, "--server-id", "BERTH-1", "--cloud-url", URL, "--out", tmp_path / "s")
    vendor(*license_arguments(own, tmp_path / "license_old.dat"))
    vendor("rotate-license-key", "--dir", own)
    vendor(*license_arguments(own, tmp_path / "license_new.dat", modules=""))
    text = (tmp_path / "license_new.dat").read_text()
    key_certificate = x509.load_pem_x509_certificate(text[text.index("-----BEGIN CERTIFICATE"):].encode())
    usage = run("openssl", "x509", "-noout", "-ext", "extendedKeyUsage", "-in", own / "license-key-2.pem").stdout
    assert usage.split()[-1] == LICENSE_KEY_USAGE
    assert isinstance(key_certificate.public_key(), Ed25519PublicKey)
    assert verify(text, key_certificate.public_key())["modules"] == ""
    # Both are good to a server whose license knows the first key alone.
    known = ["--ca", own / "vendor-ca.pem", "--server-license", tmp_path / "s" / "server-license.pem"]
    done = run(BUILD / "berth", "check-license", tmp_path / "license_old.dat", tmp_path / "license_new.dat", *known)
    assert done.stdout.count(": ok: ") == 2
    # A new server license trusts both directly.
    vendor("cloud-license", "--dir", own, "--server-id", "BERTH-2", "--cloud-url", URL, "--out", tmp_path / "t")
    assert len(extension_of(tmp_path / "t" / "server-license.pem")["licenseKeys"]) == 2


def test_inspect(own, tmp_path):
    vendor("cloud-license", "--dir", own, "--server-id", "BERTH-1", "--cloud-url", URL, "--out", tmp_path / "s")
    vendor(*license_arguments(own, tmp_path / "license.dat"))
    server = vendor("inspect", tmp_path / "s" / "server-license.pem", "--ca", own / "vendor-ca.pem").stdout
    assert "server license" in server and "BERTH-1" in server and URL in server
    assert "signature:   good" in vendor("inspect", own / "cloud" / "cloud.pem").stdout
    assert "CA certificate" in vendor("inspect", own / "vendor-ca.pem").stdout
    assert "signature:   good" in vendor("inspect", tmp_path / "license.dat", "--dir", own).stdout
    assert "not checked" in vendor("inspect", tmp_path / "license.dat").stdout
    secret = vendor("inspect", tmp_path / "s" / "server-license.key").stdout
    assert "private key" in secret and len(secret.splitlines()) == 1

    forged = tmp_path / "license_forged.dat"
    forged.write_text((tmp_path / "license.dat").read_text().replace("count: 5", "count: 50"))
    done = vendor("inspect", forged, "--dir", own, check=False)
    assert done.returncode == 1 and "refused:     signature" in done.stdout
    other = tmp_path / "other"
    vendor("init", "--dir", other)
    done = vendor("inspect", tmp_path / "s" / "server-license.pem", "--dir", other, check=False)
    assert done.returncode == 1 and "refused" in done.stdout


def test_usage():
    assert "cloud-license" in vendor("-h").stdout
    assert vendor("--version").stdout.startswith("berth-vendor ")
    assert vendor(check=False).returncode == 2
    assert vendor("nonsense", check=False).returncode == 2
    assert "usage: berth-vendor license --dir KEYS" in vendor("license", "-h").stdout
