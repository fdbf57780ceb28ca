/**
 * Tests of Windlass with OpenAI's Node SDK.
 *
 * Required environment variables: WINDLASS_BASE_URL, WINDLASS_API_KEY, WINDLASS_OTHER_API_KEY (of another project) and
 * WINDLASS_EXPIRED_UPLOAD (the id of an expired upload). Several runs may share a server: each test checks only objects
 * that it created, and all files are deleted at the end.
 */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import OpenAI, { toFile, toStreamingFile } from 'openai';

function required(name) {
  return process.env[name] ?? assert.fail(`${name} is not set`);
}

const EXPIRED_UPLOAD = required('WINDLASS_EXPIRED_UPLOAD');
const AN_HOUR = { anchor: 'created_at', seconds: 3600 };
const LARGEST_PART = 67_108_864;
const PIECES = Array.from({ length: 6 }, (_, i) => randomBytes(10_000 + i));
const WHOLE = Buffer.concat(PIECES);

/** The number of requests that the SDK has sent, retries included. */
let sent = 0;
const client = new OpenAI({
  baseURL: required('WINDLASS_BASE_URL'),
  apiKey: required('WINDLASS_API_KEY'),
  timeout: 30_000,
  fetch: (url, init) => {
    sent += 1;
    return fetch(url, init);
  },
});
const stranger = client.withOptions({ apiKey: required('WINDLASS_OTHER_API_KEY') });

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'windlass-'));
const kept = [];
after(async () => {
  fs.rmSync(folder, { recursive: true });
  for (const id of kept) await client.files.delete(id);
});

/** Returns the file, and deletes it after all tests. */
function keep(file) {
  kept.push(file.id);
  return file;
}

/** Expects an error of exactly this class, with all its fields, after exactly one request. */
async function refused(kind, status, attempt) {
  const before = sent;
  const error = await attempt().then(() => assert.fail('it was accepted'), (it) => it);
  assert.equal(error.constructor, kind, error.stack);
  assert.equal(error.status, status);
  assert.ok(error.requestID && error.error.message && error.type);
  assert.ok('param' in error.error && 'code' in error.error);
  assert.equal(sent, before + 1, 'a final error was retried');
  return error;
}

function createUpload(bytes, changes) {
  const upload = { bytes, filename: 'windlass.txt', mime_type: 'text/plain', purpose: 'user_data', ...changes };
  return client.uploads.create(upload);
}

async function addPart(upload, bytes) {
  const part = await client.uploads.parts.create(upload.id, { data: await toFile(bytes, 'part') });
  return part.id;
}

async function read(file) {
  const response = await client.files.content(file.id);
  return Buffer.from(await response.arrayBuffer());
}

/** Writes a file to disk. Returns its path. */
function onDisk(name) {
  const source = path.join(folder, name);
  fs.writeFileSync(source, WHOLE);
  return source;
}

test('parts sent in parallel are put in the order given at completion', async () => {
  const upload = await createUpload(WHOLE.length);
  assert.equal(upload.expires_at - upload.created_at, 3600);
  const backwards = await Promise.all(PIECES.toReversed().map((piece) => addPart(upload, piece)));
  const md5 = createHash('md5').update(WHOLE).digest('hex');
  const completion = { part_ids: backwards.toReversed(), md5 };
  const completed = await client.uploads.complete(upload.id, completion);
  keep(completed.file);
  assert.equal(completed.status, 'completed');
  assert.deepEqual(await read(completed.file), WHOLE);
  const again = await client.uploads.complete(upload.id, completion);
  assert.equal(again.file.id, completed.file.id);
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.complete(upload.id, { part_ids: backwards }));
});

test('a wrong md5 or size is refused and the upload completes afterwards', async () => {
  const upload = await createUpload(3);
  const part_ids = [await addPart(upload, Buffer.from('abc'))];
  const md5 = createHash('md5').update('something else').digest('hex');
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.complete(upload.id, { part_ids, md5 }));
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.complete(upload.id, { part_ids: [] }));
  const completed = await client.uploads.complete(upload.id, { part_ids });
  keep(completed.file);
  assert.equal(completed.file.bytes, 3);
});

