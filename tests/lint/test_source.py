"""Checks of the source: sizes, purity of core/, one caller per library, headers that stand alone."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BERTH_BUILD", ROOT / "build"))


def files(*patterns):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / f for f in listed if (ROOT / f).exists()]


SOURCES = files("*.c", "*.h")


def test_there_are_sources():
    assert len(SOURCES) > 50


def test_lines_and_files_are_not_too_long():
    bad = []
    for f in SOURCES:
        lines = f.read_text().splitlines()
        if len(lines) > 500:
            bad.append(f"{f.relative_to(ROOT)}: {len(lines)} lines")
        bad += [f"{f.relative_to(ROOT)}:{n}: {len(line)} columns"
                for n, line in enumerate(lines, 1) if len(line) > 100]
    assert not bad, "\n".join(bad)


def test_functions_are_not_too_long():
    bad = []
    for f in SOURCES:
        if f.suffix != ".c":
            continue
        begin = None
        for n, line in enumerate(f.read_text().splitlines(), 1):
            if line == "{":
                begin = n
            elif line == "}" and begin:
                if n - begin > 100:
                    bad.append(f"{f.relative_to(ROOT)}:{begin}: {n - begin} lines")
                begin = None
    assert not bad, "\n".join(bad)


def test_every_main_is_a_declaration():
    for f in files("services/*/main.c"):
        assert len(f.read_text().splitlines()) <= 40, f


def test_headers_say_pragma_once():
    assert not [str(f) for f in SOURCES if f.suffix == ".h" and "#pragma once" not in f.read_text()]


def test_headers_compile_alone():
    flags = ["-std=gnu11", "-D_GNU_SOURCE", f"-I{ROOT}", f"-I{BUILD}/proto", "-fsyntax-only", "-xc"]
    bad = []
    for f in SOURCES:
        if f.suffix != ".h":
            continue
        done = subprocess.run(["gcc", *flags, "-"], input=f'#include "{f.relative_to(ROOT)}"\n',
                              capture_output=True, text=True)
        if done.returncode:
            bad.append(done.stderr[:500])
    assert not bad, "\n".join(bad)


# What core/ may call: memory, strings, sorting, number formatting. No I/O, no clock, no randomness.
# cJSON is as pure as that, and allocates from the arena.
PURE = re.compile(
    r"^(mem\w+|__mem\w+_chk|str\w+|__str\w+_chk|__isoc\w+|__?snprintf\w*|__?vsnprintf\w*|snprintf|"
    r"vsnprintf|malloc|calloc|realloc|reallocarray|free|abort|qsort|bsearch|__ctype_\w+|toupper|"
    r"tolower|__stack_chk_fail|__assert_fail|_GLOBAL_OFFSET_TABLE_|cJSON_\w+|ldexp|"
    r"__asan_\w+|__ubsan_\w+)$")
IMPURE_INCLUDES = re.compile(
    r"#include <(time|unistd|fcntl|pthread|sys/.*|netinet/.*|arpa/.*|openssl/.*|nng/.*|curl/.*|"
    r"microhttpd|gnutls/.*|sqlite3|yaml|stdio_ext)\.h>")


def test_core_is_pure():
    libraries = [p for p in BUILD.glob("**/core/*.a")]
    assert len(libraries) >= 3, libraries
    bad = []
    for library in libraries:
        symbols = subprocess.run(["nm", "-A", "--defined-only", library], capture_output=True,
                                 text=True).stdout
        own = {line.split()[-1] for line in symbols.splitlines() if line.split()}
        needed = subprocess.run(["nm", "-u", library], capture_output=True, text=True).stdout
        bad += [f"{library.name}: {s}" for s in
                {line.split()[-1] for line in needed.splitlines() if line.strip().startswith("U ")}
                if s not in own and s not in COMMON_CORE and not PURE.match(s)]
    assert not bad, "\n".join(sorted(bad))
    for f in SOURCES:
        if "core" in f.relative_to(ROOT).parts and "tests" not in f.relative_to(ROOT).parts:
            assert not IMPURE_INCLUDES.search(f.read_text()), f


def common_core_symbols():
    library = BUILD / "common" / "core" / "libcommon_core.a"
    if not library.exists():
        return set()
    symbols = subprocess.run(["nm", "--defined-only", library], capture_output=True, text=True).stdout
    return {line.split()[-1] for line in symbols.splitlines() if line.split()}


COMMON_CORE = common_core_symbols()

OWNERS = {
    "openssl/": ("common/crypto", "tools/berth-cloud/tls_server"),
    "curl/": ("common/https.c",),
    "nng/": ("common/rpc_",),
    "yaml.h": ("common/config_yaml.c",),
    "microhttpd.h": ("common/http_",),
    "gnutls/": ("common/http_", "services/gateway/health"),
    "sqlite3.h": ("tools/berth-cloud/",),
    "libusb": ("services/trust/",),
}


@pytest.mark.parametrize("library", OWNERS)
def test_one_caller_per_library(library):
    bad = []
    for f in SOURCES:
        name = str(f.relative_to(ROOT))
        if name.startswith("tests/"):
            continue
        if re.search(rf"#include <{re.escape(library)}", f.read_text()) and \
                not name.startswith(OWNERS[library]):
            bad.append(name)
    assert not bad, bad


def test_nothing_is_unfinished_by_its_own_words():
    words = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|not imple" + r"mented|place" + r"holder)\b")
    bad = [f"{f.relative_to(ROOT)}: {m.group()}" for f in files("*.c", "*.h", "*.py", "*.sh")
           for m in [words.search(f.read_text())] if m]
    assert not bad, bad


def test_tests_do_not_sleep():
    bad = [str(f) for f in files("tests/*.py", "tests/**/*.py", "tests/**/*.c")
           if re.search(r"\btime\.sle" + r"ep\(|\busle" + r"ep\(|[^.\w]sle" + r"ep\(", f.read_text())]
    assert not bad, bad


def test_shell_scripts_parse():
    for f in files("*.sh", ".ci/run"):
        assert subprocess.run(["sh", "-n", f]).returncode == 0, f
