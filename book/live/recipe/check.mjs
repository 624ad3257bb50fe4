// Load a NumPy wheel into Pyodide, and use it: node check.mjs PYODIDE WHEEL.
//
// A function that a module takes from Pyodide and that is not there is missed only when it is
// called: so each module's imports are looked up among what Pyodide and the module have.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, wheel] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${folder}/pyodide.mjs`));
const OF_THE_LOADER = new Set([
  "memory", "__indirect_function_table", "__stack_pointer", "__memory_base", "__table_base",
  "__cpp_exception", "__c_longjmp",
]);
const USED = `
import importlib
from pathlib import Path
import numpy as np

site = Path(np.__file__).parents[1]
modules = [path.relative_to(site) for path in site.glob("numpy/**/*.so")]
for path in modules:
    importlib.import_module(".".join([*path.parts[:-1], path.name.partition(".")[0]]))
a = np.random.default_rng(0).standard_normal((5, 5))
u, s, v = np.linalg.svd(a)
assert np.allclose(u * s @ v, a)
assert np.allclose(np.linalg.solve(a, a @ a), a)
assert np.allclose(np.fft.ifft(np.fft.fft(a)), a)
assert np.allclose(np.einsum("ij,kj->ik", a, a), a @ a.T)
[str(site / path) for path in modules]
`;

function missing(binary, there) {
  const module = new WebAssembly.Module(binary);
  const own = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  return WebAssembly.Module.imports(module)
    .map(({ name }) => name)
    .filter((name) => !own.has(name) && !OF_THE_LOADER.has(name) && !(name in there));
}

try {
  const pyodide = await loadPyodide();
  const there = { ...pyodide._module.LDSO.loadedLibsByName.__main__.exports };
  pyodide.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel");
  const paths = pyodide.runPython(USED).toJs();
  for (const path of paths) {
    const names = missing(pyodide.FS.readFile(path), there);
    if (names.length) throw new Error(`${path} takes what Pyodide lacks: ${names.join(", ")}`);
  }
  console.log(`${paths.length} modules load and compute`);
} catch (error) {
  console.error(error.message); // with its trace it is a megabyte of Pyodide's source
  process.exit(1);
}
