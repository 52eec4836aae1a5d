// What the probes for Node share: a request in, an answer out.
import { readFileSync, writeFileSync } from "node:fs";

const ROUNDS = 15;
export const request = JSON.parse(readFileSync(process.argv[2], "utf8"));
const rows = [];

// Run every text, then time the first: `run(text, [pair])` gives a vector.
// `pairs`: whether it takes two texts; `shares`: whether it gives probabilities in place of logits.
export async function ask(precision, run, way = "", { pairs = true, shares = false } = {}) {
  const vectors = {};
  for (const [i, text] of request.texts.entries())
    if (pairs || text.length === 1) vectors[i] = await run(i, ...text);
  const milliseconds = [];
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    await run(0, ...request.texts[0]);
    milliseconds.push(performance.now() - start);
  }
  rows.push({ precision, way, vectors, shares, latency_ms: milliseconds });
}

// One text's output as one vector, by the request's way to pool; no padding in it.
export function vector(data, dims) {
  const values = Array.from(data, Number);
  if (request.reduce === "none") return values;
  const size = dims.length === 3 ? dims[2] : 1, count = values.length / size;
  let pooled = values.slice(0, size);
  if (request.reduce === "ramp")
    return pooled.map((_, k) => {
      const total = (count * (count + 1)) / 2;
      return Array.from({ length: count }, (_, i) => (i + 1) * values[i * size + k]).reduce((a, b) => a + b, 0) / total;
    });
  if (request.reduce !== "cls")
    pooled = pooled.map((_, k) => {
      const column = Array.from({ length: count }, (_, i) => values[i * size + k]);
      return request.reduce === "max" ? Math.max(...column) : column.reduce((a, b) => a + b, 0) / count;
    });
  const length = request.normalise ? Math.hypot(...pooled) : 1;
  return pooled.map(v => v / length);
}

export function answer(...packages) {
  const versions = { node: process.version };
  for (const name of packages) {
    const file = `${process.env.NODE_FOLDER}/node_modules/${name}/package.json`;
    versions[name] = JSON.parse(readFileSync(file, "utf8")).version;
  }
  writeFileSync(process.argv[3], JSON.stringify({ rows, versions }));
}
