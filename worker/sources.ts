/** Where the files of a model may be stored. */
import type { FetchAsset } from "./weights.ts";

/** The parts of Cloudflare's bindings that are used here. */
export interface Assets {
  fetch(url: string): Promise<Response>;
}
export interface Bucket {
  get(key: string): Promise<{ readonly body: ReadableStream<Uint8Array> } | null>;
}

/** Static assets, which are deployed together with the Worker. The host is a formality: a binding needs a whole URL. */
export function fromAssets(assets: Assets): FetchAsset {
  return (path) => assets.fetch(`https://assets${path}`);
}

/** An R2 bucket, with the keys `model/…`. */
export function fromBucket(bucket: Bucket): FetchAsset {
  return async (path) => {
    const object = await bucket.get(path.slice(1));
    return object ? new Response(object.body) : new Response(null, { status: 404 });
  };
}

const PART = 2 ** 20;

/** Imported data modules, by path. They stay in memory beside the copy that is used. */
export function fromModules(files: Readonly<Record<string, ArrayBuffer>>): FetchAsset {
  return (path) => {
    const file = Object.hasOwn(files, path) ? files[path]! : undefined;
    if (!file) return Promise.resolve(new Response(null, { status: 404 }));
    let offset = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const part = new Uint8Array(file, offset, Math.min(PART, file.byteLength - offset));
        offset += part.length;
        if (part.length > 0) controller.enqueue(part.slice());
        else controller.close();
      },
    });
    return Promise.resolve(new Response(body));
  };
}
