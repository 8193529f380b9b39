"""berth-vendor dongle-license: whose key it certifies, and what it wants to see before."""

import datetime

import pytest
from berth import BUILD, run, vendor
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from dongle import Tokens, make_license
from test_dongle import Trust
from test_vendor import extension_of, shown

POLICY = x509.ObjectIdentifier("1.3.6.1.4.1.41482.3.8")
PEM = serialization.Encoding.PEM


def pem_of(public):
    return public.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def request(key, path):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whatever the token says")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    path.write_bytes(csr.public_bytes(PEM))
    return path


class Maker:
    """A maker of tokens: its root, and the certificate in a token that attests keys."""

    def __init__(self, folder, stem="maker"):
        self.folder = folder
        self.root_key, self.token_key = (ec.generate_private_key(ec.SECP256R1()) for _ in "ab")
        self.root = self.sign(f"{stem} root", self.root_key.public_key(), f"{stem} root",
                              self.root_key, True, f"{stem}-root.pem")
        self.token = self.sign("token", self.token_key.public_key(), f"{stem} root", self.root_key,
                               True, f"{stem}-token.pem")

    def sign(self, subject, public, issuer, by, ca, file, policy=None):
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder()
                   .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
                   .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
                   .public_key(public).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=30)))
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        if policy:
            builder = builder.add_extension(x509.UnrecognizedExtension(POLICY, policy), False)
        path = self.folder / file
        path.write_bytes(builder.sign(by, hashes.SHA256()).public_bytes(PEM))
        return path

    def attest(self, public, slot="9e", policy=b"\1\1", file="attestation.pem"):
        return self.sign(f"YubiKey PIV Attestation {slot}", public, "token", self.token_key, False,
                         file, policy)


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


def order(keys, tmp_path, *arguments, check=True):
    return vendor("dongle-license", "--dir", keys, "--server-id", "BERTH-D-1", "--out",
                  tmp_path / "out.pem", *arguments, check=check)


@pytest.mark.parametrize("kind", ["p256", "rsa"])
@pytest.mark.parametrize("form", ["request", "public"])
def test_certifies_the_key_of_a_request(keys, tmp_path, kind, form):
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else \
        rsa.generate_private_key(65537, 2048)
    path = tmp_path / "in.pem"
    if form == "request":
        request(key, path)
    else:
        path.write_bytes(pem_of(key.public_key()))
    done = order(keys, tmp_path, "--csr", path, "--unattested", "--valid-until", "2030-01-31")
    out = tmp_path / "out.pem"
    assert "BERTH-D-1" in done.stdout and "ykman piv certificates import 9e" in done.stdout
    assert run("openssl", "x509", "-noout", "-pubkey", "-in", out).stdout.encode() == \
        pem_of(key.public_key())
    assert shown(out, "-subject") == "subject=CN = BERTH-D-1"
    assert shown(out, "-enddate") == "notAfter=Feb  1 00:00:00 2030 GMT"
    extension = extension_of(out)
    assert extension["variant"] == "on-premises" and extension["addons"] == []
    assert len(extension["licenseKeys"]) == 1 and "cloudUrl" not in extension
    run("openssl", "verify", "-purpose", "sslclient", "-CAfile", keys / "vendor-ca.pem", out)
    assert "on-premises" in vendor("inspect", out, "--dir", keys).stdout


def test_attested(keys, tmp_path, maker, key):
    files = [maker.attest(key.public_key()), maker.token, maker.root]
    csr = request(key, tmp_path / "in.pem")
    done = order(keys, tmp_path, "--csr", csr, "--attestation", *files)
    fingerprint = run("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", maker.root)
    assert fingerprint.stdout.split("=")[1].strip().replace(":", "").lower() in done.stdout
    assert (tmp_path / "out.pem").exists()


def wrong_attestations(maker, key):
    other = ec.generate_private_key(ec.SECP256R1())
    stranger = Maker(maker.folder, "stranger")
    stranger_root_same_name = maker.sign("maker root", other.public_key(), "maker root", other,
                                         True, "same-name.pem")
    good = maker.attest(key.public_key())
    return {
        "another key": [maker.attest(other.public_key(), file="a.pem"), maker.token, maker.root],
        "does not lead to": [good, maker.token, stranger.root],
        "does not lead to ": [good, maker.token, stranger_root_same_name],
        "does not lead to  ": [good, maker.root],
        "must end with": [good, maker.token],
        "must end with ": [maker.root],
        "not for 9e": [maker.attest(key.public_key(), "9a", file="b.pem"), maker.token, maker.root],
        "PIN or a touch": [maker.attest(key.public_key(), policy=b"\2\1", file="c.pem"),
                           maker.token, maker.root],
        "PIN or a touch ": [maker.attest(key.public_key(), policy=b"\1\2", file="d.pem"),
                            maker.token, maker.root],
        "not a certificate": [maker.folder / "in.pem", maker.token, maker.root],
    }


def test_wrong_attestations(keys, tmp_path, maker, key):
    csr = request(key, tmp_path / "in.pem")
    for text, files in wrong_attestations(maker, key).items():
        done = order(keys, tmp_path, "--csr", csr, "--attestation", *files, check=False)
        assert done.returncode == 1 and text.strip() in done.stderr, (text, done)
        assert not (tmp_path / "out.pem").exists()


