"""Tests of Windlass with OpenAI's Python SDK, 2.x and 3.x.

Required environment variables: WINDLASS_BASE_URL, WINDLASS_API_KEY, WINDLASS_OTHER_API_KEY (of another project) and
WINDLASS_EXPIRED_UPLOAD (the id of an expired upload). Several runs may share a server: each test checks only objects
that it created, and all files are deleted at the end. If WINDLASS_AZURE_ENDPOINT is set, the clients are those of Azure
OpenAI, with that endpoint.
"""

import asyncio
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import openai
import pytest
from openai import APIStatusError, AsyncOpenAI, AuthenticationError, BadRequestError, NotFoundError, OpenAI

SERVER = {"base_url": os.environ["WINDLASS_BASE_URL"], "api_key": os.environ["WINDLASS_API_KEY"], "timeout": 30}
if azure_endpoint := os.environ.get("WINDLASS_AZURE_ENDPOINT"):
    OpenAI, AsyncOpenAI = openai.AzureOpenAI, openai.AsyncAzureOpenAI
    SERVER = {**SERVER, "base_url": None, "azure_endpoint": azure_endpoint, "api_version": "2025-04-01-preview"}
OTHER_API_KEY = os.environ["WINDLASS_OTHER_API_KEY"]
EXPIRED_UPLOAD = os.environ["WINDLASS_EXPIRED_UPLOAD"]

AN_HOUR = {"anchor": "created_at", "seconds": 3600}
THIRTY_DAYS = 2_592_000
PIECES = [os.urandom(10_000 + i) for i in range(8)]
WHOLE = b"".join(PIECES)
TEXT = {"filename": "windlass.txt", "mime_type": "text/plain", "purpose": "user_data"}

SENT = []
"""Every request that the client of the tests has sent, retries included."""


@pytest.fixture(scope="session")
def client():
    http_client = openai.DefaultHttpxClient(event_hooks={"request": [SENT.append]})
    with OpenAI(**SERVER, http_client=http_client) as client:
        yield client


@pytest.fixture(scope="session")
def stranger(client):
    """The same client with a key of another project."""
    return client.with_options(api_key=OTHER_API_KEY)


@pytest.fixture(scope="session")
def keep(client):
    """Returns the file or completed upload, and deletes the file after all tests."""
    kept = []

    def keep(made):
        kept.append(getattr(made, "file", made).id)
        return made

    yield keep
    for file_id in kept:
        with suppress(NotFoundError):
            client.files.delete(file_id)


@contextmanager
def refused(kind, status):
    """Expects an error of exactly this class, with all its fields, after exactly one request."""
    before = len(SENT)
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind and error.status_code == status
    assert error.request_id and error.message and error.type == error.body["type"]
    assert {"message", "type", "param", "code"} <= error.body.keys()
    assert len(SENT) == before + 1, "a final error was retried"


def create(client, size=len(WHOLE), **changes):
    return client.uploads.create(**{**TEXT, "bytes": size, **changes})


def add_parts(client, upload, pieces=PIECES):
    return [client.uploads.parts.create(upload.id, data=it).id for it in pieces]


def read(client, file_id):
    return client.files.content(file_id).read()


# Uploads


def test_a_path_is_uploaded_in_chunks(client, keep, tmp_path):
    path = tmp_path / "chunked.txt"
    path.write_bytes(WHOLE)
    upload = client.uploads.upload_file_chunked(file=path, mime_type="txt", purpose="user_data", part_size=30_000)
    file = keep(upload).file
    assert (upload.object, upload.status, upload.expires_at) == ("upload", "completed", upload.created_at + 3600)
    assert (file.object, file.status, file.expires_at) == ("file", "processed", None)
    assert (file.filename, file.bytes, file.purpose) == ("chunked.txt", len(WHOLE), "user_data")
    assert read(client, file.id) == WHOLE


