#!/usr/bin/python3
"""The benchmark of the README: Berth beside nginx, in one run, alternating, servers on one core and the
generator on the other. Prints one table. Needs nginx, wrk, taskset, and a build in build/.

    tests/bench/run.py [--rounds N] [--seconds S] [--only PART]"""

import argparse
import json
import os
import random
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import bench_borrow  # noqa: E402
from berth import BUILD, Process, Site, free_port, vendor, wait_until  # noqa: E402

SERVER_CORE, CLIENT_CORE = "0", "1"
CONNECTIONS = 64
IDLE_CONNECTIONS = 3000
MANY_SESSIONS = 1_000_000
SATURATED = 0.85  # below this share of its core nginx waited for the generator or for other programs
TICK = os.sysconf("SC_CLK_TCK")

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s; keepalive_timeout 300s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3; ssl_session_tickets on;
    ssl_certificate {folder}/tls.pem; ssl_certificate_key {folder}/tls.key;
    location / {{ default_type application/json; return 200 '{body}'; }}
  }}
}}
"""

# The bodies are formatted in init: wrk sets the Host header just before, not earlier.
REVALIDATE = """
local ids = {{ {ids} }}
local n, i, bodies = #ids, 0, {{}}
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
init = function(args)
  for k = 1, n do
    bodies[k] = wrk.format(nil, "/licenses", nil,
      '{{"jsonrpc":"2.0","id":' .. k .. ',"method":"RevalidateSessionV1","params":{{"sessionId":"' .. ids[k] .. '"}}}}')
  end
end
request = function() i = i % n + 1; return bodies[i] end
"""

PAIRS = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local open, len = {}, 0
local take = nil
local head = '{"jsonrpc":"2.0","id":1,"method":"ReturnSessionV1","params":{"sessionId":"'
init = function(args)
  take = wrk.format(nil, "/licenses", nil, '{"jsonrpc":"2.0","id":1,"method":"RequestSessionV1","params":' ..
    '{"feature":"F","version":"24.11","edition":"Steady","modules":""}}')
end
request = function()
  if len == 0 then return take end
  local id = open[len]
  open[len] = nil
  len = len - 1
  return wrk.format(nil, "/licenses", nil, head .. id .. '"}}')
end
response = function(status, headers, body)
  local id = body:match('"sessionId":"([^"]+)"')
  if id then len = len + 1; open[len] = id end
end
"""


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident_mib(pids):
    total = 0
    for pid in pids:
        total += int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    return total / 1024


def wrk(url, script, seconds, connections=CONNECTIONS):
    command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
               "--latency", *(["-s", str(script)] if script else []), url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", out)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    # A figure made of refusals is none.
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"not every request was answered with 200:\n{out}")
    return requests, rate, float(value) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


def measured(pids, work):
    """(work()'s result, CPU seconds of the pids meanwhile)"""
    before = cpu_seconds(pids)
    result = work()
    return result, cpu_seconds(pids) - before