def test_what_is_refused(keys, tmp_path, key):
    csr = request(key, tmp_path / "in.pem")
    p384 = request(ec.generate_private_key(ec.SECP384R1()), tmp_path / "p384.pem")
    forged = tmp_path / "forged.pem"
    der = bytearray(x509.load_pem_x509_csr(csr.read_bytes()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    (tmp_path / "forged.der").write_bytes(der)
    run("openssl", "req", "-inform", "DER", "-in", tmp_path / "forged.der", "-out", forged)
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing")
    cases = [
        (2, "--attestation", ["--csr", csr]),
        (2, "--attestation", ["--csr", csr, "--unattested", "--attestation", csr]),
        (2, "--token", []),
        (1, "readers are plugged in", ["--token"]),
        (2, "--token", ["--csr", csr, "--token", "--unattested"]),
        (2, "no value", ["--csr", csr, "--unattested=yes"]),
        (1, "cloud-ready", ["--csr", csr, "--unattested", "--addon", "borrow"]),
        (1, "P-256", ["--csr", p384, "--unattested"]),
        (1, "good signature", ["--csr", forged, "--unattested"]),
        (1, "good signature", ["--csr", junk, "--unattested"]),
        (1, "nowhere", ["--csr", tmp_path / "nowhere", "--unattested"]),
        (1, "--valid-until", ["--csr", csr, "--unattested", "--valid-until", "soon"]),
    ]
    for code, text, arguments in cases:
        done = order(keys, tmp_path, *arguments, check=False)
        assert done.returncode == code and text in done.stderr, (arguments, done)
        assert not (tmp_path / "out.pem").exists()


def test_does_not_overwrite(keys, tmp_path, key):
    csr = request(key, tmp_path / "in.pem")
    order(keys, tmp_path, "--csr", csr, "--unattested")
    before = (tmp_path / "out.pem").read_bytes()
    assert order(keys, tmp_path, "--csr", csr, "--unattested", check=False).returncode == 1
    assert (tmp_path / "out.pem").read_bytes() == before


# ---- --token ----

@pytest.fixture
def tokens():
    tokens = Tokens()
    yield tokens
    tokens.stop()


def provision(site, tokens, *arguments, check=True, out="out.pem"):
    return run(BUILD / "berth-vendor", "dongle-license", "--dir", site.keys, "--server-id",
               site.server_id, "--token", "--out", site.folder / out, *arguments, check=check,
               env=tokens.environment)


@pytest.mark.parametrize("cipher", ["3des", "aes192"])
@pytest.mark.parametrize("make", ["notifies", "plain", "composite"])
def test_a_new_token_becomes_a_dongle_that_serves(site, tokens, cipher, make):
    tokens.plug_blank(cipher, make)
    done = provision(site, tokens, "--valid-until", "2030-01-31")
    assert "is a dongle now" in done.stdout and "change-management-key" in done.stdout
    assert shown(site.folder / "out.pem", "-subject") == f"subject=CN = {site.server_id}"
    assert shown(site.folder / "out.pem", "-enddate") == "notAfter=Feb  1 00:00:00 2030 GMT"
    trust = Trust(site, tokens).serves()
    assert trust.process.stop() == 0
    again = provision(site, tokens, check=False, out="again.pem")
    assert again.returncode == 1 and "slot 9E already" in again.stderr
    assert not (site.folder / "again.pem").exists()


def test_the_management_key(site, tokens):
    tokens.plug_blank("3des")
    key = site.folder / "management"
    for text, wanted in (("00" * 24, "not the token's management key"), ("0102", "hex digits"),
                         ("zz" * 24, "hex digits"), ("01" * 16, "another length"),
                         ("01" * 32, "another length")):
        key.write_text(text + "\n")
        done = provision(site, tokens, "--management-key-file", key, check=False)
        assert done.returncode == 1 and wanted in done.stderr, (text, done)
        assert text not in done.stderr and not (site.folder / "out.pem").exists()
    key.write_text("0102030405060708" * 3 + "\r\n")
    assert "change-management-key" not in \
        provision(site, tokens, "--management-key-file", key).stdout


def test_what_stands_in_the_way_of_making_a_dongle(site, tokens, tmp_path):
    done = provision(site, tokens, check=False)
    assert done.returncode == 1 and "0 USB smart card readers" in done.stderr
    assert "Plug in the token" in done.stderr
    tokens.plug_blank("3des", port=1)
    tokens.plug_blank("3des", port=2)
    assert "2 USB smart card readers" in provision(site, tokens, check=False).stderr
    tokens.unplug(port=2)
    tokens.command("claim", "busy")
    assert "pcscd" in provision(site, tokens, check=False).stderr
    tokens.command("claim", "free")
    for fault, wanted in (("no-piv", "without the PIV application"), ("no-card", "no card"),
                          ("silent", "does not answer"), ("wrong-signature", "not by the key"),
                          ("wrong-response", "not the token's management key")):
        tokens.unplug()
        tokens.plug_blank("3des")
        tokens.fault(fault)
        done = provision(site, tokens, check=False)
        assert done.returncode == 1 and wanted in done.stderr, (fault, done)
        assert not (site.folder / "out.pem").exists()
    (site.folder / "out.pem").write_text("mine")
    sent, _ = tokens.counts()
    assert "exists already" in provision(site, tokens, check=False).stderr
    assert tokens.counts()[0] == sent and (site.folder / "out.pem").read_text() == "mine"


def test_a_customers_dongle_is_not_made_anew(site, tokens, tmp_path):
    license = make_license(site.keys, tmp_path, "customer", "BERTH-CUSTOMER")
    tokens.plug(license)
    done = provision(site, tokens, check=False)
    assert done.returncode == 1 and "slot 9E already" in done.stderr
