"""A proxy that replaces the made-up ids in OpenAI's generated SDK tests with ids of real uploads and files.

Those tests were generated for a mock server that accepts everything: they cancel `upload_abc123` repeatedly, complete
it with the part `string`, delete `file_id`, and list with `limit=0`. Windlass would correctly respond with 404 or 400.
For each such request, this proxy first creates a real upload or file, and then replaces the made-up id with the real
one. Every request reaches the real server, and its responses are returned unchanged.
"""

import hashlib
import json
import re
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

MADE_UP_UPLOAD = "upload_abc123"
MADE_UP_FILE = re.compile("(?<=/files/)(file_id|string)")  # openai 3.x, and 2.x
DATA = b"Example data"  # what the generated tests send as a part
NOT_PASSED_ON = {"authorization", "connection", "content-length", "host", "keep-alive", "transfer-encoding"}


class Windlass:
    """The real server, and the objects created on it for the tests."""

    def __init__(self, base_url, api_key):
        url = urlsplit(base_url)
        self.address, self.prefix = url.netloc, url.path
        self.key = {"Authorization": f"Bearer {api_key}"}
        self.file_ids = set()

    def send(self, method, path, body, headers):
        """Sends one request with the real key. Returns the status, headers and body of the response."""
        connection = HTTPConnection(self.address, timeout=30)
        connection.request(method, path, body, {**headers, **self.key})
        answer = connection.getresponse()
        status, headers, body = answer.status, answer.getheaders(), answer.read()
        connection.close()
        if method == "POST" and status == 200:
            made = json.loads(body)
            file = made if made["object"] == "file" else made.get("file")
            self.file_ids |= {file["id"]} if file else set()
        return status, headers, body

    def make(self, path, body, content_type="application/json"):
        """Creates an object that the tests need. Returns its id."""
        status, _, answer = self.send("POST", self.prefix + path, body, {"Content-Type": content_type})
        assert status == 200, answer
        return json.loads(answer)["id"]

    def make_upload(self):
        wanted = {"bytes": len(DATA), "filename": "shim.txt", "mime_type": "text/plain", "purpose": "assistants"}
        return self.make("/uploads", json.dumps(wanted).encode())

    def make_part(self, upload_id):
        return self.make(f"/uploads/{upload_id}/parts", *form(data=DATA))

    def make_file(self):
        return self.make("/files", *form(purpose=b"assistants", file=DATA))

    def delete_files(self):
        for file_id in self.file_ids:
            self.send("DELETE", f"{self.prefix}/files/{file_id}", None, {})

    def make_real(self, path, body):
        """Replaces made-up ids and values in a request with real ones."""
        url = urlsplit(path)
        if f"/{MADE_UP_UPLOAD}/" in url.path:
            upload_id = self.make_upload()
            path = path.replace(MADE_UP_UPLOAD, upload_id)
            if url.path.endswith("/complete"):
                part_id, md5 = self.make_part(upload_id), hashlib.md5(DATA).hexdigest()
                body = replace_fields(body, part_ids=[part_id], md5=md5)
        elif MADE_UP_FILE.search(url.path):
            path = MADE_UP_FILE.sub(self.make_file(), path)
        elif url.path == self.prefix + "/uploads":
            body = replace_fields(body, mime_type="text/plain")
        elif parse_qs(url.query).get("limit") == ["0"]:
            query = {"after": self.make_file(), "limit": 1, "order": "asc", "purpose": "assistants"}
            path = f"{url.path}?{urlencode(query)}"
        return path, body


class Proxy(BaseHTTPRequestHandler):
    """Forwards requests and returns their responses."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or None
        path, body = self.server.windlass.make_real(self.path, body)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in NOT_PASSED_ON}
        status, headers, body = self.server.windlass.send(self.command, path, body, headers)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = pass_on


def form(**fields):
    """A multipart body, in which `file` and `data` are files, and its content type."""
    body = b""
    for name, value in fields.items():
        filename = '; filename="shim.txt"' if name in ("file", "data") else ""
        body += f'--shim\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + value + b"\r\n"
    return body + b"--shim--\r\n", "multipart/form-data; boundary=shim"


def replace_fields(body, **fields):
    """Replaces fields of a JSON object, if it has them."""
    sent = json.loads(body)
    return json.dumps({name: fields.get(name, value) for name, value in sent.items()}).encode()


@contextmanager
def fixture_shim(base_url, api_key):
    """Runs the proxy on a free loopback port. Yields its base URL. Deletes the files of the tests at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    server.windlass = Windlass(base_url, api_key)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{server.windlass.prefix}"
    finally:
        server.shutdown()
        server.server_close()
        server.windlass.delete_files()
