"""Uploads a real file of over 1 GiB with OpenAI's Python SDK, downloads it again and compares the bytes.

Run it as `./dev main-job`, or in a short form as `./dev main-job --mib 64 directory`. It runs on a directory and on a
real SeaweedFS. The file (this machine's Rust toolchain as a tar) is uploaded with `upload_file_chunked`, and again in
parts, eight at a time and in random order, which are completed in the file's order. It is then downloaded whole and in
random ranges, and compared. Prints the time of each step and the service's peak memory (VmHWM of its process, without
the database).
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI

from servers import ROOT, process, seaweedfs

PART = 64 * 1024 * 1024
GIB = 1024**3
RANGES = 200
PEAK_MIB = 150


def real_file(folder, size):
    """The Rust toolchain as a tar, repeated until it has `size` bytes, and truncated to them if this is under 1 GiB.

    A few more bytes make sure that the file does not end on a part boundary.
    """
    sysroot = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True, cwd=ROOT).strip())
    path = Path(folder) / "toolchain.tar"
    with path.open("wb") as file:
        while file.tell() < size:
            subprocess.run(["tar", "-C", sysroot.parent, "-cf", "-", sysroot.name], stdout=file, check=True)
            file.seek(0, os.SEEK_END)
        if size < GIB:
            file.truncate(size)
            file.seek(size)
        file.write(b"the end, not on a boundary")
    return path


@contextmanager
def windlass(program, folder, environment):
    settings = {"WINDLASS_DATA_DIR": str(Path(folder) / "data"), "WINDLASS_LISTEN": "127.0.0.1:0"}
    with process([program], Path(folder) / "windlass.log", {**settings, **environment}) as child:
        address = child.stdout.readline().decode().removeprefix("listening on ").strip()
        assert address, (Path(folder) / "windlass.log").read_text()
        child.stdout.readline()
        key = (Path(folder) / "data/api-key").read_text().strip()
        yield OpenAI(base_url=f"{address}/v1", api_key=key), child.pid


def peak_mib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def timed(what, size):
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    print(f"  {what:<44} {seconds:7.2f} s  {size / seconds / 1e6:7.0f} MB/s", flush=True)


def upload_in_sequence(client, path):
    return client.uploads.upload_file_chunked(file=path, mime_type="application/x-tar", purpose="user_data").file


def upload_in_parallel(client, path):
    size = path.stat().st_size
    upload = client.uploads.create(
        filename=path.name, purpose="user_data", bytes=size, mime_type="application/x-tar"
    )

    def send(offset):
        with path.open("rb") as file:
            file.seek(offset)
            return offset, client.uploads.parts.create(upload.id, data=file.read(PART)).id

    offsets = list(range(0, size, PART))
    random.shuffle(offsets)
    with ThreadPoolExecutor(8) as pool:
        parts = sorted(pool.map(send, offsets))
    return client.uploads.complete(upload.id, part_ids=[part for _, part in parts]).file


def sha256(pieces):
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def pieces_of(path):
    with path.open("rb") as file:
        while piece := file.read(1024 * 1024):
            yield piece


def check_whole(client, file, path):
    with client.files.with_streaming_response.content(file.id) as answer:
        assert sha256(answer.iter_bytes(1024 * 1024)) == sha256(pieces_of(path)), "the downloaded file differs"


def check_ranges(client, file, path):
    size = path.stat().st_size
    with path.open("rb") as local:
        for _ in range(RANGES):
            start = random.randrange(size)
            end = min(size, start + random.choice([1, 1000, 10**6, PART]))
            request = urllib.request.Request(
                f"{client.base_url}files/{file.id}/content",
                headers={"Authorization": f"Bearer {client.api_key}", "Range": f"bytes={start}-{end - 1}"},
            )
            local.seek(start)
            assert urllib.request.urlopen(request).read() == local.read(end - start), (start, end)


def main_job(name, client, pid, path):
    size = path.stat().st_size
    print(f"{name}: {size} bytes")
    ways = [("upload_file_chunked", upload_in_sequence), ("8 parallel, completed in file order", upload_in_parallel)]
    for what, upload in ways:
        with timed(what, size):
            file = upload(client, path)
        assert file.bytes == size, file
        with timed("  whole download, compared", size):
            check_whole(client, file, path)
        check_ranges(client, file, path)
        print(f"    {RANGES} random ranges, compared")
        client.files.delete(file.id)
    peak = peak_mib(pid)
    print(f"  peak memory of the service: {peak:.0f} MiB")
    return peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path, help="the windlass program")
    parser.add_argument("--mib", type=int, default=1024, help="minimum size of the file, in MiB")
    parser.add_argument("stores", nargs="*", default=["directory", "seaweedfs"])
    arguments = parser.parse_intermixed_args()
    program = arguments.program.resolve()
    peaks = {}
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        path = real_file(folder, arguments.mib * 1024**2)
        for name in arguments.stores:
            place = Path(folder) / name
            place.mkdir()
            if name == "directory":
                with windlass(program, place, {}) as (client, pid):
                    peaks[name] = main_job(name, client, pid, path)
            else:
                with tempfile.TemporaryDirectory(dir=place) as objects, seaweedfs(objects) as settings:
                    with windlass(program, place, settings) as (client, pid):
                        peaks[name] = main_job(name, client, pid, path)
    print(json.dumps({"peak_mib": peaks, "allowed_mib": PEAK_MIB}))
    return 0 if max(peaks.values()) < PEAK_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