class Bench:
    def __init__(self, folder, arguments):
        self.folder, self.arguments, self.rows = folder, arguments, []
        self.unsaturated = False
        keys = folder / "keys"
        vendor("init", "--dir", keys)
        (folder / "site").mkdir()
        self.site = Site(folder / "site", keys)
        for name in ("big", "another"):
            self.site.license(name, count=MANY_SESSIONS)
        self.site.configure(limits={"connections_per_address": 100000},
                            sessions__revalidation_interval="1 h")

    def row(self, figure, value, least, aim, good):
        self.rows.append((figure, value, least, aim, good))
        print(f"  {figure}: {value} (at least {least}, aim {aim})", file=sys.stderr)

    def start_berth(self, env=None):
        os.sched_setaffinity(0, {int(SERVER_CORE)})
        self.site.start(env)
        os.sched_setaffinity(0, {0, 1})
        names = ("trust", "pool", "borrow", "gateway")
        self.pids = {n: self.site.child(n) for n in names}

    def stop_berth(self):
        self.site.stop()

    def start_nginx(self):
        folder = self.site.folder
        self.nginx_port = free_port()
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"revalidateWithin": 3600}})
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=self.nginx_port, body=body))
        self.nginx = Process(["taskset", "-c", SERVER_CORE, shutil.which("nginx") or "/usr/sbin/nginx",
                              "-p", folder, "-c", folder / "nginx.conf"], folder / "nginx.out")
        wait_until(lambda: socket.create_connection(("127.0.0.1", self.nginx_port), 1).close() or True)
        done = subprocess.run(["pgrep", "-P", str(self.nginx.pid)], capture_output=True, text=True)
        self.nginx_pids = [int(p) for p in done.stdout.split()]

    @property
    def hot(self):
        return [self.pids["gateway"], self.pids["pool"]]

    def calls_done(self):
        """Sessions revalidated, granted and returned so far, as pool counts them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.site.ops['pool']}/metrics", timeout=5) as r:
            text = r.read().decode()
        names = "revalidated|granted|returned"
        return sum(float(v) for v in
                   re.findall(rf"^berth_sessions_(?:{names})_total(?:{{}})? (\S+)$", text, re.M))

    def load(self, script):
        """wrk against ours. JSON-RPC refusals come with 200 too, so pool's counters must agree that each
        request did what it says."""
        before = self.calls_done()
        result = wrk(f"https://localhost:{self.site.port}/licenses", script, self.arguments.seconds)
        done = self.calls_done() - before
        if done < result[0]:
            raise SystemExit(f"{result[0]} requests were answered, but pool did only {done:.0f}")
        return result

    def against_nginx(self, script):
        """Medians of the ratios over the rounds: rate, CPU per request (nginx/ours), p99 (ours/nginx)."""
        nginx_url = f"https://localhost:{self.nginx_port}/licenses"
        rate, cpu, p99 = [], [], []
        for _ in range(self.arguments.rounds):
            (n, r, p), c = measured(self.hot, lambda: self.load(script))
            (nn, nr, np), nc = measured(self.nginx_pids,
                                        lambda: wrk(nginx_url, script, self.arguments.seconds))
            seconds = self.arguments.seconds
            print(f"    ours {r:.0f}/s {c / n * 1e6:.1f} us, core {100 * c / seconds:.0f} % busy, "
                  f"p99 {p * 1e3:.2f} ms; nginx {nr:.0f}/s {nc / nn * 1e6:.1f} us, "
                  f"{100 * nc / seconds:.0f} % busy, p99 {np * 1e3:.2f} ms", file=sys.stderr)
            if nc < SATURATED * seconds:
                self.unsaturated = True
            rate.append(r / nr)
            cpu.append((nc / nn) / (c / n))
            p99.append(p / np)
        return tuple(statistics.median(x) for x in (rate, cpu, p99))

    def take_sessions(self, count):
        """That many new sessions' IDs."""
        params = {"feature": "F", "version": "24.11", "edition": "Steady", "modules": ""}

        def take(n):
            calls = [{"jsonrpc": "2.0", "id": i, "method": "RequestSessionV1", "params": params}
                     for i in range(n)]
            if not hasattr(local, "client"):
                local.client = self.site.client()
            return [a["result"]["sessionId"] for a in json.loads(local.client.post(calls)[2])]
        local = threading.local()
        with ThreadPoolExecutor(4) as threads:
            taken = threads.map(take, [64] * (count // 64) + [count % 64] * bool(count % 64))
            return [i for ids in taken for i in ids]

    def revalidate_script(self, ids=None):
        ids = ids or self.take_sessions(CONNECTIONS)
        script = self.folder / "revalidate.lua"
        script.write_text(REVALIDATE.format(ids=", ".join(f'"{i}"' for i in ids)))
        return script

    def many_sessions(self):
        """Cost of a revalidation over HTTPS with a million sessions and with a thousand: CPU time per
        request, each against nginx at that time, as a server cannot go back and forth between the two."""
        self.stop_berth()
        self.start_berth()
        cost, ids = [], []
        for count in (1000, MANY_SESSIONS):
            ids += self.take_sessions(count - len(ids))
            some = ids if count == 1000 else random.Random(1).sample(ids, 20000)
            cpu = self.against_nginx(self.revalidate_script(some))[1]
            cost.append(1 / cpu)
        ratio = cost[1] / cost[0]
        self.row("revalidation over HTTPS, CPU time: 1,000,000 sessions / 1,000", f"{ratio:.2f}", "≤ 1.5",
                 "≤ 1.1", ratio <= 1.5)

    def revalidation(self):
        rate, cpu, p99 = self.against_nginx(self.revalidate_script())
        self.row("RevalidateSession, 64 connections: throughput / nginx", f"{rate:.2f}", "0.70", "0.95",
                 rate >= 0.70)
        self.row("… CPU time per request: nginx / ours", f"{cpu:.2f}", "0.70", "0.95", cpu >= 0.70)
        self.row("… p99 latency: ours / nginx", f"{p99:.2f}", "≤ 2", "≤ 1.2", p99 <= 2)

    def pairs(self):
        script = self.folder / "pairs.lua"
        script.write_text(PAIRS)
        rate, cpu, _ = self.against_nginx(script)
        self.row("RequestSession + ReturnSession: calls / nginx", f"{rate:.2f}", "0.5", "0.8", rate >= 0.5)
        # wrk's Lua has to read each answer here and can be slower than either server; this cannot be.
        self.row("… CPU time per call: nginx / ours", f"{cpu:.2f}", "0.5", "0.8", cpu >= 0.5)

    def unbatched(self):
        ratios, by_cpu = [], []
        for _ in range(self.arguments.rounds):
            rates, costs = [], []
            for env in ({}, {"BERTH_RPC_UNBATCHED": "1"}):
                self.stop_berth()
                self.start_berth(env)
                script = self.revalidate_script()
                (n, rate, _), cpu = measured(self.hot, lambda: self.load(script))
                rates.append(rate)
                costs.append(cpu / n)
            print(f"    batched {rates[0]:.0f}/s {costs[0] * 1e6:.1f} us, unbatched {rates[1]:.0f}/s "
                  f"{costs[1] * 1e6:.1f} us", file=sys.stderr)
            ratios.append(rates[0] / rates[1])
            by_cpu.append(costs[1] / costs[0])
        cpu = statistics.median(by_cpu)
        ratio = statistics.median(ratios)
        self.row("batched / one message per call", f"{ratio:.2f}", "2.5", "3.5", ratio >= 2.5)
        self.row("… CPU time per request: unbatched / batched", f"{cpu:.2f}", "2.5", "3.5", cpu >= 2.5)

    def connections(self, mode, least, aim):
        tool = BUILD / "tests" / "bench" / "tls_connect"
        ratios = []
        for _ in range(self.arguments.rounds):
            each = []
            for port, pids in ((self.site.port, self.hot), (self.nginx_port, self.nginx_pids)):
                command = ["taskset", "-c", CLIENT_CORE, tool, port, self.arguments.seconds,
                           "/health/protection", mode]
                out, cpu = measured(pids, lambda: subprocess.run(
                    [str(c) for c in command], capture_output=True, text=True, check=True).stdout)
                made, resumed, _ = (int(x) for x in out.split())
                if mode == "resumed":
                    assert resumed >= made - 1, f"only {resumed} of {made} resumed"
                each.append(cpu / made)
            ratios.append(each[1] / each[0])
        ratio = statistics.median(ratios)
        self.row(f"new TLS 1.3 connections, {mode}: CPU time nginx / ours", f"{ratio:.2f}", least, aim,
                 ratio >= float(least))

    def idle_connections(self):
        """Of fresh processes, whose heaps have no holes; each connection was served once and is silent."""
        self.stop_berth()
        self.nginx.stop()
        self.start_berth()
        self.start_nginx()
        context = ssl.create_default_context(cafile=str(self.site.folder / "tls.pem"))
        per = []
        for port, pids in ((self.site.port, [self.pids["gateway"]]), (self.nginx_port, self.nginx_pids)):
            def open_one(_, port=port):
                s = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20),
                                        server_hostname="localhost")
                s.sendall(b"GET /health/protection HTTP/1.1\r\nHost: localhost\r\n\r\n")
                s.recv(4096)
                return s
            with ThreadPoolExecutor(24) as threads:
                sockets = list(threads.map(open_one, range(100)))
                before = resident_mib(pids)
                sockets += threads.map(open_one, range(IDLE_CONNECTIONS))
            threading.Event().wait(3)  # until all count as idle
            fds = len(os.listdir(f"/proc/{pids[0]}/fd"))
            assert fds > IDLE_CONNECTIONS, f"only {fds} descriptors are open"
            per.append((resident_mib(pids) - before) / IDLE_CONNECTIONS * 1024)
            for s in sockets:
                s.close()
        ratio = per[0] / per[1]
        self.row("memory per idle TLS connection / nginx",
                 f"{ratio:.2f} ({per[0]:.0f} KiB / {per[1]:.0f} KiB)", "≤ 1.0", "≤ 0.7", ratio <= 1)

    def idle(self):
        memory = resident_mib(self.pids.values())
        seconds = 20
        _, cpu = measured(self.pids.values(), lambda: threading.Event().wait(seconds))
        self.row("idle: CPU time of the four", f"{100 * cpu / seconds:.2f} % of a core", "< 0.5 %",
                 "< 0.1 %", cpu / seconds < 0.005)
        self.row("resident memory of the four at start", f"{memory:.0f} MiB", "< 60 MiB", "< 30 MiB",
                 memory < 60)

    def pool_core(self):
        tool = BUILD / "tests" / "bench" / "bench_pool_core"
        if not tool.exists():
            return
        out = subprocess.run(["taskset", "-c", SERVER_CORE, tool], capture_output=True, text=True,
                             check=True).stdout
        value = {line.split()[0]: float(line.split()[1]) for line in out.splitlines()}

        def ratio(figure, many, few, least, aim):
            r = value[many] / value[few]
            self.row(f"{figure} (in pool's core)", f"{r:.2f} ({value[many]:.0f} / {value[few]:.0f} ns)",
                     f"≤ {least}", f"≤ {aim}", r <= least)
        few, many = value["revalidate_1000_sessions"], value["revalidate_1000000_sessions"]
        # Cache misses, of which a whole request has many more: many_sessions() is the row that counts.
        self.row("… of that in pool's core", f"{few:.0f} → {many:.0f} ns", "", "", True)
        ratio("request + return: 10,000 licenses / 10, most full", "request_10000_licenses_most_full",
              "request_10_licenses_most_full", 2, 1.2)
        memory = value["session_memory_at_1000000"]
        self.row("memory per live session at one million", f"{memory:.0f} B", "≤ 400 B", "≤ 200 B",
                 memory <= 400)
        longest = value["expiry_of_100000_longest_call"]
        self.row("expiry of 100,000 sessions at once: longest delay", f"{longest:.1f} ms", "≤ 100 ms",
                 "≤ 20 ms", longest <= 100)

    def full_handshakes(self):
        self.connections("full", "0.6", "0.7")

    def resumed_handshakes(self):
        self.connections("resumed", "0.9", "1.0")

    def run(self, only):
        parts = ("idle", "revalidation", "pairs", "full_handshakes", "resumed_handshakes",
                 "idle_connections", "unbatched", "many_sessions")
        self.start_berth()
        self.start_nginx()
        try:
            for part in parts if not only else [p for p in parts if p == only]:
                getattr(self, part)()
        finally:
            self.nginx.stop()
            self.stop_berth()
        if only in (None, "borrow"):
            self.rows += bench_borrow.rows(bench_borrow.measure(self.folder / "lender"))
        if only in (None, "pool_core"):
            self.pool_core()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", help="one part, as idle_connections; rounds of it are cheap")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as folder:
        bench = Bench(Path(folder), arguments)
        load = os.getloadavg()[0]
        bench.run(arguments.only)
    print("| figure | measured | at least | aim |\n|---|---|---|---|")
    for figure, value, least, aim, good in bench.rows:
        print(f"| {figure} | {value}{'' if good else ' (missed)'} | {least} | {aim} |")
    if load > 0.5:
        print(f"\nNot to be quoted: other programs were running (load {load:.1f}), and rates and latencies "
              "depend on them. CPU times depend less.")
    if bench.unsaturated:
        print("\nIn some rounds nginx did not use its whole core: the ratios of rates compare generators there, "
              "only the CPU times compare servers.")


if __name__ == "__main__":
    main()
