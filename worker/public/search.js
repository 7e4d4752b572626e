/**
 * The search page: a query and a list, sentences and a table; vectors come from the server, or from its app in this tab. Whatever
 * a server sends is shown as text, never as markup.
 */
import { KeyError, openTab, PLACES, post, request, takeKey } from "/api.js";

const form = document.querySelector("#form");
const query = document.querySelector("#query");
const status = document.querySelector("#status");
const results = document.querySelector("#results");
const compareForm = document.querySelector("#compare-form");
const sentences = document.querySelector("#sentences");
const compareStatus = document.querySelector("#compare-status");
const matrix = document.querySelector("#matrix");
const info = document.querySelector("#info");
const place = document.querySelector("#place");
const figures = document.querySelector("#figures");
const bits = document.querySelector("#bits");
const keyForm = document.querySelector("#key-form");
const keyField = document.querySelector("#key");

/** Most sentences that are compared: a table of more cannot be read. */
const MOST_COMPARED = 12;

/** How many times each form has been sent: an answer to what is no longer asked is dropped. */
const turns = { search: 0, compare: 0, place: 0 };

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
function show(message, { error = false, line = status, field = query } = {}) {
  line.textContent = message;
  line.classList.toggle("error", error);
  field?.setAttribute("aria-invalid", String(error));
}

/** Where vectors are computed, as the reader chose. */
function chosen() {
  return PLACES[place.querySelector(":checked").value];
}

/** What a reader can do about an error; one of the key asks for another. */
function reasonOf(error) {
  if (error instanceof KeyError) {
    keyForm.hidden = false;
    keyField.setAttribute("aria-invalid", String(error.wrong));
  }
  return error.message;
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
  const at = chosen();
  const start = performance.now();
  try {
    const found = await post("/search", { query: text, top_k: 10 }, at);
    if (turn !== turns.search) return;
    const milliseconds = Math.round(performance.now() - start);
    show(`${counted(found.results.length)}, nearest first, in ${milliseconds} ms ${at.name}`);
    results.replaceChildren(...found.results.map(resultItem));
  } catch (error) {
    if (turn === turns.search) show(reasonOf(error), { error: true });
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

function linesOf(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

/** Vectors of texts in base64, which has all their bits, and the time that they took. */
async function timed(texts, at) {
  const start = performance.now();
  const { data } = await post("/v1/embeddings", { input: texts, encoding_format: "base64" }, at);
  const milliseconds = Math.round(performance.now() - start);
  return { vectors: data.map(({ embedding }) => embedding), milliseconds };
}

/** Loads the model into this tab, if it is to be there, and says what that came to. */
async function settle() {
  const turn = ++turns.place;
  const tell = (message, error = false) => show(message, { error, line: figures, field: null });
  if (chosen() === PLACES.edge) return tell("");
  tell("Loading the model into this tab …");
  try {
    const { bytes, milliseconds } = await openTab();
    if (turn !== turns.place) return;
    tell(`${(bytes / 1e6).toFixed(1)} MB of model loaded into this tab in ${milliseconds} ms`);
  } catch (error) {
    if (turn === turns.place) tell(reasonOf(error), true);
  }
}

/** Holds the vectors of both places beside each other: of the sentences to compare, or of the one that stands for them. */
async function compareBits() {
  const turn = ++turns.place;
  const tell = (message, error = false) => show(message, { error, line: figures, field: null });
  const typed = linesOf(sentences.value).slice(0, MOST_COMPARED);
  const texts = typed.length > 0 ? typed : [sentences.placeholder];
  tell("Comparing the bits …");
  try {
    const { bytes } = await openTab();
    const there = await timed(texts, PLACES.edge);
    const here = await timed(texts, PLACES.tab);
    if (turn !== turns.place) return;
    const equal = there.vectors.every((vector, i) => vector === here.vectors[i]);
    const verdict = equal ? "equal bit for bit" : "not equal";
    tell(
      `${counted(texts.length)}: the vectors are ${verdict}; at the edge ${there.milliseconds} ms, ` +
        `in this tab ${here.milliseconds} ms, with ${(bytes / 1e6).toFixed(1)} MB of model`,
      !equal,
    );
  } catch (error) {
    if (turn === turns.place) tell(reasonOf(error), true);
  }
}

async function compare() {
  const turn = ++turns.compare;
  const tell = (message, error = false) =>
    show(message, { error, line: compareStatus, field: sentences });
  const texts = linesOf(sentences.value);
  matrix.hidden = true;
  if (texts.length < 2 || texts.length > MOST_COMPARED) {
    tell(`Type 2 to ${MOST_COMPARED} sentences, one a line.`, true);
    sentences.focus();
    return;
  }
  tell("Comparing …");
  const at = chosen();
  const start = performance.now();
  try {
    const { data } = await post("/v1/embeddings", { input: texts }, at);
    if (turn !== turns.compare) return;
    const milliseconds = Math.round(performance.now() - start);
    tell(`${counted(texts.length)} compared in ${milliseconds} ms ${at.name}`);
    matrix.replaceChildren(
      matrixOf(
        texts,
        data.map(({ embedding }) => embedding),
      ),
    );
    matrix.hidden = false;
  } catch (error) {
    if (turn === turns.compare) tell(reasonOf(error), true);
  }
}

async function describe() {
  try {
    const { model_id: model, dimension, sentences: size, model_files } = await request("/info");
    place.hidden = !model_files;
    keyField.setAttribute("aria-invalid", "false");
    info.textContent = `${model} · ${dimension} dimensions · ${counted(size)}`;
    if (size > 0) return;
    form.hidden = true;
    show("There are no sentences to search here, only the API.");
  } catch (error) {
    info.textContent = reasonOf(error);
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
place.addEventListener("change", () => void settle());
bits.addEventListener("click", () => void compareBits());
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
