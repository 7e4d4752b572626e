/** The Worker that `simcse deploy` puts online where a project has none of its own. */
import { createWorker, type WorkerHandler } from "./worker.ts";

export { Documents } from "./worker.ts";

const worker: WorkerHandler = createWorker();

export default worker;
