// transformers.js 4 cuts a long text after its closing tokens were added, so that they are lost.
// This puts them back: the tokens are then those that the model was trained with.
const CLOSING = @CLOSING@, LONGEST = @LENGTH@;

export const keepClosing = tokenizer =>
  new Proxy(tokenizer, {
    apply(target, self, given) {
      const inputs = Reflect.apply(target, self, given);
      const { input_ids: ids, attention_mask: mask } = inputs;
      const [rows, length] = ids.dims;
      for (let end = length; length >= LONGEST && end <= rows * length; end += length)
        if (mask.data[end - 1]) ids.data.set(CLOSING.map(BigInt), end - CLOSING.length);
      return inputs;
    },
  });
