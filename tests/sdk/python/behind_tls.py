"""Uploads, downloads and signs a file through a proxy with TLS: behind_tls.py ADDRESS KEY CERTIFICATE."""

import hashlib
import os
import ssl
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from openai import AuthenticationError, DefaultHttpxClient, OpenAI

PART = 4 * 1024**2


def main():
    address, key, certificate = sys.argv[1:]
    context = ssl.create_default_context(cafile=certificate)
    client = OpenAI(base_url=f"{address}/v1", api_key=key, http_client=DefaultHttpxClient(verify=context))
    content = os.urandom(5 * PART + 1)

    upload = client.uploads.create(
        filename="data.bin", purpose="user_data", bytes=len(content), mime_type="application/octet-stream"
    )
    pieces = [content[at : at + PART] for at in range(0, len(content), PART)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda piece: client.uploads.parts.create(upload.id, data=piece).id, pieces))
    md5 = hashlib.md5(content).hexdigest()
    file = client.uploads.complete(upload.id, part_ids=parts, md5=md5).file
    assert client.files.content(file.id).read() == content

    def get(url, headers):
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context)

    signed = client.post(f"/files/{file.id}/signed_url", cast_to=object, body={})
    assert signed["url"].startswith(f"{address}/signed/"), signed
    assert get(signed["url"], {"Range": "bytes=5-14"}).read() == content[5:15]

    try:
        client.with_options(api_key="wrong").files.list()
        raise AssertionError("a wrong key was accepted")
    except AuthenticationError:
        pass
    client.files.delete(file.id)


main()
