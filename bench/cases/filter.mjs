// Runs the filter over requests with a host that answers at once: filter.mjs WASM POLICY REQUESTS ROUNDS.
// Prints the fastest round, since whatever disturbs a round only makes it slower.
import { readFileSync } from "node:fs";

const [wasm, policy, requests, rounds] = process.argv.slice(2);
const PASSES = 500;

const shared = new Map();
let exports, memory, view, current, calls = 0, metrics = 0;

const bytes = () => (memory.buffer === exports.memory.buffer ? memory : (view = new DataView(exports.memory.buffer), memory = new Uint8Array(exports.memory.buffer)));
const text = (at, size) => Buffer.from(bytes().buffer, at, size).toString("latin1");
const number = (at, value) => (bytes(), view.setUint32(at, value, true));
const give = (value, at, size) => {
  const start = exports.proxy_on_memory_allocate(value.length);
  bytes().set(value, start);
  number(at, start);
  number(size, value.length);
  return 0;
};
const count = () => (calls++, 0);

const host = {
  proxy_get_header_map_pairs: (map, at, size) => (calls++, give(current, at, size)),
  proxy_replace_header_map_value: count,
  proxy_remove_header_map_value: count,
  proxy_increment_metric: count,
  proxy_get_shared_data: (key, length, at, size, cas) => {
    const value = shared.get(text(key, length));
    return value ? (number(cas, 1), give(value, at, size)) : 1;
  },
  proxy_define_metric: (kind, name, length, at) => (number(at, ++metrics), 0),
  // There is no configuration, and no property.
  proxy_get_buffer_bytes: () => 1,
  proxy_get_property: () => 1,
};

const module = new WebAssembly.Module(readFileSync(wasm));
const imports = {};
for (const { module: space, name } of WebAssembly.Module.imports(module)) {
  (imports[space] ??= {})[name] = host[name] ?? (() => 0);
}
exports = new WebAssembly.Instance(module, imports).exports;
memory = new Uint8Array(exports.memory.buffer);
view = new DataView(exports.memory.buffer);

const sealed = readFileSync(policy);
shared.set("ombre/policy", sealed);
shared.set("ombre/latest", Buffer.concat([sealed.subarray(8, 16), Buffer.alloc(8)]));
exports._initialize();
exports.proxy_on_vm_start(1, 0);
if (!exports.proxy_on_configure(1, 0)) throw new Error("the filter refuses its configuration");

const all = readFileSync(requests);
const maps = [];
for (let at = 0; at < all.length; ) {
  const end = at + 4 + all.readUInt32LE(at);
  maps.push(new Uint8Array(all.subarray(at + 4, end)));
  at = end;
}
const pass = () => {
  for (current of maps) exports.proxy_on_request_headers(2, 0, 1);
};
for (let warm = 0; warm < PASSES; warm++) pass();
let fastest = Infinity;
for (let round = 0; round < Number(rounds); round++) {
  calls = 0;
  const start = process.hrtime.bigint();
  for (let n = 0; n < PASSES; n++) pass();
  fastest = Math.min(fastest, Number(process.hrtime.bigint() - start) / PASSES / maps.length);
}
const made = calls / PASSES / maps.length;
if (made < 5) throw new Error(`only ${made} calls of the host for a request: the policy is not in force`);
console.log(JSON.stringify({ nanoseconds: fastest, calls: made }));
