/**
 * Tests of Windlass with OpenAI's Node SDK in a web page. The query of the page's URL has the server and a key:
 * `?server=…&key=…`. The page posts the result to the server that it was loaded from, at `/outcome`.
 */

import OpenAI, { AzureOpenAI, toFile } from 'openai';

const { server, key } = Object.fromEntries(new URLSearchParams(location.search));
const browser = { dangerouslyAllowBrowser: true, maxRetries: 0 };
const client = new OpenAI({ baseURL: `${server}/v1`, apiKey: key, ...browser });
const azure = new AzureOpenAI({ endpoint: server, apiKey: key, apiVersion: '2025-04-01-preview', ...browser });

function check(holds, what) {
  if (!holds) throw new Error(`not true: ${what}`);
}

/** Expects an error of this class, with the server's message and request id. */
async function refused(kind, attempt) {
  const error = await attempt().then(() => null, (it) => it);
  check(error?.constructor === kind, `${error} is a ${kind.name}`);
  check(error.requestID?.startsWith('req_') && error.error.message, 'the page can read the error');
  return error;
}

async function suite() {
  const bytes = crypto.getRandomValues(new Uint8Array(50_000));
  const same = (buffer) => new Uint8Array(buffer).every((byte, i) => byte === bytes[i]) && buffer.byteLength === 50_000;

  const file = await client.files.create({ file: await toFile(bytes, '你好.bin'), purpose: 'user_data' });
  check(file.filename === '你好.bin' && file._request_id.startsWith('req_'), 'a file is created from a form');
  const content = await client.files.content(file.id);
  check(content.headers.get('content-disposition').startsWith('attachment'), 'the page can read content-disposition');
  check(same(await content.arrayBuffer()), 'its bytes are downloaded');

  const declared = { bytes: 50_000, filename: 'a.bin', mime_type: 'application/octet-stream', purpose: 'user_data' };
  const upload = await client.uploads.create(declared);
  const parts = [bytes.subarray(0, 20_000), bytes.subarray(20_000)].map(async (it) =>
    client.uploads.parts.create(upload.id, { data: await toFile(it, 'part') }),
  );
  const part_ids = (await Promise.all(parts)).map((part) => part.id);
  const completed = await client.uploads.complete(upload.id, { part_ids });
  const range = { headers: { Range: 'bytes=10-19' } };
  const part = await client.files.content(completed.file.id, range);
  check(part.headers.get('content-range') === 'bytes 10-19/50000', 'the page can read content-range');
  check((await part.arrayBuffer()).byteLength === 10, 'a range is downloaded');

  const listed = [];
  for await (const it of client.files.list({ limit: 1 })) listed.push(it.id);
  check(listed.includes(file.id) && listed.includes(completed.file.id), 'pages of one file list every file');

  check((await azure.files.retrieve(file.id)).id === file.id, "Azure's client works");
  check(same(await (await azure.files.content(file.id)).arrayBuffer()), "Azure's client works");

  const stranger = client.withOptions({ apiKey: 'sk-wrong' });
  await refused(OpenAI.AuthenticationError, () => stranger.files.list());
  await refused(OpenAI.BadRequestError, () => client.uploads.create({ ...declared, bytes: -1 }));
  await refused(OpenAI.NotFoundError, () => client.get('/no/such/path'));
  for (const id of [file.id, completed.file.id]) await client.files.delete(id);
  await refused(OpenAI.NotFoundError, () => client.files.retrieve(file.id));
}

await suite().then(() => report('passed'), (error) => report(`${error.constructor.name}: ${error.stack}`));
