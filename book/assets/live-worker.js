// Python for the live cells of a page, in a worker, so that a cell that never ends can be stopped.
// What comes in: {name, code}, one cell. What goes out: {loaded, total} while it loads, {ready},
// {kind, text} for what a cell shows, {done, ended} after a cell, {failed} if nothing can run.
const folder = new URL("live/", import.meta.url);
const original = self.fetch.bind(self);
const files = new Map();
let loaded = 0;
let total = 0;
let session;

async function fetched(name, size) {
  const response = await original(new URL(name, folder));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  let came = 0;
  const count = new TransformStream({
    transform(chunk, controller) {
      came += chunk.length;
      loaded += chunk.length;
      postMessage({ loaded, total });
      controller.enqueue(chunk);
    },
  });
  const body = response.body.pipeThrough(count);
  const plain = name.endsWith(".z") ? body.pipeThrough(new DecompressionStream("gzip")) : body;
  // The program is compiled while it arrives. What is used later must not wait to be read.
  if (name.includes(".wasm")) {
    return new Response(plain, { headers: { "Content-Type": "application/wasm" } });
  }
  const data = await new Response(plain).blob();
  if (came !== size) throw new Error(`${name} has ${came} bytes of ${size}`);
  return new Response(data, { headers: { "Content-Type": "text/javascript" } });
}

async function start() {
  const sizes = await (await original(new URL("sizes.json", folder))).json();
  total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  // All at once, and each only once: Pyodide asks for them by and by.
  for (const [name, size] of Object.entries(sizes)) {
    files.set(name.replace(/\.z$/, ""), fetched(name, size));
  }
  self.fetch = async (request, options) => {
    const url = new URL(request.url ?? request, folder);
    const name = url.pathname.split("/").pop();
    const file = files.get(name);
    files.delete(name);
    return file ?? original(request, options);
  };
  // All are waited for, so that one that is missing is heard of.
  const [python] = await Promise.all([begin(), ...files.values()]);
  session = python.runPython("from attn_course.live import Session; Session()");
  postMessage({ ready: true });
}

async function begin() {
  await import(URL.createObjectURL(await (await files.get("pyodide.asm.js")).blob()));
  const { loadPyodide } = await import(new URL("pyodide.mjs", folder));
  return loadPyodide({ indexURL: folder.href, packages: ["attn-course"] });
}

const started = start().catch((error) => postMessage({ failed: String(error.message ?? error) }));

onmessage = async ({ data }) => {
  await started;
  if (!session) return;
  const show = (kind, text) => postMessage({ kind, text });
  let ended = false;
  try {
    ended = session.run(data.name, data.code, show);
  } catch (error) {
    // Python itself gave up: it called itself too deep, or memory ended. It is of no use any more.
    postMessage({ lost: String(error.message ?? error) });
    return;
  }
  postMessage({ done: true, ended });
};
