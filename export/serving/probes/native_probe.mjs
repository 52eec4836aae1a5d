// onnxruntime-node, a client of the C API like those of Rust, Java and C#: token ids in, vectors out.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { answer, ask, request, vector } from "./answering.mjs";

const examples = JSON.parse(readFileSync(`${request.folder}/examples.json`, "utf8"));
for (const [precision, place] of Object.entries(request.graphs)) {
  const session = await ort.InferenceSession.create(`${request.folder}/${place}`);
  await ask(precision, async i => {
    const feeds = {};
    for (const [name, ids] of Object.entries(examples[i].inputs))
      feeds[name] = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const output = (await session.run(feeds))[request.output];
    return vector(output.data, output.dims);
  });
}
answer("onnxruntime-node");
