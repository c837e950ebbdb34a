// A classifier that `limbeck export` wrote, in the browser: its tokenizer and its model file.
import { Tokenizer } from "@huggingface/tokenizers";
import { InferenceSession, Tensor } from "onnxruntime-web";

async function json(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} is missing (${response.status}); write it with limbeck export`);
  return response.json();
}

/** A function that gives the classes of a text, the most probable first: [[label, probability], ...]. */
export async function loadClassifier(folder, format = "onnx-int8") {
  const names = ["tokenizer.json", "tokenizer_config.json", "export.json"];
  const [content, config, { candidates, reading }] = await Promise.all(names.map((name) => json(`${folder}/${name}`)));
  const chosen = candidates.find((one) => one.format === format);
  if (!chosen?.file) throw new Error(`${folder} has no file of the format ${format}; see its export.md`);
  const tokenizer = new Tokenizer(content, config);
  const session = await InferenceSession.create(`${folder}/${chosen.file}`);
  const last = tokenizer.encode("").ids.at(-1); // the special token at the end, as [SEP], if there is one
  return async (text) => {
    const { ids } = tokenizer.encode(text);
    const excess = Math.max(0, ids.length - reading.max_length);
    ids.splice(ids.length - excess - (ids.at(-1) === last ? 1 : 0), excess); // of a long text its end goes
    const known = { input_ids: ids, attention_mask: ids.map(() => 1), token_type_ids: ids.map(() => 0) };
    const tensor = (name) => new Tensor("int64", BigInt64Array.from(known[name], BigInt), [1, ids.length]);
    const { logits } = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, tensor(name)])));
    const powers = Array.from(logits.data, (logit) => Math.exp(logit - Math.max(...logits.data)));
    const sum = powers.reduce((one, other) => one + other);
    const alone = (logit) => 1 / (1 + Math.exp(-logit)); // of labels that do not exclude one another
    const found = Array.from(logits.data, (logit, place) => (reading.multi_label ? alone(logit) : powers[place] / sum));
    return found.map((share, place) => [reading.labels[place], share]).sort((one, other) => other[1] - one[1]);
  };
}
