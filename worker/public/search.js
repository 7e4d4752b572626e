/** The search page: a query and a list, sentences and a table. Whatever a server sends is shown as text, never as markup. */
const form = document.querySelector("#form");
const query = document.querySelector("#query");
const status = document.querySelector("#status");
const results = document.querySelector("#results");
const compareForm = document.querySelector("#compare-form");
const sentences = document.querySelector("#sentences");
const compareStatus = document.querySelector("#compare-status");
const matrix = document.querySelector("#matrix");
const info = document.querySelector("#info");
const keyForm = document.querySelector("#key-form");
const keyField = document.querySelector("#key");

/** Most sentences that are compared: a table of more cannot be read. */
const MOST_COMPARED = 12;

/** How many times each form has been sent: an answer to what is no longer asked is dropped. */
const turns = { search: 0, compare: 0 };

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

function counted(number) {
  return `${number.toLocaleString("en")} ${number === 1 ? "sentence" : "sentences"}`;
}

/** Says something about the search, or about another form. */
function show(message, { error = false, place = status, field = query } = {}) {
  place.textContent = message;
  place.classList.toggle("error", error);
  field.setAttribute("aria-invalid", String(error));
}

function post(path, body) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
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
  const turn = ++turns.search;
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
    const found = await post("/search", { query: text, top_k: 10 });
    if (turn !== turns.search) return;
    const milliseconds = Math.round(performance.now() - start);
    show(`${counted(found.results.length)}, nearest first, in ${milliseconds} ms`);
    results.replaceChildren(...found.results.map(resultItem));
  } catch (error) {
    if (turn === turns.search) show(error.message, { error: true });
  }
}

/** A table of the cosines of unit vectors, each under and beside its sentence. */
function matrixOf(texts, vectors) {
  const table = document.createElement("table");
  const head = element("tr", "", "");
  head.append(element("td", "", ""));
  for (const [i, text] of texts.entries()) {
    const cell = element("th", "", String(i + 1));
    cell.scope = "col";
    cell.title = text;
    head.append(cell);
  }
  table.append(element("caption", "", "Cosine of each sentence with each"), head);
  for (const [i, text] of texts.entries()) {
    const row = element("tr", "", "");
    const name = element("th", "", `${i + 1}. ${text}`);
    name.scope = "row";
    row.append(name);
    for (const other of vectors) {
      const cosine = vectors[i].reduce((sum, x, d) => sum + x * other[d], 0);
      const cell = element("td", "cosine", cosine.toFixed(2));
      cell.style.setProperty("--share", `${100 * Math.min(1, Math.max(0, cosine))}%`);
      row.append(cell);
    }
    table.append(row);
  }
  return table;
}

async function compare() {
  const turn = ++turns.compare;
  const tell = (message, error = false) =>
    show(message, { error, place: compareStatus, field: sentences });
  const texts = sentences.value
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  matrix.hidden = true;
  if (texts.length < 2 || texts.length > MOST_COMPARED) {
    tell(`Type 2 to ${MOST_COMPARED} sentences, one a line.`, true);
    sentences.focus();
    return;
  }
  tell("Comparing …");
  const start = performance.now();
  try {
    const { data } = await post("/v1/embeddings", { input: texts });
    if (turn !== turns.compare) return;
    const milliseconds = Math.round(performance.now() - start);
    tell(`${counted(texts.length)} compared in ${milliseconds} ms`);
    matrix.replaceChildren(
      matrixOf(
        texts,
        data.map(({ embedding }) => embedding),
      ),
    );
    matrix.hidden = false;
  } catch (error) {
    if (turn === turns.compare) tell(error.message, true);
  }
}

async function describe() {
  try {
    const { model_id: model, dimension, sentences: size } = await request("/info");
    keyField.setAttribute("aria-invalid", "false");
    info.textContent = `${model} · ${dimension} dimensions · ${counted(size)}`;
    if (size > 0) return;
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
compareForm.addEventListener("submit", (event) => {
  event.preventDefault();
  void compare();
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
