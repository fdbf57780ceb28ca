"""Replicas are restarted, upgraded and killed under load, and no call of OpenAI's SDK fails and no byte is lost.

Run it as `./dev replicas [--seconds N]`. It starts Postgres, SeaweedFS, three Windlass and nginx (with the
configuration in deploy/nginx) on loopback. Clients with OpenAI's Python SDK and its default retries upload in parts and
in one request, complete, download and compare, list, cancel and delete without a pause, while this script

- checks that consecutive requests of an upload reach different replicas,
- restarts the replicas one by one (SIGTERM),
- migrates the schema as a newer version would (a column added to every table, a table, a trigger), and then restarts
  the replicas one by one on it,
- kills each replica (SIGKILL) and starts it again.

At the end it downloads every file again, deletes it, and runs `windlass fsck --deep`. It prints a table, and fails if a
call failed, a byte differs, or a client without retries would have noticed anything but a kill (a 5xx).

With --old PROGRAM, all replicas run that older version at first, and are then replaced by this one; an older version
may need the retries. With --pgbouncer they connect through PgBouncer in transaction mode.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from openai import OpenAI

from load import Load
from servers import ROOT, free_port, nginx, pgbouncer, postgres, process, seaweedfs, wait_until

KEY = "the-key-of-the-replicas"
NEWER_VERSION = ROOT / "tests/it/sql/newer_version.sql"
CLIENTS = 6


class Replica:
    """A Windlass on a fixed port, which is started again after each stop."""

    def __init__(self, program, folder, settings):
        self.port = free_port(1)
        self.program = program
        self.log = folder / f"windlass-{self.port}.log"
        data = folder / f"data-{self.port}"
        self.settings = {**settings, "WINDLASS_LISTEN": f"127.0.0.1:{self.port}", "WINDLASS_DATA_DIR": str(data)}
        self.running = None

    def start(self):
        """Does not wait; see `wait`."""
        self.running = process([self.program], self.log, self.settings, stdout=subprocess.DEVNULL)
        self.child = self.running.__enter__()

    def wait(self):
        """Waits until it is ready."""

        def is_ready():
            assert self.child.poll() is None, self.log.read_text()[-3000:]
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz").status == 200
            except OSError:
                return False

        wait_until("the replica is ready", is_ready)

    def stop(self, number):
        """Sends a signal and waits for the exit."""
        self.child.send_signal(number)
        status = self.child.wait(120)
        assert status == (0 if number == signal.SIGTERM else -number), f"exit status {status}: {self.log}"

    def end(self):
        self.running.__exit__(None, None, None)

    def run(self, *arguments):
        """Runs a command of the program with the same settings."""
        return subprocess.run([self.program, *arguments], env={**os.environ, **self.settings}, check=False,
                              capture_output=True, text=True)


class Access:
    """What nginx has done, by its access log."""

    def __init__(self, path):
        self.path = path
        self.read = 0

    def new(self):
        """The requests since the last call: status, replicas, how often the SDK had sent it before, and the request."""
        with self.path.open() as log:
            log.seek(self.read)
            lines = log.read()
        # A last line that nginx is still writing is left for the next call.
        complete = lines[: lines.rfind("\n") + 1]
        self.read += len(complete)
        requests = []
        for line in complete.splitlines():
            head, _, retries, request = line.split("|")
            status, upstreams = head.split(" ", 1)
            requests.append((int(status), upstreams.split(", "), int(retries) if retries.isdigit() else 0, request))
        return requests


class Report:
    """The table, a row for each phase."""

    COLUMNS = [
        "phase".ljust(23), "seconds", "SDK calls", "failed", "5xx", "SDK retries", "passed on", "repeated",
        "MiB verified", "differ",
    ]

    def __init__(self):
        self.problems = []
        self.print(self.COLUMNS)
        self.print(["-" * len(it) for it in self.COLUMNS])

    def add(self, phase, seconds, load, requests, may_retry=False):
        """`requests` are those that nginx logged during the phase."""
        calls = load.take()
        errors = [f"{it[0]} from {', '.join(it[1])} for {it[3]}" for it in requests if it[0] >= 500]
        retries = sum(it[2] > 0 for it in requests)
        passed_on = sum(len(it[1]) > 1 for it in requests)
        self.print([
            phase, f"{seconds:.1f}", calls.made, len(calls.failed), len(errors), retries, passed_on, calls.repeated,
            f"{calls.verified / 1024**2:.1f}", len(calls.differ),
        ])
        if calls.repeated:
            errors.append(f"{calls.repeated} deletions or cancellations had been done before")
        # Only a killed replica may need the SDK's retries.
        problems = calls.failed + calls.differ + ([] if may_retry else errors)
        self.problems += [f"{phase}: {it}" for it in problems]

    def print(self, row):
        cells = [str(it).ljust(len(name)) for it, name in zip(row, self.COLUMNS, strict=True)]
        print(f"| {' | '.join(cells)} |", flush=True)


def each_request_reaches_another_replica(load, access, replicas):
    """One client, one request at a time. Returns the requests."""
    client = load.new_client()
    for size in (10, 100_000, 3_000_000):
        load.upload(client, size, parts=5)
    load.chunked(client)
    # Four uploads: create, five parts, complete, download.
    wait_until("nginx has logged the requests", lambda: len(access.path.read_text().splitlines()) >= 4 * 8)
    requests = access.new()
    reached = [it[1][0] for it in requests]
    assert set(reached) == {f"127.0.0.1:{it.port}" for it in replicas}, reached
    together = [(a, b) for a, b in zip(reached, reached[1:]) if a == b]
    assert not together, f"{len(together)} of {len(reached)} requests reached the same replica as the one before"
    return requests


def one_by_one(replicas, number, pause):
    """Stops and starts each replica."""
    for replica in replicas:
        replica.stop(number)
        # With SIGKILL, nginx has to notice by itself.
        time.sleep(pause if number == signal.SIGKILL else 0)
        replica.start()
        replica.wait()
        time.sleep(pause)


def migrate_as_a_newer_version(sql):
    """Applies a migration that this program does not know, in one transaction, with the lock timeout of `migrate`."""
    version = int(sql("select max(version) + 1 from refinery_schema_history"))
    history = f"insert into refinery_schema_history values ({version}, 'expand_by_the_script', now()::text, '1')"
    for _ in range(30):
        try:
            sql(f"set local lock_timeout = '200ms'; {NEWER_VERSION.read_text()}; {history}")
            return version
        except subprocess.CalledProcessError as error:
            assert "lock timeout" in error.stderr or "deadlock" in error.stderr, error.stderr
            time.sleep(1)
    raise AssertionError("the migration could not lock the tables")


def start(arguments, folder, servers):
    """Starts everything. Returns a function that runs SQL, the replicas, and the port and the access log of nginx."""
    url, sql = servers.enter_context(postgres(tempfile.mkdtemp(dir=folder)))
    if arguments.pgbouncer:
        url = servers.enter_context(pgbouncer(tempfile.mkdtemp(dir=folder), url))
    store = servers.enter_context(seaweedfs(tempfile.mkdtemp(dir=folder)))
    settings = {
        **store, "DATABASE_URL": url, "WINDLASS_API_KEY": KEY, "WINDLASS_DATABASE_CONNECTIONS": "12",
        # All replicas sweep all the time.
        "WINDLASS_SWEEP_INTERVAL": "1s", "WINDLASS_DELETION_GRACE": "5s", "WINDLASS_LOG": "info,windlass::http=warn",
    }
    replicas = [Replica(arguments.old or arguments.program, folder, settings) for _ in range(3)]
    # All three migrate the empty database at once.
    for replica in replicas:
        replica.start()
        servers.callback(replica.end)
    for replica in replicas:
        replica.wait()
    port, log = servers.enter_context(nginx(tempfile.mkdtemp(dir=folder), [it.port for it in replicas]))
    return sql, replicas, port, log


def run(arguments, folder, servers):
    sql, replicas, port, log = start(arguments, folder, servers)
    load = Load(lambda: OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY), CLIENTS)
    access, report, pause = Access(log), Report(), arguments.seconds

    def phase(name, act, may_retry=False):
        began = time.monotonic()
        requests = act()
        report.add(name, time.monotonic() - began, load, requests or access.new(), may_retry)

    def loaded(act, *arguments):
        with load:
            act(*arguments)

    def upgrade():
        version = migrate_as_a_newer_version(sql)
        time.sleep(pause)
        one_by_one(replicas, signal.SIGTERM, pause)
        # The programs that now run have started on the newer schema.
        assert all(f"schema={version}" in it.log.read_text() for it in replicas)

    phase("each to another replica", lambda: each_request_reaches_another_replica(load, access, replicas))
    phase("steady", lambda: loaded(time.sleep, pause))
    phase("rolling restart", lambda: loaded(one_by_one, replicas, signal.SIGTERM, pause), bool(arguments.old))
    for replica in replicas:
        replica.program = arguments.program
    if arguments.old:
        phase("upgrade from --old", lambda: loaded(one_by_one, replicas, signal.SIGTERM, pause), True)
    phase("rolling upgrade", lambda: loaded(upgrade))
    phase("kill -9 of each", lambda: loaded(one_by_one, replicas, signal.SIGKILL, pause), True)
    phase("every file again", load.verify_and_delete_everything)
    print(f"files that no client knows, since the response to their creation was lost: {load.unknown}")
    checked = replicas[0].run("fsck", "--deep")
    print(f"windlass fsck --deep: exit status {checked.returncode}")
    if checked.returncode != 0:
        report.problems.append(f"fsck: {checked.stdout}{checked.stderr}"[:3000])
    for problem in report.problems:
        print(problem)
    return 1 if report.problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path, help="the windlass program")
    parser.add_argument("--seconds", type=float, default=5, help="load after each restart, migration and kill")
    parser.add_argument("--old", type=Path, help="an older version, which is running at first")
    parser.add_argument("--pgbouncer", action="store_true", help="PgBouncer in transaction mode before Postgres")
    parser.add_argument("--keep", action="store_true", help="keep the directory with all logs")
    arguments = parser.parse_args()
    arguments.program = arguments.program.resolve()
    folder = Path(tempfile.mkdtemp(prefix="windlass-replicas-"))
    # PostgreSQL and PgBouncer run as another user if this is root.
    folder.chmod(0o755)
    try:
        with ExitStack() as servers:
            return run(arguments, folder, servers)
    finally:
        if arguments.keep:
            print(f"logs: {folder}")
        else:
            subprocess.run(["rm", "-rf", folder], check=True)


if __name__ == "__main__":
    sys.exit(main())
