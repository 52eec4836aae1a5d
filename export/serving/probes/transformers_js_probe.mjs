// transformers.js on the folder, as an application would load it, one precision after the other.
import { basename, dirname } from "node:path";
import * as js from "@huggingface/transformers";
import { answer, ask, request, vector } from "./answering.mjs";
import { readFileSync } from "node:fs";

const { keepClosing } = await import(`${request.folder}/closing.mjs`);

const DTYPES = { fp32: "fp32", fp16: "fp16", int8: "q8" };
js.env.allowRemoteModels = false;
js.env.localModelPath = dirname(request.folder) + "/";
const name = basename(request.folder);
const config = JSON.parse(readFileSync(`${request.folder}/config.json`, "utf8"));
const kinds = {
  ForSequenceClassification: js.AutoModelForSequenceClassification,
  ForTokenClassification: js.AutoModelForTokenClassification,
  ForQuestionAnswering: js.AutoModelForQuestionAnswering,
  ForMaskedLM: js.AutoModelForMaskedLM,
  Model: js.AutoModel,
};
const [, kind] = Object.entries(kinds).find(([suffix]) => config.architectures[0].endsWith(suffix));
const tokenizer = keepClosing(await js.AutoTokenizer.from_pretrained(name));
const labels = Object.entries(config.id2label ?? {}).sort(([a], [b]) => a - b).map(([, label]) => label);
for (const precision of Object.keys(request.graphs)) {
  const model = await kind.from_pretrained(name, { dtype: DTYPES[precision], device: "cpu" });
  await ask(precision, async (_, text, pair = null) => {
    const options = { text_pair: pair, truncation: true, max_length: request.max_length };
    const outputs = await model(await tokenizer(text, options));
    const output = outputs[request.output];
    return vector(output.data, output.dims);
  }, "from_pretrained");
  await model.dispose();
  if (!config.architectures[0].endsWith("ForSequenceClassification")) continue;
  const run = await js.pipeline("text-classification", name, { dtype: DTYPES[precision], device: "cpu" });
  run.tokenizer = keepClosing(run.tokenizer);
  await ask(precision, async (_, text) => {
    const found = await run(text, { top_k: null });
    return labels.map(label => found.find(row => row.label === label).score);
  }, "pipeline", { pairs: false, shares: true });
  await run.dispose();
}
answer("@huggingface/transformers", "onnxruntime-node");
