"""What a borrow costs, with the real processes: BERTH_BUILD=build python3 tests/bench/bench_borrow.py
Prints the rows of the README's table that are about borrowing. Arguments: how many current borrows,
how many ended ones."""

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


def one_ms(client, uuid, label, rounds):
    """Milliseconds of one borrow, the median of so many, and the longest."""
    took = []
    for n in range(rounds):
        begun = time.perf_counter()
        borrow(client, uuid, host=f"{label}-{n}")
        took.append(1000 * (time.perf_counter() - begun))
    return statistics.median(took), max(took)


def measure(folder, current=10000, ended=100000, rounds=30):
    folder.mkdir(exist_ok=True)
    keys = folder / "keys"
    vendor("init", "--dir", keys)
    site = lender(folder, keys)
    uuid = uuid_of(site.license("a", count=1000000))
    site.start()
    try:
        client = borrower(site)
        one_ms(client, uuid, "warm", 5)
        none, _ = one_ms(client, uuid, "none", rounds)
        lend_many(client, uuid, ended, 2)
        wait_until(lambda: len(client.call("ListBorrowedLicensesV1")) <= rounds + 5, 30)
        after, _ = one_ms(client, uuid, "after", rounds)
        lend_many(client, uuid, current, 86400)
        many, longest = one_ms(client, uuid, "many", rounds)
    finally:
        site.stop()
    return {"none": none, "after": after, "ratio": after / none, "many": many, "longest": longest,
            "current": current, "ended": ended}


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
