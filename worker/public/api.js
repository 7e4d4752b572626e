/** Requests of the page: to its server, or to the server's app in this tab. */

/** Takes the key of `#key=KEY` out of the address, where it would stay in the history and be copied with it. */
export function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return;
  sessionStorage.setItem("key", key.trim());
  history.replaceState(null, "", location.pathname + location.search);
}

/** The server wants another key than it got; the message says why. */
export class KeyError extends Error {
  constructor(key) {
    super(
      key === ""
        ? "This server needs an API key."
        : "The server does not accept this API key. Check it, or ask for another.",
    );
    this.wrong = key !== "";
  }
}

/** An answer of the server. */
async function atEdge(path, init = {}) {
  const key = sessionStorage.getItem("key") ?? "";
  if (/[^!-~]/.test(key)) throw new KeyError(key); // no header can carry it
  const headers = { ...init.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch {
    throw new Error("The server cannot be reached. Check the connection and search again.");
  }
  if (response.status === 401) throw new KeyError(key);
  return response;
}

/** The server's app in this tab, once it is loaded; a failure is not kept. */
let tab;
/** Loads it: what answers requests, and the bytes of model and the milliseconds that this took. */
export function openTab() {
  tab ??= loadTab().catch((error) => {
    tab = undefined;
    throw error;
  });
  return tab;
}

async function loadTab() {
  const start = performance.now();
  const app = await import("/tab.js");
  let bytes = 0;
  const answer = await app.openTab(async (path) => {
    const response = await atEdge(path);
    const counted = new TransformStream({
      transform(part, stream) {
        bytes += part.length;
        stream.enqueue(part);
      },
    });
    return new Response(response.body.pipeThrough(counted), response);
  });
  const info = await (await answer(new Request(new URL("/info", location.href)))).json();
  if (info.error) throw new Error(info.error);
  return { answer, bytes, milliseconds: Math.round(performance.now() - start) };
}

/** An answer of the same app in this tab. */
async function inTab(path, init) {
  const { answer } = await openTab();
  return answer(new Request(new URL(path, location.href), init));
}

/** Where requests are answered. */
export const PLACES = {
  edge: { answer: atEdge, name: "at the edge" },
  tab: { answer: inTab, name: "in this tab" },
};
/** The body of an answer, or an error a reader can act on. */
export async function request(path, init, { answer } = PLACES.edge) {
  const response = await answer(path, init);
  const body = await response.json().catch(() => undefined);
  if (response.ok && body) return body;
  throw new Error(body?.error?.message ?? `The server answered with status ${response.status}.`);
}

/** The body of an answer to a JSON body. */
export function post(path, body, place) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) }, place);
}
