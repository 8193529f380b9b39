"""The matching rule of licenses.md a second time, written from its text, against the pool core.

Called with the path of match_driver in MATCH_DRIVER. It makes random pools and requests, has both
decide, and compares the chosen license, or every reason of a refusal.
"""

import os
import random
import subprocess

POOLS = int(os.environ.get("MATCH_POOLS", "15000"))
REQUESTS = 8  # of a pool
NOW = 1000

FEATURES = ["MVTec_HALCON", "MVTec_HDevelop"]
UUIDS = ["00000000-0000-4000-8000-%012x" % i for i in range(6)]
VERSIONS = ["23.5", "24.5", "24.11", "24.11.0", "24.11.0.1", "24.12", "25.5", "25"]
EDITIONS = ["Steady", "Progress", "Steady-Progress"]
LETTERS = "fc123bdomit"


def number(version):
    parts = [int(p) for p in version.split(".")]
    return tuple(parts + [0] * (4 - len(parts)))


def modules_text(chosen):
    return "".join(c for c in LETTERS if c in chosen)


class License:
    def __init__(self, rng, few_modules):
        self.uuid = rng.choice(UUIDS)
        self.feature = rng.choice(FEATURES)
        self.version = rng.choice(VERSIONS)
        self.edition = rng.choice(EDITIONS)
        self.modules = {c for c in few_modules if rng.random() < 0.7}
        self.count = rng.randint(1, 3)
        self.issued = rng.randint(1, 4)
        self.valid_from = rng.choice([None, None, None, NOW - 1, NOW, NOW + 1])
        self.valid_until = rng.choice([None, None, NOW - 1, NOW, NOW + 1, NOW + 2, NOW + 2])
        self.signature = 0
        self.foreign = rng.random() < 0.1
        self.sessions = 0
        self.borrowed = 0

    def line(self):
        return " ".join(str(w) for w in (
            "license", self.uuid, self.feature, self.version, self.edition,
            modules_text(self.modules) or "-", self.count, self.issued,
            "-" if self.valid_from is None else self.valid_from,
            "-" if self.valid_until is None else self.valid_until,
            self.signature, int(self.foreign)))

    def expired(self):
        return self.valid_until is not None and self.valid_until <= NOW

    def ahead(self):
        return self.valid_from is not None and self.valid_from > NOW

    def free(self):
        return self.count - self.borrowed - self.sessions > 0


class Request:
    def __init__(self, rng, few_modules):
        self.feature = rng.choice(FEATURES + ["other"] * (rng.random() < 0.1))
        self.version = rng.choice(VERSIONS)
        self.edition = rng.choice(EDITIONS[:2])
        self.modules = {c for c in few_modules if rng.random() < 0.35}

    def line(self):
        return " ".join(("request", self.feature, self.version, self.edition,
                         modules_text(self.modules) or "-"))


def in_force(licenses):
    """One license of each (uuid, feature): the newest, unless it is still ahead."""
    chosen = {}
    own = {(x.uuid, x.feature) for x in licenses if not x.foreign}
    for x in licenses:
        identity = (x.uuid, x.feature)
        if x.foreign and identity in own:
            continue  # refused at loading; there is a good one of that name
        best = chosen.get(identity)

        def age(y):
            return (not y.ahead(), y.issued, y.signature)

        if best is None or age(x) > age(best):
            chosen[identity] = x
    return list(chosen.values())


def edition_covers(edition, request):
    if edition in (request.edition, "Steady-Progress"):
        return True
    return (edition == "Progress" and request.edition == "Steady"
            and number(request.version) >= (24, 11, 0, 0))


def reason(x, request):
    if x.foreign:
        return "server-id"
    if x.feature != request.feature:
        return "feature"
    if x.expired():
        return "expired"
    if x.ahead():
        return "not-yet-valid"
    if not edition_covers(x.edition, request):
        return "edition"
    if number(x.version) < number(request.version):
        return "version-older"
    if not request.modules <= x.modules:
        return "modules-missing:" + modules_text(request.modules - x.modules)
    if x.borrowed >= x.count:
        return "all-borrowed"
    if not x.free():
        return "all-in-use"
    return None


