/**
 * Gives what else waits a turn of the event loop. Node's `setImmediate` is done at once, where a timer takes a millisecond;
 * other runtimes have timers only.
 */
export function turn(): Promise<void> {
  return new Promise((done) => {
    const { setImmediate } = globalThis as { setImmediate?: (callback: () => void) => unknown };
    if (setImmediate) setImmediate(done);
    else setTimeout(done);
  });
}
