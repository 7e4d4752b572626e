/**
 * A team of ranks runs one program over one shared memory (SPMD). Each rank owns a wasm instance, so these
 * globals are private to it; the words below are shared and live under the static data (--memoryBase 1024).
 */
const ARRIVED: usize = 64; // ranks waiting at the barrier; one cache line each
const EPOCH: usize = 128; // barriers completed
const POISON: usize = 192; // nonzero once a rank has thrown

const SPINS: i32 = 4096; // then sleep: kernels are long, but a rank may be descheduled
const SLEEP_NS: i64 = 100_000_000; // wake now and then to look at POISON

let rank: usize = 0;
let size: usize = 1;

/** First address the host may use. */
export function heapBase(): usize {
  return __heap_base;
}

/** Makes this instance rank `r` of a team of `n`. */
export function join(r: usize, n: usize): void {
  rank = r;
  size = n;
}

/** This rank's number, for per-rank scratch. */
export function rankOf(): usize {
  return rank;
}

/** Ranks in the team. */
export function teamSize(): usize {
  return size;
}

/** This rank's share of `n` items is [begin(n), end(n)). */
export function begin(n: usize): usize {
  return (n * rank) / size;
}
export function end(n: usize): usize {
  return (n * (rank + 1)) / size;
}

/** Returns once every rank has arrived, with all their stores visible. */
export function barrier(): void {
  if (!ASC_FEATURE_THREADS || size == 1) return;
  const epoch = atomic.load<i32>(EPOCH);
  if (atomic.add<usize>(ARRIVED, 1) == size - 1) {
    atomic.store<i32>(ARRIVED, 0);
    atomic.store<i32>(EPOCH, epoch + 1);
    atomic.notify(EPOCH, -1);
    return;
  }
  let spins = SPINS;
  while (atomic.load<i32>(EPOCH) == epoch) {
    if (atomic.load<i32>(POISON)) unreachable();
    if (spins > 0) spins--;
    else atomic.wait<i32>(EPOCH, epoch, SLEEP_NS);
  }
}