test('a read stream, whose length is not known, becomes a file', async () => {
  const file = keep(
    await client.files.create({
      file: fs.createReadStream(onDisk('stream.txt')),
      purpose: 'user_data',
      expires_after: AN_HOUR,
    }),
  );
  assert.equal(file.filename, 'stream.txt');
  assert.equal(file.bytes, WHOLE.length);
  assert.equal(file.expires_at, file.created_at + 3600);
  assert.deepEqual(await read(file), WHOLE);
});

test('a streaming file becomes a file, and a part', async () => {
  const stream = () => toStreamingFile(fs.createReadStream(onDisk('source.txt')), 'named.txt');
  const file = keep(await client.files.create({ file: stream(), purpose: 'user_data' }));
  assert.equal(file.filename, 'named.txt');
  assert.deepEqual(await read(file), WHOLE);

  const upload = await createUpload(WHOLE.length);
  const part = await client.uploads.parts.create(upload.id, { data: stream() });
  const completed = await client.uploads.complete(upload.id, { part_ids: [part.id] });
  keep(completed.file);
  assert.deepEqual(await read(completed.file), WHOLE);
});

test('a blob becomes a file with its name, and its content is downloaded as a stream', async () => {
  const name = '你好 wörld 🦀.txt';
  const file = keep(await client.files.create({ file: await toFile(WHOLE, name), purpose: 'user_data' }));
  assert.equal(file.filename, name);
  assert.equal(file.expires_at, null);
  assert.deepEqual(await client.files.retrieve(file.id), file);

  const response = await client.files.content(file.id);
  assert.equal(response.headers.get('content-type'), 'application/octet-stream');
  assert.equal(Number(response.headers.get('content-length')), WHOLE.length);
  const chunks = [];
  for await (const chunk of response.body) chunks.push(chunk);
  assert.deepEqual(Buffer.concat(chunks), WHOLE);
});

test('quotes and backslashes in a name are preserved', async () => {
  for (const name of ['a"b.txt', 'dir\\', '; filename=x', '"']) {
    const file = keep(await client.files.create({ file: await toFile(Buffer.from('abc'), name), purpose: 'user_data' }));
    assert.equal(file.filename, name);
  }
});

test('waiting for processing returns at once', async () => {
  const file = keep(await client.files.create({ file: await toFile(WHOLE, 'x.txt'), purpose: 'user_data' }));
  const before = sent;
  const processed = await client.files.waitForProcessing(file.id, { pollInterval: 1_000, maxWait: 2_000 });
  assert.equal(processed.status, 'processed');
  assert.equal(sent, before + 1);
});

test('a deleted file is gone', async () => {
  const file = await client.files.create({ file: await toFile(WHOLE, 'x.txt'), purpose: 'user_data' });
  assert.deepEqual({ ...(await client.files.delete(file.id)) }, { id: file.id, object: 'file', deleted: true });
  for (const use of ['retrieve', 'content', 'delete']) {
    await refused(OpenAI.NotFoundError, 404, () => client.files[use](file.id));
  }
});

/** Lists the ids after `start` up to `end`, one per page. Starts again if another run deletes a cursor. */
async function walk(start, end, query) {
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const seen = [];
    try {
      for await (const file of client.files.list({ limit: 1, after: start, ...query })) {
        assert.ok(!seen.includes(file.id));
        assert.equal(file.purpose, query.purpose ?? file.purpose);
        seen.push(file.id);
        if (file.id === end) break;
      }
      return seen;
    } catch (error) {
      if (!(error instanceof OpenAI.NotFoundError)) throw error;
    }
  }
  return assert.fail('files were deleted during every attempt');
}

test('pages of one file list every file exactly once and in order', async () => {
  const shelf = [];
  for (const purpose of ['user_data', 'assistants', 'user_data', 'assistants', 'user_data', 'assistants']) {
    shelf.push(keep(await client.files.create({ file: await toFile(Buffer.from('abc'), 'x.txt'), purpose })));
  }
  for (const order of ['asc', 'desc']) {
    for (const purpose of [undefined, 'assistants']) {
      const expected = shelf.filter((it) => !purpose || it.purpose === purpose).map((it) => it.id);
      if (order === 'desc') expected.reverse();
      const [start, ...rest] = expected;
      const seen = await walk(start, rest.at(-1), { order, purpose });
      assert.deepEqual(seen.filter((id) => expected.includes(id)), rest);
    }
  }
});

