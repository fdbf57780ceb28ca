"""Measures what docs/operations.md, Sizing, states: database and WAL for each object, memory and connections of the
process. Usage: sizing.py PROGRAM [--files N]"""

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

from servers import free_port, postgres, process, seaweedfs, wait_until

KEY = "the-key-of-the-measurement"
CLIENTS = 8
TABLES = ("upload", "part", "file")
BODY = 16 * 1024 * 1024


class Client:
    """One connection to the service for each thread."""

    def __init__(self, port):
        self.port = port
        self.local = threading.local()

    def send(self, method, path, body=b"", content_type="application/json"):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type}
        while True:
            self.local.connection.request(method, path, body, headers)
            response = self.local.connection.getresponse()
            answer = response.read()
            if response.status == 200:
                return json.loads(answer)
            # A slow store: the part has waited for memory for 20 s.
            assert response.status == 503, (response.status, answer)
            time.sleep(int(response.headers["retry-after"]))

    def upload(self, size):
        body = {"filename": "data.bin", "purpose": "user_data", "bytes": size, "mime_type": "application/octet-stream"}
        return self.send("POST", "/v1/uploads", json.dumps(body))["id"]

    def part(self, upload, data):
        head = b'--B\r\nContent-Disposition: form-data; name="data"; filename="x"\r\n\r\n'
        body = head + data + b"\r\n--B--\r\n"
        return self.send("POST", f"/v1/uploads/{upload}/parts", body, "multipart/form-data; boundary=B")["id"]

    def complete(self, upload, part):
        return self.send("POST", f"/v1/uploads/{upload}/complete", json.dumps({"part_ids": [part]}))["file"]["id"]

    def delete(self, file):
        return self.send("DELETE", f"/v1/files/{file}")


@contextmanager
def windlass(program, folder, settings):
    """Yields its port and its process id."""
    port = free_port()
    settings = {"WINDLASS_LISTEN": f"127.0.0.1:{port}", "WINDLASS_API_KEY": KEY, "WINDLASS_LOG": "warn",
                "WINDLASS_DATA_DIR": str(folder), **settings}
    with process([program, "serve"], Path(folder) / "log", settings) as child:
        wait_until("Windlass listens", lambda: b"listening" in child.stdout.readline())
        yield port, child.pid


def measure_rows(client, sql, files, size):
    """Bytes of each table for a file of one part, and bytes of WAL for each step."""
    def total():
        return [int(sql(f"select pg_total_relation_size('{table}')")) for table in TABLES]

    wal = {}

    def step(name, function, *lists):
        sql("checkpoint")
        before = sql("select pg_current_wal_insert_lsn()")
        with ThreadPoolExecutor(CLIENTS) as pool:
            made = list(pool.map(function, *lists))
        wal[name] = int(sql(f"select pg_current_wal_insert_lsn() - '{before}'::pg_lsn")) / files
        return made

    before = total()
    data = os.urandom(size)
    uploads = step("create", lambda _: client.upload(size), range(files))
    parts = step("part", lambda upload: client.part(upload, data), uploads)
    made = step("complete", client.complete, uploads, parts)
    grown = [(after - start) / files for start, after in zip(before, total(), strict=True)]
    step("delete", client.delete, made)
    return dict(zip(TABLES, grown, strict=True)), wal


def memory(pid, name):
    line = next(it for it in Path(f"/proc/{pid}/status").read_text().splitlines() if it.startswith(name))
    return int(line.split()[1]) // 1024


def measure_memory(program, settings, at_once):
    """Resident MiB of a new process, its peak with these parts at once, and its connections after them."""
    url, sql, settings = settings
    with tempfile.TemporaryDirectory() as folder, windlass(program, folder, {"DATABASE_URL": url, **settings}) as it:
        port, pid = it
        client = Client(port)
        upload = client.upload(at_once * BODY)
        before = memory(pid, "VmRSS")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        data = os.urandom(BODY)
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda _: client.part(upload, data), range(at_once)))
        connections = sql("select count(*) from pg_stat_activity where backend_type = 'client backend' "
                          "and pid <> pg_backend_pid()")
        peak = memory(pid, "VmHWM")
        client.send("POST", f"/v1/uploads/{upload}/cancel")
        return before, peak, connections


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("program")
    arguments.add_argument("--files", type=int, default=20_000)
    arguments = arguments.parse_args()
    program = Path(arguments.program).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for name in ("postgres", "store", "objects", "data"):
            (Path(folder) / name).mkdir()
        with postgres(Path(folder) / "postgres") as (url, sql):
            directory = {"WINDLASS_STORE": f"file://{folder}/objects"}
            print(f"{arguments.files} files of one part each; bytes for each file\n")
            print("| part of | " + " | ".join(TABLES) + " | WAL of create | of the part | of complete | of delete |")
            print("| --- |" + " ---: |" * 7)
            for size in (5000, 4096):
                settings = {"DATABASE_URL": url, **directory}
                with windlass(program, Path(folder) / "data", settings) as (port, _):
                    tables, wal = measure_rows(Client(port), sql, arguments.files, size)
                where = "an object" if size > 4096 else f"{size} bytes in the database"
                figures = [tables[it] for it in TABLES] + list(wal.values())
                print(f"| {where} | " + " | ".join(f"{it:.0f}" for it in figures) + " |", flush=True)
            print(f"\nparts of {BODY >> 20} MiB at once; MiB of memory, and connections to Postgres\n")
            print("| store | parts at once | before | peak | connections |")
            print("| --- | ---: | ---: | ---: | ---: |")
            for name, server in (("directory", nullcontext(directory)), ("SeaweedFS", seaweedfs(f"{folder}/store"))):
                with server as settings:
                    for at_once in (1, 4, 16, 64):
                        sql("drop schema public cascade; create schema public")
                        if name == "directory":
                            place = f"file://{folder}/objects-{at_once}"
                        else:
                            place = f"s3://main-job/objects-{at_once}"
                        own = {**settings, "WINDLASS_STORE": place}
                        figures = measure_memory(program, (url, sql, own), at_once)
                        print(f"| {name} | {at_once} | " + " | ".join(map(str, figures)) + " |", flush=True)


if __name__ == "__main__":
    main()
