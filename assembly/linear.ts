/**
 * Linear layer, in PyTorch's layout: a weight row per output.
 *
 *   y = x · Wᵀ + b (+ residual), active = GELU(y)          dx (+)= dy · W          dW += dyᵀ · x          db += Σ dy over rows
 *
 *   x dx [rows, inputs]    y active residual dy [rows, outputs]    W dW [outputs, inputs]    b db [outputs]
 *   inputs, outputs % 4 == 0; b, residual, active and db may be absent; y may lie on the residual, active on y
 *   form: of GELU, as in `activation.ts`
 *   scratch: the packed operand, `packedBytes`, then `RANK_SCRATCH` for each rank
 */
import { multiplyFew } from "./few-rows";
import { FEW_ROWS, multiplyInPlace, multiplyTogether } from "./gemm";
import { kBlock, packedBytes, packTogether } from "./pack";
import { Fused } from "./simd";
import { barrier, begin, end } from "./team";

function assertShape(inputs: usize, outputs: usize): void {
  assert((inputs & 3) == 0 && (outputs & 3) == 0, "inputs and outputs must be multiples of 4");
}

/** Computes y, and active if it is given. */
export function linearForward(
  y: usize,
  active: usize,
  x: usize,
  weight: usize,
  bias: usize,
  residual: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  form: usize,
  scratch: usize,
): void {
  if (rows <= FEW_ROWS) {
    assertShape(inputs, outputs);
    const own = scratch + packedBytes(inputs, rows);
    packTogether(scratch, x, inputs << 2, inputs, rows, true);
    // prettier-ignore
    multiplyFew<Fused>(y, outputs << 2, scratch, weight, inputs << 2, rows, inputs, outputs, bias, residual, active, form, own);
    return;
  }
  const own = scratch + packedBytes(inputs, outputs);
  packLinear(scratch, weight, inputs, outputs);
  // prettier-ignore
  linearPackedForward(y, active, x, scratch, bias, residual, rows, inputs, outputs, form, own);
}

/** Packs W once for many products: `packedBytes(inputs, outputs)`, in the order the tiles read it. */
export function packLinear(packed: usize, weight: usize, inputs: usize, outputs: usize): void {
  assertShape(inputs, outputs);
  packTogether(packed, weight, inputs << 2, inputs, outputs, true);
}

/** The same from a packed W, with the bits of `linearForward`; scratch is `RANK_SCRATCH` for each rank. */
export function linearPackedForward(
  y: usize,
  active: usize,
  x: usize,
  packed: usize,
  bias: usize,
  residual: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  form: usize,
  scratch: usize,
): void {
  assertShape(inputs, outputs);
  multiplyTogether<Fused>(
    y,
    outputs << 2,
    x,
    inputs << 2,
    false,
    packed,
    rows,
    inputs,
    outputs,
    bias,
    false,
    residual,
    active,
    form,
    scratch,
  );
}

/** Overwrites dx, or adds to it if `accumulate`. */
export function linearBackwardInput(
  dx: usize,
  dy: usize,
  weight: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  accumulate: usize,
  scratch: usize,
): void {
  assertShape(inputs, outputs);
  if (rows <= FEW_ROWS) {
    // prettier-ignore
    multiplyInPlace<Fused>(dx, inputs << 2, dy, outputs << 2, weight, inputs << 2, rows, outputs, inputs, accumulate != 0, scratch);
    return;
  }
  const own = scratch + packedBytes(outputs, inputs);
  packTogether(scratch, weight, inputs << 2, outputs, inputs, false);
  multiplyTogether<Fused>(
    dx,
    inputs << 2,
    dy,
    outputs << 2,
    false,
    scratch,
    rows,
    outputs,
    inputs,
    0,
    accumulate != 0,
    0,
    0,
    0,
    own,
  );
}

/** Adds to dW and db. */
export function linearBackwardWeight(
  dWeight: usize,
  dBias: usize,
  dy: usize,
  x: usize,
  rows: usize,
  inputs: usize,
  outputs: usize,
  scratch: usize,
): void {
  assertShape(inputs, outputs);
  // Block by block of the rows, which is what the sum runs over: a packed block of x stays in the cache for all of dW.
  const block = kBlock(rows);
  const own = scratch + packedBytes(block, inputs);
  for (let row: usize = 0; row < rows; row += block) {
    const count = min(block, rows - row);
    const xs = x + ((row * inputs) << 2);
    const dys = dy + ((row * outputs) << 2);
    packTogether(scratch, xs, inputs << 2, count, inputs, false);
    // prettier-ignore
    multiplyTogether<Fused>(dWeight, inputs << 2, dys, outputs << 2, true, scratch, outputs, count, inputs, 0, true, 0, 0, 0, own);
  }
  if (dBias) addColumnSums(dBias, dy, rows, outputs);
}

/** sums += Σ x over rows. Columns are shared out, so that each sum has one writer and one order. */
function addColumnSums(sums: usize, x: usize, rows: usize, cols: usize): void {
  const stride = cols << 2;
  const first = begin(cols >> 2) << 4;
  const last = end(cols >> 2) << 4;
  for (let row: usize = 0; row < rows; row++, x += stride) {
    for (let j = first; j < last; j += 16)
      v128.store(sums + j, f32x4.add(v128.load(sums + j), v128.load(x + j)));
  }
  barrier();
}
