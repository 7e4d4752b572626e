/** The search page: one form, one list. Whatever a server sends is shown as text, never as markup. */
const form = document.querySelector("#form");
const query = document.querySelector("#query");
const status = document.querySelector("#status");
const results = document.querySelector("#results");
const info = document.querySelector("#info");
const keyForm = document.querySelector("#key-form");
const keyField = document.querySelector("#key");

let latest = 0;

/** Takes the key of `#key=KEY` out of the address, where it would stay in the history and be copied with it. */
function takeKey() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key === null) return;
  sessionStorage.setItem("key", key.trim());
  history.replaceState(null, "", location.pathname + location.search);
}

/** Asks for a key, and says why. */
function unauthorized(key) {
  keyForm.hidden = false;
  keyField.setAttribute("aria-invalid", String(key !== ""));
  return new Error(
    key === ""
      ? "This server needs an API key."
      : "The server does not accept this API key. Check it, or ask for another.",
  );
}

/** The body of an answer, or an error a reader can act on. */
async function request(path, init = {}) {
  const key = sessionStorage.getItem("key") ?? "";
  if (/[^!-~]/.test(key)) throw unauthorized(key); // no header can carry it
  const headers = { ...init.headers, ...(key && { authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch {
    throw new Error("The server cannot be reached. Check the connection and search again.");
  }
  if (response.status === 401) throw unauthorized(key);
  const body = await response.json().catch(() => undefined);
  if (response.ok && body) return body;
  throw new Error(body?.error?.message ?? `The server answered with status ${response.status}.`);
}

function element(name, className, text) {
  const node = document.createElement(name);
  node.className = className;
  node.textContent = text;
  return node;
}

function counted(sentences) {
  return `${sentences.toLocaleString("en")} ${sentences === 1 ? "sentence" : "sentences"}`;
}

function show(message, { error = false } = {}) {
  status.textContent = message;
  status.classList.toggle("error", error);
  query.setAttribute("aria-invalid", String(error));
}

function resultItem({ text, score }) {
  const item = document.createElement("li");
  const bar = element("span", "bar", "");
  bar.setAttribute("aria-hidden", "true");
  const fill = element("span", "fill", "");
  fill.style.width = `${100 * Math.min(1, Math.max(0, score))}%`;
  bar.append(fill);
  const value = element("span", "score", score.toFixed(3));
  value.title = "cosine similarity";
  item.append(element("p", "text", text), bar, value);
  return item;
}

async function search() {
  const turn = ++latest;
  const text = query.value.trim();
  results.replaceChildren();
  if (text === "") {
    show("Type a sentence to search for.", { error: true });
    query.focus();
    return;
  }
  show("Searching …");
  const start = performance.now();
  try {
    const found = await request("/search", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ query: text, top_k: 10 }),
    });
    if (turn !== latest) return;
    const milliseconds = Math.round(performance.now() - start);
    show(`${counted(found.results.length)}, nearest first, in ${milliseconds} ms`);
    results.replaceChildren(...found.results.map(resultItem));
  } catch (error) {
    if (turn === latest) show(error.message, { error: true });
  }
}

async function describe() {
  try {
    const { model_id: model, dimension, sentences } = await request("/info");
    keyField.setAttribute("aria-invalid", "false");
    info.textContent = `${model} · ${dimension} dimensions · ${counted(sentences)}`;
    if (sentences > 0) return;
    form.hidden = true;
    show("There are no sentences to search here, only the API.");
  } catch (error) {
    info.textContent = error.message;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  void search();
});
keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", keyField.value.trim());
  keyField.value = "";
  show("");
  void describe();
});
addEventListener("hashchange", () => {
  takeKey();
  void describe();
});
takeKey();
void describe();
