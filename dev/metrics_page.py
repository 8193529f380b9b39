#!/usr/bin/python3
"""Prints docs/reference/metrics.md from the metrics.def tables. tests/lint checks that it is true."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r'METRIC\(\s*(\w+),\s*METRIC_(\w+),\s*"([^"]*)",\s*"([^"]*)",\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\)')
PROCESS = """
| name | type | labels | meaning |
|---|---|---|---|
| `berth_process_cpu_seconds_total` | counter |  | CPU time of this process, user and system. |
| `berth_process_resident_memory_bytes` | gauge |  | Resident memory of this process. |
| `berth_process_open_fds` | gauge |  | Open file descriptors of this process. |
| `berth_process_start_time_seconds` | gauge |  | When this process started, seconds since the epoch. |
| `berth_build_info` | gauge | version | Always 1; the version is a label. |
"""


def rows(path):
    for _, kind, name, labels, help_text in ROW.findall(path.read_text()):
        text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', help_text)).replace("|", "\\|")
        yield f"| `{name}` | {kind.lower()} | {labels.replace(',', ', ')} | {text} |"


def main():
    print("# Metrics\n\nPrometheus text format 0.0.4 at `GET /metrics`: gateway on the admin port (HTTPS), pool, trust "
          "and\nborrow on their `ops` addresses (HTTP), berth-cloud at `--ops` (HTTP). Made from the\n`metrics.def` tables by "
          "`dev/metrics_page.py`.\n\n## Every process\n" + PROCESS)
    for folder, name in (("services", "gateway"), ("services", "pool"), ("services", "trust"),
                         ("services", "borrow"), ("tools", "berth-cloud")):
        print(f"## {name}\n\n| name | type | labels | meaning |\n|---|---|---|---|")
        print("\n".join(rows(ROOT / folder / name / "metrics.def")) + "\n")


if __name__ == "__main__":
    main()
