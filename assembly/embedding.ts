/**
 * BERT's input embeddings (Devlin et al. 2019, https://arxiv.org/abs/1810.04805); every token is of type 0.
 *
 *   y[t] = words[tokenIds[t]] + positionTable[positions[t]] + types[0]        each gradient row += dy[t]
 *
 *   y dy [tokens, hidden]    tokenIds positions [tokens] int32    hidden % 4 == 0
 *   words [vocab, hidden], or int8 codes with scales [vocab]    positionTable and types may be absent
 *
 * And those of a static model, where pieces may share a row (https://github.com/MinishLab/model2vec):
 *
 *   y[t] = weights[tokenIds[t]] · table[rows[tokenIds[t]]]        weights [vocab]    rows [vocab] int32
 */
import { barrier, begin, end } from "./team";

/** Computes y. */
export function embeddingForward(
  y: usize,
  tokenIds: usize,
  positions: usize,
  words: usize,
  positionTable: usize,
  types: usize,
  tokens: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let t = begin(tokens), last = end(tokens); t < last; t++) {
    const word = words + <usize>load<u32>(tokenIds + (t << 2)) * stride;
    for (let j: usize = 0; j < stride; j += 16) v128.store(y + t * stride + j, v128.load(word + j));
    addTables(y + t * stride, positions + (t << 2), positionTable, types, stride);
  }
  barrier();
}

/** Computes y from a table of int8 codes with one scale a row. */
export function embeddingInt8Forward(
  y: usize,
  tokenIds: usize,
  positions: usize,
  words: usize,
  scales: usize,
  positionTable: usize,
  types: usize,
  tokens: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let t = begin(tokens), last = end(tokens); t < last; t++) {
    const id = <usize>load<u32>(tokenIds + (t << 2));
    const scale = v128.load32_splat(scales + (id << 2));
    for (let j: usize = 0; j < hidden; j += 4) {
      const codes = i32x4.extend_low_i16x8_s(
        i16x8.extend_low_i8x16_s(v128.load32_zero(words + id * hidden + j)),
      );
      v128.store(y + t * stride + (j << 2), f32x4.mul(f32x4.convert_i32x4_s(codes), scale));
    }
    addTables(y + t * stride, positions + (t << 2), positionTable, types, stride);
  }
  barrier();
}

/** Computes y of a static model. */
export function staticEmbeddingForward(
  y: usize,
  tokenIds: usize,
  table: usize,
  rows: usize,
  weights: usize,
  tokens: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  for (let t = begin(tokens), last = end(tokens); t < last; t++) {
    const id = (<usize>load<u32>(tokenIds + (t << 2))) << 2;
    const row = table + <usize>load<u32>(rows + id) * stride;
    const weight = v128.load32_splat(weights + id);
    for (let j: usize = 0; j < stride; j += 16) {
      v128.store(y + t * stride + j, f32x4.mul(v128.load(row + j), weight));
    }
  }
  barrier();
}

function addTables(
  y: usize,
  position: usize,
  positionTable: usize,
  types: usize,
  stride: usize,
): void {
  if (types) addRow(y, types, stride);
  if (positionTable) addRow(y, positionTable + <usize>load<u32>(position) * stride, stride);
}

function addRow(y: usize, row: usize, stride: usize): void {
  for (let j: usize = 0; j < stride; j += 16)
    v128.store(y + j, f32x4.add(v128.load(y + j), v128.load(row + j)));
}

/** Adds to the gradients. Columns are shared out, not tokens: a word may occur twice. */
export function embeddingBackward(
  dWords: usize,
  dPositions: usize,
  dTypes: usize,
  dy: usize,
  tokenIds: usize,
  positions: usize,
  tokens: usize,
  hidden: usize,
): void {
  assert((hidden & 3) == 0, "hidden must be a multiple of 4");
  const stride = hidden << 2;
  const first = begin(hidden >> 2) << 4;
  const bytes = (end(hidden >> 2) << 4) - first;
  for (let t: usize = 0; t < tokens; t++) {
    const from = dy + t * stride + first;
    addRow(dWords + <usize>load<u32>(tokenIds + (t << 2)) * stride + first, from, bytes);
    if (dPositions)
      addRow(dPositions + <usize>load<u32>(positions + (t << 2)) * stride + first, from, bytes);
    if (dTypes) addRow(dTypes + first, from, bytes);
  }
  barrier();
}