test('a cancelled upload accepts no parts and cannot be completed', async () => {
  const upload = await createUpload(3, { expires_after: AN_HOUR });
  const part_ids = [await addPart(upload, Buffer.from('abc'))];
  const cancelled = await client.uploads.cancel(upload.id);
  assert.equal(cancelled.status, 'cancelled');
  assert.equal(cancelled.expires_at, upload.expires_at);
  await refused(OpenAI.BadRequestError, 400, () => addPart(upload, Buffer.from('abc')));
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.complete(upload.id, { part_ids }));
});

test('an expired upload is an APIError 410', async () => {
  const expired = { id: EXPIRED_UPLOAD };
  await refused(OpenAI.APIError, 410, () => addPart(expired, Buffer.from('abc')));
  await refused(OpenAI.APIError, 410, () => client.uploads.complete(expired.id, { part_ids: [] }));
});

test('expires_after of an upload sets the expiry of its file', async () => {
  const upload = await createUpload(0, { expires_after: AN_HOUR });
  const { file } = await client.uploads.complete(upload.id, { part_ids: [] });
  keep(file);
  assert.equal(file.expires_at, file.created_at + 3600);
  const seconds = { anchor: 'created_at', seconds: 3599 };
  await refused(OpenAI.BadRequestError, 400, () => createUpload(0, { expires_after: seconds }));
});

test('a wrong key is an AuthenticationError', async () => {
  const guest = client.withOptions({ apiKey: 'sk-wrong' });
  await refused(OpenAI.AuthenticationError, 401, () => guest.files.list());
  await refused(OpenAI.AuthenticationError, 401, () => guest.uploads.cancel(EXPIRED_UPLOAD));
});

test('an unknown id, or one of another project, is a NotFoundError', async () => {
  const file = keep(await client.files.create({ file: await toFile(WHOLE, 'x.txt'), purpose: 'user_data' }));
  const upload = await createUpload(3);
  await refused(OpenAI.NotFoundError, 404, () => client.files.retrieve('file-unknown'));
  await refused(OpenAI.NotFoundError, 404, () => client.uploads.cancel('upload_abc123'));
  await refused(OpenAI.NotFoundError, 404, () => client.files.list({ after: 'file-unknown' }));
  await refused(OpenAI.NotFoundError, 404, () => stranger.files.content(file.id));
  await refused(OpenAI.NotFoundError, 404, () => stranger.uploads.cancel(upload.id));
  await refused(OpenAI.NotFoundError, 404, () => client.get('/_stainless_unknown_path'));
  await client.uploads.cancel(upload.id);
});

test('a purpose that does not exist is a BadRequestError that names it', async () => {
  const wrong = { purpose: 'world_domination' };
  const file = await toFile(WHOLE, 'x.txt');
  for (const attempt of [() => createUpload(3, wrong), () => client.files.create({ file, ...wrong })]) {
    const error = await refused(OpenAI.BadRequestError, 400, attempt);
    assert.equal(error.param, 'purpose');
    assert.match(error.message, /world_domination/);
  }
});

test('a part that is one byte too large gets an error response, not a broken pipe', async () => {
  const upload = await createUpload(LARGEST_PART + 1);
  const data = new File([new Uint8Array(LARGEST_PART + 1)], 'part');
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.parts.create(upload.id, { data }));
  await client.uploads.cancel(upload.id);
});

test('a buffer passed as data, a common mistake, is refused', async () => {
  const upload = await createUpload(3);
  await refused(OpenAI.BadRequestError, 400, () => client.uploads.parts.create(upload.id, { data: Buffer.from('abc') }));
  await client.uploads.cancel(upload.id);
});

test('every response has a request id', async () => {
  const upload = await createUpload(0);
  const completed = await client.uploads.complete(upload.id, { part_ids: [] });
  const deleted = await client.files.delete(completed.file.id);
  const ids = [upload, completed, deleted].map((it) => it._request_id);
  assert.ok(ids.every(Boolean));
  assert.equal(new Set(ids).size, ids.length);
});