def test_bytes_are_uploaded_in_chunks_with_their_md5(client, keep):
    md5 = hashlib.md5(WHOLE).hexdigest()
    upload = keep(client.uploads.upload_file_chunked(file=WHOLE, bytes=len(WHOLE), part_size=30_000, md5=md5, **TEXT))
    assert read(client, upload.file.id) == WHOLE


def test_an_empty_file_has_no_parts(client, keep):
    upload = keep(client.uploads.upload_file_chunked(file=b"", bytes=0, **TEXT))
    assert upload.status == "completed" and upload.file.bytes == 0
    assert read(client, upload.file.id) == b""


def test_parts_sent_in_parallel_are_put_in_the_order_given_at_completion(client, keep):
    upload = create(client)

    def add(i):
        return i, client.uploads.parts.create(upload.id, data=PIECES[i]).id

    with ThreadPoolExecutor(4) as pool:
        part_ids = dict(pool.map(add, reversed(range(len(PIECES)))))
    completed = keep(client.uploads.complete(upload.id, part_ids=[part_ids[i] for i in range(len(PIECES))]))
    assert read(client, completed.file.id) == WHOLE


def test_the_async_client_gathers_parts_and_uploads_in_chunks(client, keep):
    async def both():
        async with AsyncOpenAI(**SERVER) as client:
            upload = await create(client)
            parts = await asyncio.gather(*[client.uploads.parts.create(upload.id, data=it) for it in PIECES])
            gathered = await client.uploads.complete(upload.id, part_ids=[part.id for part in reversed(parts)])
            chunked = await client.uploads.upload_file_chunked(file=WHOLE, bytes=len(WHOLE), part_size=30_000, **TEXT)
            return gathered, chunked

    gathered, chunked = map(keep, asyncio.run(both()))
    assert read(client, gathered.file.id) == b"".join(reversed(PIECES))
    assert read(client, chunked.file.id) == WHOLE


def test_a_part_left_out_at_completion_is_left_out_of_the_file(client, keep):
    upload = create(client, len(PIECES[0]) + len(PIECES[2]))
    first, _, third = add_parts(client, upload, PIECES[:3])
    completed = keep(client.uploads.complete(upload.id, part_ids=[first, third]))
    assert read(client, completed.file.id) == PIECES[0] + PIECES[2]


def test_completing_again_gives_the_same_file_and_another_list_is_refused(client, keep):
    upload = create(client)
    part_ids = add_parts(client, upload)
    first = keep(client.uploads.complete(upload.id, part_ids=part_ids))
    assert client.uploads.complete(upload.id, part_ids=part_ids) == first
    with refused(BadRequestError, 400):
        client.uploads.complete(upload.id, part_ids=part_ids[::-1])
    with refused(BadRequestError, 400):
        client.uploads.parts.create(upload.id, data=b"too late")
    with refused(BadRequestError, 400):
        client.uploads.cancel(upload.id)
    assert read(client, first.file.id) == WHOLE


def test_an_upload_succeeds_if_the_first_response_to_every_request_is_lost(keep):
    def lose(response):
        if response.request.headers["x-stainless-retry-count"] == "0":
            response.status_code = 503  # as from a gateway that has lost the server's response

    with OpenAI(**SERVER, http_client=openai.DefaultHttpxClient(event_hooks={"response": [lose]})) as unlucky:
        upload = keep(unlucky.uploads.upload_file_chunked(file=WHOLE, bytes=len(WHOLE), part_size=50_000, **TEXT))
        assert upload.status == "completed"
        assert read(unlucky, upload.file.id) == WHOLE


def test_a_wrong_md5_is_refused_and_the_upload_completes_afterwards(client, keep):
    upload = create(client)
    part_ids = add_parts(client, upload)
    with refused(BadRequestError, 400):
        client.uploads.complete(upload.id, part_ids=part_ids, md5=hashlib.md5(b"something else").hexdigest())
    md5 = hashlib.md5(WHOLE).hexdigest()
    completed = keep(client.uploads.complete(upload.id, part_ids=part_ids, md5=md5))
    assert read(client, completed.file.id) == WHOLE


