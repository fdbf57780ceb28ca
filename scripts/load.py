"""A steady load of OpenAI's Python SDK on a service: every call is counted, and every byte compared."""

import hashlib
import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from openai import BadRequestError, NotFoundError


@dataclass
class Calls:
    """What happened in a phase."""

    made: int = 0
    failed: list[str] = field(default_factory=list)
    # Deletions and cancellations that an earlier try, whose response was lost, had already done: 404 and 400, as from
    # OpenAI.
    repeated: int = 0
    verified: int = 0
    differ: list[str] = field(default_factory=list)


class Failed(Exception):
    """A call failed, and has been counted; what depends on it is given up."""


class Load:
    """Clients that run while the load is entered as a context."""

    def __init__(self, new_client, clients):
        self.new_client = new_client
        self.clients = clients
        self.lock = threading.Lock()
        self.calls = Calls()
        # The files that were acknowledged and not deleted: their size and SHA-256 by id.
        self.files = {}

    def __enter__(self):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(random.Random(),)) for _ in range(self.clients)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def take(self):
        """The calls since the last time."""
        with self.lock:
            calls, self.calls = self.calls, Calls()
        return calls

    def call(self, what, function, *arguments, done_before=(), **named):
        """Calls the SDK. `done_before` is the error that says that an earlier try has succeeded."""
        with self.lock:
            self.calls.made += 1
        try:
            return function(*arguments, **named)
        except done_before:
            with self.lock:
                self.calls.repeated += 1
        except Exception as error:
            self.fail(f"{what}: {type(error).__name__}: {error}")

    def fail(self, what):
        with self.lock:
            self.calls.failed.append(what[:300])
        raise Failed

    def work(self, chance):
        client = self.new_client()
        mine = []
        while not self.stop.is_set():
            try:
                file = chance.choice([self.upload_of_any_size, self.upload_of_any_size, self.form])(client, chance)
                mine.append(file)
                self.look(client, chance.choice(mine))
                if chance.random() < 0.2:
                    self.give_up(client)
                if chance.random() < 0.3:
                    self.delete(client, mine.pop(chance.randrange(len(mine))))
            except Failed:
                continue

    def upload_of_any_size(self, client, chance):
        # Up to 4 KiB a part is stored in the database.
        return self.upload(client, chance.choice([10, 5_000, 300_000, 2_000_000]), chance.randint(1, 5))

    def upload(self, client, size, parts):
        """Sends parts, completes them in another order than they were sent, downloads the file and compares it."""
        content = random.randbytes(size)
        bounds = sorted(random.sample(range(1, size), parts - 1))
        pieces = [content[a:b] for a, b in zip([0, *bounds], [*bounds, size])]
        upload = self.call("uploads.create", client.uploads.create, filename="load.bin", purpose="user_data",
                           bytes=size, mime_type="application/octet-stream")
        sent = {}
        for at in random.sample(range(parts), parts):
            sent[at] = self.call("uploads.parts.create", client.uploads.parts.create, upload.id, data=pieces[at]).id
        md5 = hashlib.md5(content).hexdigest()
        done = self.call("uploads.complete", client.uploads.complete, upload.id,
                         part_ids=[sent[at] for at in range(parts)], md5=md5)
        return self.keep(client, done.file, content)

    def chunked(self, client):
        """The SDK's own way to upload a file."""
        content = random.randbytes(1_000_000)
        done = self.call("uploads.upload_file_chunked", client.uploads.upload_file_chunked, file=content,
                         filename="chunked.bin", bytes=len(content), mime_type="application/octet-stream",
                         purpose="user_data", part_size=200_000)
        return self.keep(client, done.file, content)

    def form(self, client, chance):
        content = random.randbytes(chance.choice([10, 50_000, 1_000_000]))
        file = self.call("files.create", client.files.create, file=("form.bin", io.BytesIO(content)),
                         purpose="user_data")
        return self.keep(client, file, content)

    def keep(self, client, file, content):
        with self.lock:
            self.files[file.id] = (len(content), hashlib.sha256(content).hexdigest())
        self.compare(client, file.id)
        return file.id

    def compare(self, client, file):
        content = self.call("files.content", client.files.content, file).read()
        with self.lock:
            self.calls.verified += len(content)
            if (len(content), hashlib.sha256(content).hexdigest()) != self.files[file]:
                self.calls.differ.append(f"{file} differs")

    def look(self, client, file):
        found = self.call("files.retrieve", client.files.retrieve, file)
        page = self.call("files.list", client.files.list, limit=20, order="desc")
        with self.lock:
            if found.bytes != self.files[file][0] or not page.data:
                self.calls.differ.append(f"{file} has {found.bytes} bytes, or the list is empty")

    def give_up(self, client):
        upload = self.call("uploads.create", client.uploads.create, filename="given-up.bin", purpose="user_data",
                           bytes=5_000, mime_type="application/octet-stream")
        self.call("uploads.parts.create", client.uploads.parts.create, upload.id, data=bytes(5_000))
        self.call("uploads.cancel", client.uploads.cancel, upload.id, done_before=BadRequestError)
        found = self.call("GET upload", client.get, f"/uploads/{upload.id}", cast_to=object)
        if found["status"] != "cancelled":
            self.fail(f"uploads.cancel: {found['status']}")

    def delete(self, client, file):
        with self.lock:
            del self.files[file]
        self.call("files.delete", client.files.delete, file, done_before=NotFoundError)

    def verify_and_delete_everything(self):
        client = self.new_client()
        listed = [it.id for it in self.call("files.list", lambda: list(client.files.list(limit=1000)))]
        for file in set(self.files) - set(listed):
            self.calls.differ.append(f"{file} is not in the list")
        self.unknown = len(set(listed) - set(self.files))
        def verify_and_delete(file):
            try:
                self.compare(client, file)
                self.delete(client, file)
            except Failed:
                pass  # It has been counted.

        with ThreadPoolExecutor(self.clients) as pool:
            list(pool.map(verify_and_delete, list(self.files)))