def preference(x, request):
    same_edition = x.edition in (request.edition, "Steady-Progress")
    same_version = number(x.version) == number(request.version)
    if not same_edition:
        step = 4
    elif not same_version:
        step = 3
    elif x.modules != request.modules:
        step = 2
    else:
        step = 1
    forever = 1 << 62
    return (step, x.edition != request.edition, len(x.modules - request.modules),
            number(x.version), forever if x.valid_until is None else x.valid_until, x.uuid)


def decide(licenses, request):
    reasons = {id(x): reason(x, request) for x in licenses}
    free = [x for x in licenses if reasons[id(x)] is None]
    if free:
        best = min(free, key=lambda x: preference(x, request))
        best.sessions += 1
        return "granted", best.uuid, set()
    seats_only = any(r in ("all-borrowed", "all-in-use") for r in reasons.values())
    named = {"%s:%s:%s" % (x.uuid, x.feature, reasons[id(x)]) for x in licenses}
    return ("no-seat" if seats_only else "no-license"), None, named


def distance(entry, request):
    """How near a miss is: the requested feature first, then the later its reason is looked for."""
    _, feature, why = entry.split(":", 2)
    order = ["all-in-use", "modules-missing", "version-older", "edition", "not-yet-valid", "expired",
             "feature", "server-id"]
    why = "all-in-use" if why == "all-borrowed" else why
    missing = len(why.partition(":")[2])
    return feature != request.feature, order.index(why.partition(":")[0]), missing


def make_pool(rng):
    few_modules = rng.sample(LETTERS, 4)
    licenses = [License(rng, few_modules) for _ in range(rng.randint(0, 9))]
    for i, x in enumerate(rng.sample(licenses, len(licenses))):
        x.signature = i  # which of the same age wins
    lines = ["pool %d" % NOW] + [x.line() for x in licenses]
    current = in_force(licenses)
    for _ in range(rng.randint(0, 6)):
        uuid, feature = rng.choice(UUIDS), rng.choice(FEATURES)
        begin, end = rng.choice([(NOW - 5, NOW + 5), (NOW, NOW + 1), (NOW - 9, NOW), (NOW + 1, NOW + 2)])
        lines.append("borrow %s %s %d %d" % (uuid, feature, begin, end))
        for x in current:
            if (x.uuid, x.feature) == (uuid, feature) and begin <= NOW < end:
                x.borrowed += 1
    requests = [Request(rng, few_modules) for _ in range(REQUESTS)]
    return lines + [r.line() for r in requests], current, requests


def check(answer, current, request):
    outcome, uuid, named = decide(current, request)
    words = answer.split()
    assert words[0] == outcome
    if uuid is not None:
        assert words[1:] == [uuid]
        return
    entries = words[1:-1]
    assert set(entries) == named and len(entries) == len(named)
    assert words[-1] == "omitted=0"
    distances = [distance(e, request) for e in entries]
    assert distances == sorted(distances)


def test_decisions_equal():
    driver = os.environ.get("MATCH_DRIVER")
    assert driver, "MATCH_DRIVER names the driver"
    seed = int(os.environ.get("MATCH_SEED", "20261124"))
    rng = random.Random(seed)
    pools = [make_pool(rng) for _ in range(POOLS)]
    text = "\n".join(line for lines, _, _ in pools for line in lines) + "\n"
    done = subprocess.run([driver], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = iter(done.stdout.splitlines())
    outcomes = {}
    for lines, current, requests in pools:
        for request in requests:
            answer = next(answers)
            try:
                check(answer, current, request)
            except AssertionError as e:
                raise AssertionError("\n".join(lines + [request.line(), "-> " + answer])) from e
            outcomes[answer.split()[0]] = outcomes.get(answer.split()[0], 0) + 1
    assert next(answers, None) is None
    assert min(outcomes[o] for o in ("granted", "no-license", "no-seat")) > POOLS // 10, outcomes


if __name__ == "__main__":
    test_decisions_equal()
