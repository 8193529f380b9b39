"""What a borrow costs, with the real processes: BERTH_BUILD=build python3 tests/bench/bench_borrow.py
Prints the rows of the README's table that are about borrowing. Arguments: how many current borrows,
how many ended ones."""

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from berth import vendor, wait_until  # noqa: E402
from lending import borrow, borrower, lender, moment, uuid_of  # noqa: E402

BATCH = 64


def lend_many(client, uuid, total, seconds):
    """total borrows that end in so many seconds, in batches."""
    for first in range(0, total, BATCH):
        until = moment(seconds=seconds)
        calls = [{"jsonrpc": "2.0", "id": n, "method": "BorrowLicenseV1",
                  "params": {"uuid": uuid, "feature": "F", "hostId": f"h-{seconds}-{n}",
                             "validUntil": until}}
                 for n in range(first, min(first + BATCH, total))]
        for answer in json.loads(client.post(calls)[2]):
            assert "result" in answer, answer


class Lender:
    """A running installation, and its client."""

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        vendor("init", "--dir", folder / "keys")
        self.site = lender(folder, folder / "keys")
        self.uuid = uuid_of(self.site.license("a", count=1000000))
        self.site.start()
        self.client = borrower(self.site)
        self.hosts = itertools.count()

    def one_ms(self):
        """Milliseconds of one borrow."""
        begun = time.perf_counter()
        borrow(self.client, self.uuid, host=f"one-{next(self.hosts)}")
        return 1000 * (time.perf_counter() - begun)


def measure(folder, current=10000, ended=100000, rounds=60):
    """The first of the two has a history, the second none; they are asked in turn, since a borrow's
    milliseconds are the disk's, which are not the same from one minute to the next."""
    old, new = Lender(folder / "old"), Lender(folder / "new")
    try:
        lend_many(old.client, old.uuid, ended, 2)
        wait_until(lambda: len(old.client.call("ListBorrowedLicensesV1")) == 0, 30)
        for _ in range(5):
            old.one_ms(), new.one_ms()
        pairs = [(old.one_ms(), new.one_ms()) for _ in range(rounds)]
        after, none = (statistics.median(column) for column in zip(*pairs))
        lend_many(old.client, old.uuid, current, 86400)
        took = [old.one_ms() for _ in range(rounds)]
    finally:
        for one in (old, new):
            one.site.stop()
    return {"none": none, "after": after, "ratio": statistics.median(a / b for a, b in pairs),
            "many": statistics.median(took), "longest": max(took), "current": current,
            "ended": ended}


def rows(m):
    """(figure, measured, at least, aim, good) of the README's table."""
    return [(f"cost of a borrow with {m['ended']:,} ended ones / with none",
             f"{m['ratio']:.2f} ({m['after']:.1f} / {m['none']:.1f} ms)", "≤ 1.2", "≤ 1.05",
             m["ratio"] <= 1.2),
            (f"one borrow with {m['current']:,} current ones, disk and backend included",
             f"{m['many']:.1f} ms (longest {m['longest']:.1f})", "≤ 50 ms", "≤ 10 ms",
             m["many"] <= 50)]


if __name__ == "__main__":
    sizes = [int(a) for a in sys.argv[1:]]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        for *row, good in rows(measure(Path(folder), *sizes)):
            print(f"| {' | '.join(row)} |{'' if good else ' missed'}")
