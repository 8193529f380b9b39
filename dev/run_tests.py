#!/usr/bin/python3
"""Builds and runs every test, and ends with one line: N passed, N failed[, N skipped].

Called by dev/test.sh, which installs the packages. Parts: unit (meson: unit, component, fuzz
corpora; once plain, once with ASan and UBSan), lint, e2e (pytest: component and end-to-end tests
with the real binaries), containers (pytest: images and Compose files in a real engine), package
(pytest: the Debian packages, installed and run by a real systemd). Each part counts test cases; a
part that cannot even start counts as one failure. Parts that mostly wait run beside the others, and
are shown when they end."""

import os
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
SANITIZED = ROOT / "build-asan"
JOBS = os.cpu_count() or 2
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:abort_on_error=1",
}


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.bad = []

    def add(self, name, outcome, why=None):
        if outcome == "passed":
            self.passed += 1
        elif outcome == "skipped":
            self.skipped += 1
            print(f"SKIPPED {name}" + (f": {why}" if why else ""))
        else:
            self.failed += 1
            self.bad.append(name)

    def merge(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.bad += other.bad


def outcome(case):
    """Of a JUnit test case; and why, if it was skipped."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed", None
    skipped = case.find("skipped")
    if skipped is None:
        return "passed", None
    return "skipped", " ".join(skipped.get("message", "").split())[:300]


def run(command, **kwargs):
    return subprocess.run(command, cwd=ROOT, text=True, stdin=subprocess.DEVNULL, **kwargs)


def build(folder, options):
    """True if the folder is built; prints the compiler's complaint otherwise."""
    # One that the demo made was configured without the packages of the tests.
    again = ["--reconfigure"] if (folder / "build.ninja").exists() else []
    setup = run(["meson", "setup", *again, *options, folder], capture_output=True)
    if setup.returncode:
        print(setup.stdout[-3000:], setup.stderr[-3000:])
        return False
    made = run(["ninja", "-C", folder], capture_output=True)
    if made.returncode:
        print(made.stdout[-6000:])
    return made.returncode == 0


def meson_tests(count, folder, label, env=None):
    log = folder / "meson-logs" / "testlog.junit.xml"
    log.unlink(missing_ok=True)
    done = run(["meson", "test", "-C", folder, "--no-rebuild", "--num-processes", str(JOBS),
                "--print-errorlogs"], capture_output=True, env={**os.environ, **(env or {})})
    if not log.exists():
        print(done.stdout[-3000:], done.stderr[-3000:])
        count.add(f"{label}: meson test", "failed")
        return
    bad_before = len(count.bad)
    for suite in ElementTree.parse(log).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            count.add(f"{label}: {suite.get('name')} {case.get('name')}", *outcome(case))
    if done.returncode and len(count.bad) == bad_before:
        count.add(f"{label}: meson test exited {done.returncode}", "failed")
    if done.returncode:
        print(done.stdout[-8000:])


def pytest_tests(count, paths, label, workers, env=None, output=None):
    """output: a file that gets what pytest prints, in place of the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n",
                   str(workers),
                   # Tests of one xdist_group share a worker, and what is dear to start.
                   "--dist=loadgroup",
                   f"--junitxml={log}", *map(str, paths)]
        done = run(command, env={**os.environ, **(env or {})}, stdout=output, stderr=output)
        if not log.exists():
            count.add(f"{label}: pytest exited {done.returncode}", "failed")
            return
        cases = list(ElementTree.parse(log).getroot().iter("testcase"))
    bad_before = len(count.bad)
    for case in cases:
        count.add(f"{label}: {case.get('classname')}.{case.get('name')}", *outcome(case))
    if done.returncode and len(count.bad) == bad_before:  # it was interrupted, or broke
        count.add(f"{label}: pytest exited {done.returncode}", "failed")


def unit(count):
    if not build(BUILD, ["-Dwerror=true"]):
        count.add("build", "failed")
        return
    meson_tests(count, BUILD, "unit")
    if not build(SANITIZED, ["-Db_sanitize=address,undefined", "-Db_lundef=false",
                             "-Doptimization=1", "-Dwerror=true"]):
        count.add("build with sanitizers", "failed")
        return
    meson_tests(count, SANITIZED, "unit (ASan, UBSan)", SANITIZER_ENV)


def lint(count):
    pytest_tests(count, [ROOT / "tests" / "lint", ROOT / "tests" / "deploy"], "lint", 1)


def component_tests():
    """Those that need the real binaries; meson runs the others, which need fixtures of its own."""
    folder = ROOT / "tests" / "component"
    by_meson = (folder / "meson.build").read_text()
    return [f for f in sorted(folder.glob("test_*.py")) if f"files('{f.name}')" not in by_meson]


def e2e(count):
    if not build(BUILD, ["-Dwerror=true"]):
        count.add("build", "failed")
        return
    # The tests wait for conditions most of the time: more of them than cores.
    tests = ROOT / "tests"
    pytest_tests(count, [*component_tests(), tests / "e2e", tests / "model", tests / "faults",
                         tests / "qemu"], "e2e", 2 * JOBS)


def containers(count, output):
    pytest_tests(count, [ROOT / "tests" / "containers"], "containers", 0, output=output)


def package(count, output):
    pytest_tests(count, [ROOT / "tests" / "package"], "package", 0, output=output)


PARTS = {"unit": unit, "lint": lint, "e2e": e2e}
BESIDE = {"containers": containers, "package": package}


class Beside(threading.Thread):
    """A part that runs beside the others."""

    def __init__(self, name):
        super().__init__(name=name)
        self.count = Count()
        self.output = tempfile.TemporaryFile("w+")
        self.began = time.monotonic()
        self.start()

    def run(self):
        try:
            BESIDE[self.name](self.count, self.output)
        except Exception as e:
            self.count.add(f"{self.name}: {e!r}", "failed")
        self.seconds = time.monotonic() - self.began

    def finish(self, count):
        self.join()
        self.output.seek(0)
        print(f"== {self.name}, beside the others: {self.seconds:.0f} s\n{self.output.read()}",
              flush=True)
        count.merge(self.count)


def main():
    names = [*PARTS, *BESIDE]
    chosen = sys.argv[1:] or names
    unknown = [name for name in chosen if name not in names]
    if unknown:
        sys.exit(f"unknown part {unknown[0]}: one of {', '.join(names)}")
    count = Count()
    beside = [Beside(name) for name in chosen if name in BESIDE]
    for name in chosen:
        if name in BESIDE:
            continue
        began = time.monotonic()
        print(f"== {name}", flush=True)
        PARTS[name](count)
        print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
    for part in beside:
        part.finish(count)
    for name in count.bad:
        print(f"FAILED {name}")
    skipped = f", {count.skipped} skipped" if count.skipped else ""
    print(f"{count.passed} passed, {count.failed} failed{skipped}", flush=True)
    sys.exit(1 if count.failed or not count.passed else 0)


if __name__ == "__main__":
    main()
