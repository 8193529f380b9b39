"""A backend that someone else wrote, from trust.md alone: it says what is there and not a word more."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from berth import RpcError, wait_until
from lending import at_last, borrow, borrower, lender, uuid_of


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_POST(self):
        backend = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"format": 1}
        if self.path == "/v1/goodbye":
            backend.goodbyes.append(asked["token"])
        elif backend.reason:
            answer |= {"status": "refused", "reason": backend.reason}
        else:
            ledger = asked["ledger"]
            if ledger:
                backend.head = {"sequence": ledger["sequence"], "hash": ledger["hash"]}
            backend.tokens += 1
            answer |= {"status": "ok", "nextCheckSeconds": 1, "token": f"token-{backend.tokens}",
                       "ledger": backend.head, "revokedKeyIds": []}
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


@pytest.fixture
def backend(tmp_path, keys):
    site = lender(tmp_path, keys, trust__cloud={"check_interval": "1 s"})
    server = ThreadingHTTPServer(("127.0.0.1", site.cloud_port), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=keys / "cloud" / "vendor-ca.pem")
    context.load_cert_chain(keys / "cloud" / "cloud.pem", keys / "cloud" / "cloud.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.reason, server.head, server.tokens, server.goodbyes, server.site = None, None, 0, [], site
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    site.stop()


def test_another_backend(backend):
    site = backend.site
    license_file = site.license("a", count=2)
    site.spawn_server()
    site.wait_ready()
    lent = borrow(borrower(site), uuid_of(license_file))
    assert backend.head["sequence"] == 1
    # [S7] a "no" needs a reason, and nothing else
    for reason in "revoked", "expired", "in-use-elsewhere", "ledger-rollback":
        backend.reason = reason
        wait_until(lambda: site.protection()["reason"] == reason, 20)
        with pytest.raises(RpcError) as refused:
            site.client().request()
        assert refused.value.code == 1004 and refused.value.data["reason"] == reason
        backend.reason = None
        wait_until(lambda: site.protection()["state"] == "valid", 20)
    # Stopped, it says goodbye with the token it holds; started, it finds its ledger registered.
    site.server.stop()
    newest = [f"token-{backend.tokens - back}" for back in (0, 1)]  # one may have been on its way
    assert len(backend.goodbyes) == 1 and backend.goodbyes[0] in newest
    site.spawn_server()
    site.wait_ready()
    listed = at_last(lambda: site.client().call("ListBorrowedLicensesV1"))
    assert [b["borrowId"] for b in listed] == [lent["borrowId"]]
    borrow(borrower(site), uuid_of(license_file), host="A-2")
    assert backend.head["sequence"] == 2