def test_parts_that_do_not_fit_are_refused_and_the_upload_completes_afterwards(client, keep):
    upload = create(client, 3)
    one, two = add_parts(client, upload, [b"a", b"bc"])
    elsewhere = create(client, 2)
    [foreign] = add_parts(client, elsewhere, [b"bc"])
    with refused(BadRequestError, 400) as too_few:
        client.uploads.complete(upload.id, part_ids=[two])
    assert "2 bytes" in too_few.value.message and "3 bytes" in too_few.value.message
    for wrong in ([], [one, one, one], [one, foreign], [one, "part_" + 32 * "0"], [one, "string"]):
        with refused(BadRequestError, 400):
            client.uploads.complete(upload.id, part_ids=wrong)
    completed = keep(client.uploads.complete(upload.id, part_ids=[two, one]))
    assert read(client, completed.file.id) == b"bca"
    client.uploads.cancel(elsewhere.id)


def test_a_cancelled_upload_accepts_no_parts_and_cannot_be_completed(client):
    upload = create(client, 3)
    part_ids = add_parts(client, upload, [b"abc"])
    cancelled = client.uploads.cancel(upload.id)
    assert cancelled.status == "cancelled" and cancelled.file is None
    assert cancelled.expires_at == upload.expires_at
    with refused(BadRequestError, 400):
        client.uploads.parts.create(upload.id, data=b"abc")
    with refused(BadRequestError, 400):
        client.uploads.complete(upload.id, part_ids=part_ids)


def test_an_expired_upload_is_an_api_status_error_410(client):
    with refused(APIStatusError, 410):
        client.uploads.parts.create(EXPIRED_UPLOAD, data=b"abc")
    with refused(APIStatusError, 410):
        client.uploads.complete(EXPIRED_UPLOAD, part_ids=[])
    with refused(APIStatusError, 410):
        client.uploads.cancel(EXPIRED_UPLOAD)


# Files


