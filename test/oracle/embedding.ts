/** y[t] = words[tokenIds[t]] + positionTable[positions[t]] + types[0]; an absent table adds nothing. */
export function embedding(
  tokenIds: ArrayLike<number>,
  positions: ArrayLike<number>,
  words: ArrayLike<number>,
  positionTable: ArrayLike<number> | undefined,
  types: ArrayLike<number> | undefined,
  hidden: number,
): Float64Array {
  const y = new Float64Array(tokenIds.length * hidden);
  for (let t = 0; t < tokenIds.length; t++) {
    for (let j = 0; j < hidden; j++) {
      const position = positionTable ? positionTable[positions[t]! * hidden + j]! : 0;
      y[t * hidden + j] = words[tokenIds[t]! * hidden + j]! + position + (types ? types[j]! : 0);
    }
  }
  return y;
}

/** y[t] = weights[id] · table[rows[id]] of a static model. */
export function staticEmbedding(
  tokenIds: ArrayLike<number>,
  table: ArrayLike<number>,
  rows: ArrayLike<number>,
  weights: ArrayLike<number>,
  hidden: number,
): Float64Array {
  return Float64Array.from({ length: tokenIds.length * hidden }, (_, i) => {
    const id = tokenIds[Math.floor(i / hidden)]!;
    return weights[id]! * table[rows[id]! * hidden + (i % hidden)]!;
  });
}