def test_a_file_from_a_path_is_read_at_once_streamed_or_written_to_disk(client, keep, tmp_path):
    path = tmp_path / "whole.bin"
    path.write_bytes(WHOLE)
    file = keep(client.files.create(file=path, purpose="user_data"))
    assert (file.filename, file.bytes) == ("whole.bin", len(WHOLE))
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert content.read() == WHOLE
    assert content.response.headers["content-type"] == "application/octet-stream"
    content.write_to_file(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == WHOLE
    with client.files.with_streaming_response.content(file.id) as response:
        assert b"".join(response.iter_bytes(4096)) == WHOLE


def test_a_deleted_file_is_gone(client):
    file = client.files.create(file=b"short-lived", purpose="user_data")
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    for use in (client.files.retrieve, client.files.content, client.files.delete):
        with refused(NotFoundError, 404):
            use(file.id)


@pytest.mark.parametrize(
    "name",
    [
        "你好 wörld 🦀.txt",
        'said "hello".txt',
        "50%22.txt",
        "../up; filename=x.txt",
        "a\\b.txt",
        "\\\\server\\share\\x",
        "C:\\dir\\",
        'a\\\\"b\\"',
    ],
)
def test_a_file_name_is_preserved(client, keep, name):
    upload = client.uploads.upload_file_chunked(file=b"abc", bytes=3, **{**TEXT, "filename": name})
    assert keep(upload).file.filename == name
    assert client.files.retrieve(upload.file.id).filename == name
    file = keep(client.files.create(file=(name, b"abc"), purpose="user_data"))
    # In a form, a quote is sent as %22 and %22 as itself, so the two cannot be distinguished.
    assert file.filename.replace("%22", '"') == name.replace("%22", '"')
    assert read(client, file.id) == read(client, upload.file.id) == b"abc"


def test_expires_after_sets_the_expiry_of_the_file(client, keep):
    upload = create(client, 0, expires_after=AN_HOUR)
    by_upload = keep(client.uploads.complete(upload.id, part_ids=[])).file
    by_form = keep(client.files.create(file=b"abc", purpose="user_data", expires_after=AN_HOUR))
    for file in (by_upload, by_form):
        assert file.expires_at == file.created_at + 3600


def test_only_batch_files_expire_by_default_after_30_days(client, keep):
    batch = keep(client.files.create(file=("requests.jsonl", b"{}\n"), purpose="batch"))
    upload = create(client, 0, purpose="batch", filename="requests.jsonl", mime_type="application/jsonl")
    chunked_batch = keep(client.uploads.complete(upload.id, part_ids=[])).file
    assert [it.expires_at - it.created_at for it in (batch, chunked_batch)] == [THIRTY_DAYS, THIRTY_DAYS]
    assert keep(client.files.create(file=b"abc", purpose="user_data")).expires_at is None


def test_waiting_for_processing_returns_at_once(client, keep):
    file = keep(client.files.create(file=b"abc", purpose="user_data"))
    before = len(SENT)
    assert client.files.wait_for_processing(file.id, poll_interval=1, max_wait_seconds=2).status == "processed"
    assert len(SENT) == before + 1


# Lists


@pytest.fixture(scope="session")
def shelf(client, keep):
    """A dozen files of two purposes, created one after another, several of them within the same second."""
    return [keep(client.files.create(file=b"abc", purpose=it)) for it in ["user_data", "assistants"] * 6]


def walk(client, start, end, **query):
    """Lists the ids after `start` up to `end`, one per page. Starts again if another run deletes a cursor."""
    for _ in range(5):
        seen = []
        try:
            for file in client.files.list(limit=1, after=start, **query):
                assert file.id not in seen
                seen.append(file.id)
                if file.id == end:
                    break
        except NotFoundError:
            continue
        return seen
    pytest.fail("files were deleted during every attempt")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("purpose", [None, "user_data"])
def test_pages_of_one_file_list_every_file_exactly_once_and_in_order(client, shelf, order, purpose):
    expected = [file.id for file in shelf if purpose in (None, file.purpose)]
    if order == "desc":
        expected.reverse()
    start, *rest = expected
    seen = walk(client, start, rest[-1], order=order, **({"purpose": purpose} if purpose else {}))
    assert [it for it in seen if it in expected] == rest


def test_a_list_is_newest_first_and_has_only_the_requested_purpose(client, shelf):
    ids = [file.id for file in shelf]
    everything = [file.id for file in client.files.list()]
    assert [it for it in everything if it in ids] == ids[::-1]
    assistants = list(client.files.list(purpose="assistants"))
    assert {file.purpose for file in assistants} == {"assistants"}
    assert [file.id for file in assistants if file.id in ids] == ids[1::2][::-1]


def test_a_page_shows_whether_more_follow(client, shelf):
    page = client.files.list(limit=2, after=shelf[0].id, order="asc")
    assert len(page.data) == 2 and page.has_more
    with refused(NotFoundError, 404):
        client.files.list(after="file-" + 32 * "0")
    with refused(BadRequestError, 400) as no_page:
        client.files.list(limit=0)
    assert no_page.value.param == "limit"


# Errors and headers


def test_a_wrong_key_is_an_authentication_error(client):
    guest = client.with_options(api_key="sk-wrong")
    for attempt in (lambda: create(guest), lambda: guest.files.list(), lambda: guest.uploads.cancel(EXPIRED_UPLOAD)):
        with refused(AuthenticationError, 401) as error:
            attempt()
        assert "sk-wrong" not in str(error.value)


@pytest.mark.parametrize("unknown", [32 * "0", "abc123", "a/../b", "ünknown"])
def test_an_unknown_id_is_a_not_found_error(client, unknown):
    for use in (client.uploads.cancel, lambda id: client.uploads.parts.create(id, data=b"abc")):
        with refused(NotFoundError, 404):
            use("upload_" + unknown)
    with refused(NotFoundError, 404):
        client.uploads.complete("upload_" + unknown, part_ids=[])
    for use in (client.files.retrieve, client.files.content, client.files.delete):
        with refused(NotFoundError, 404):
            use("file-" + unknown)


def test_the_ids_of_another_project_are_unknown(client, stranger, keep):
    upload = create(client, 3)
    part_ids = add_parts(client, upload, [b"abc"])
    with refused(NotFoundError, 404):
        stranger.uploads.parts.create(upload.id, data=b"abc")
    with refused(NotFoundError, 404):
        stranger.uploads.complete(upload.id, part_ids=part_ids)
    with refused(NotFoundError, 404):
        stranger.uploads.cancel(upload.id)
    file = keep(client.uploads.complete(upload.id, part_ids=part_ids)).file
    for use in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
        with refused(NotFoundError, 404):
            use(file.id)
    with refused(NotFoundError, 404):
        stranger.files.list(after=file.id)
    assert file.id not in [it.id for it in stranger.files.list()]
    assert read(client, file.id) == b"abc"


def test_a_bad_request_error_names_the_parameter(client):
    def create_file(purpose="user_data", **options):
        client.files.create(file=b"abc", purpose=purpose, **options)

    def create_upload(**options):
        create(client, **options)

    with refused(BadRequestError, 400) as error:
        create_upload(size=-1)
    assert error.value.param == "bytes"
    for attempt in (create_file, create_upload):
        with refused(BadRequestError, 400) as error:
            attempt(purpose="world_domination")
        assert error.value.param == "purpose" and "world_domination" in error.value.message
        for seconds in (3599, THIRTY_DAYS + 1):
            with refused(BadRequestError, 400) as error:
                attempt(expires_after={"anchor": "created_at", "seconds": seconds})
            assert error.value.param.startswith("expires_after")
    for attempt, param in ((create_file, "file"), (create_upload, "filename")):
        for purpose in ("batch", "fine-tune"):
            with refused(BadRequestError, 400) as error:
                attempt(purpose=purpose)
            assert error.value.param == param and "Must be .jsonl" in error.value.message


@pytest.mark.skipif("azure_endpoint" not in SERVER, reason="only for Azure's clients")
def test_azures_client_works_with_a_token_and_at_the_newer_address(client, keep):
    file = keep(client.files.create(file=WHOLE, purpose="user_data"))
    assert SENT[-1].url.path == "/openai/files" and SENT[-1].headers["api-key"] == SERVER["api_key"]
    token = {"azure_ad_token": SERVER["api_key"], "api_version": SERVER["api_version"]}
    with OpenAI(azure_endpoint=SERVER["azure_endpoint"], **token) as by_token:
        assert read(by_token, file.id) == WHOLE
    with OpenAI(base_url=f"{SERVER['azure_endpoint']}/openai/v1", api_key=SERVER["api_key"], api_version="v1") as newer:
        assert read(newer, file.id) == WHOLE


def test_every_response_has_a_request_id_and_the_usual_headers(client):
    upload = create(client, 3)
    part = client.uploads.parts.create(upload.id, data=b"abc")
    assert part.object == "upload.part" and part.upload_id == upload.id
    completed = client.uploads.complete(upload.id, part_ids=[part.id])
    answers = [upload, part, completed, client.files.list(limit=1), client.files.delete(completed.file.id)]
    request_ids = {it._request_id for it in answers}
    assert all(request_ids) and len(request_ids) == len(answers)
    headers = client.files.with_raw_response.list(limit=1).headers
    assert headers["content-type"] == "application/json"
    assert headers["openai-version"] and int(headers["openai-processing-ms"]) >= 0
