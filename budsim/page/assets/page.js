// The page's behaviour: sends forms, follows progress, shows what the service answers as HTML.
// All text in that HTML is escaped by the service; text put in here goes through textContent.

const $ = (selector, within = document) => within.querySelector(selector);
const TOKEN = "budsim-token";
const THEME = "budsim-theme";
// Pause after the last movement of a slider before the service is asked, ms.
const SLIDER_PAUSE = 120;
// Pause between two looks at the runs, ms.
const RUNS_PAUSE = 3000;
// Fields of the form by the names errors of the service use.
const FIELDS = {
  pretrained_model_uri: "model", target_throughput_per_user: "tokens_per_s_per_user",
  clusters: "upload", cluster: "upload", engines: "engine", prompt: "input_tokens",
  price_basis: "basis", format: "form",
};

class Refused extends Error {
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}

// ---------------------------------------------------------------- the service

async function call(path, body, signal) {
  const headers = {};
  // The token travels in a header alone: addresses end up in logs and in the history.
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers["dapr-api-token"] = token;
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(`page/${path}`, {
    method: body === undefined ? "GET" : "POST",
    body: body === undefined ? undefined : JSON.stringify(body),
    headers,
    signal,
  }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service does not answer.");
  });
  if (response.ok) return response;
  if (response.status === 401) askForToken(token ? "This token is wrong." : "");
  const problem = await response.json().catch(() => ({}));
  throw new Refused(problem.message ?? `The service answers ${response.status}.`, problem.param);
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

// ---------------------------------------------------------------- signing in

function askForToken(problem) {
  sessionStorage.removeItem(TOKEN);
  $("#views").replaceChildren();
  $("nav").hidden = $("#sign-out").hidden = true;
  $("#loading").hidden = true;
  $("#sign-in").hidden = false;
  $("#sign-in .problem").textContent = problem;
  $("#token").focus();
}

$("#sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("#token").value);
  $("#token").value = "";
  begin();
});
$("#sign-out").addEventListener("click", () => askForToken(""));

// ---------------------------------------------------------------- colours

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("#theme").value = theme;
}
applyTheme(localStorage.getItem(THEME) ?? "");
$("#theme").addEventListener("change", (event) => {
  localStorage.setItem(THEME, event.target.value);
  applyTheme(event.target.value);
});

// ---------------------------------------------------------------- views

const VIEWS = ["ask", "benchmarks", "runs"];

function show() {
  const hash = location.hash.slice(1);
  if (hash.startsWith("plan-")) {
    const plan = document.getElementById(hash);
    if (plan) {
      plan.open = true;
      plan.scrollIntoView();
      $("summary", plan).focus();
    }
    return;
  }
  const view = VIEWS.includes(hash) ? hash : "ask";
  for (const name of VIEWS) {
    const section = $(`#view-${name}`);
    if (section) section.hidden = name !== view;
    const link = $(`nav a[href="#${name}"]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "runs") showRuns();
}
addEventListener("hashchange", show);

async function begin() {
  try {
    const response = await call("start");
    $("#views").innerHTML = await response.text();
  } catch (problem) {
    if ($("#sign-in").hidden) $("#loading").textContent = problem.message;
    return;
  }
  $("#sign-in").hidden = $("#loading").hidden = true;
  $("nav").hidden = false;
  $("#sign-out").hidden = !sessionStorage.getItem(TOKEN);
  $("#question").addEventListener("submit", ask);
  $("#measured").addEventListener("submit", compare);
  $("#refresh-runs").addEventListener("click", showRuns);
  show();
}

// ---------------------------------------------------------------- forms

// Return the fields that can be seen: those of a choice that is not taken are left out.
function fieldsOf(form) {
  const found = {};
  for (const field of form.elements) {
    const part = field.closest("[class*=for-]");
    if (!field.name || (part && getComputedStyle(part).display === "none")) continue;
    if (field.type === "file") continue;
    if ((field.type === "radio" || field.type === "checkbox") && !field.checked) continue;
    if (field.value.trim()) found[field.name] = field.value;
  }
  return found;
}

async function textOf(file, field = "upload") {
  const most = Number($("#question").dataset.largestBytes);
  if (file.size > most) {
    const told = `${file.name} has ${file.size.toLocaleString("en")} bytes; the service takes`;
    throw new Refused(`${told} ${most.toLocaleString("en")} (MAX_BODY_BYTES).`, field);
  }
  return { name: file.name, text: await file.text() };
}

function tell(form, problem) {
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  const place = $(":scope > .problem", form) ?? $(".problem", form.parentElement);
  place.textContent = problem?.message ?? "";
  if (!problem?.field) return;
  const named = String(problem.field).split(".").pop();
  const name = FIELDS[named] ?? named;
  const field = form.elements[name] ?? form.elements[name.replace(/_s$/, "_ms")];
  if (!(field instanceof HTMLElement)) return;
  place.textContent = inWordsOfTheForm(problem, field);
  const closed = field.closest("details:not([open])");
  if (closed) closed.open = true;
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

// Return a message with the label people see in place of the name the service uses.
function inWordsOfTheForm(problem, field) {
  const label = field.closest("label")?.firstChild?.textContent.trim();
  const named = `${problem.field}: `;
  if (!label || !problem.message.startsWith(named)) return problem.message;
  return `${label}: ${problem.message.slice(named.length)}`;
}

const widthOf = (element) => Math.round(element.clientWidth) || 640;

// ---------------------------------------------------------------- a question

let asking = null; // the request under way
let asked = null; // the question of the answer that is shown

async function ask(event) {
  event.preventDefault();
  const form = event.target;
  asking?.abort();
  const mine = (asking = new AbortController());
  tell(form, null);
  $("#answer").replaceChildren();
  busy(true);
  try {
    const question = { ...fieldsOf(form), width: widthOf($("#answer")) };
    const [file] = form.elements.upload.files;
    if (question.source === "upload" && file) question.upload = await textOf(file);
    const [trace] = form.elements.trace.files;
    if (question.load === "trace" && trace) question.trace = await textOf(trace, "trace");
    const [prices] = form.elements.prices.files;
    if (prices) question.prices = await textOf(prices, "prices");
    const response = await call("ask", question, mine.signal);
    for await (const line of lines(response)) {
      if (line.error !== undefined) throw new Refused(line.error, line.field);
      if (line.share !== undefined) $("#progress").value = line.share;
      if (line.html !== undefined) {
        asked = question;
        showAnswer(line.html);
      }
    }
  } catch (problem) {
    if (problem.name !== "AbortError") tell(form, problem);
  } finally {
    if (asking === mine) busy(false);
  }
}

function busy(is) {
  $("#progress").hidden = $("#cancel").hidden = !is;
  $("#progress").value = 0;
  $("#cancel").onclick = () => asking?.abort();
}

function showAnswer(html) {
  const answer = $("#answer");
  answer.innerHTML = html;
  for (const plan of answer.querySelectorAll(".plan")) {
    $(".load", plan).addEventListener("toggle", () => showLoad(plan), { once: true });
    for (const slider of plan.querySelectorAll(".sliders input")) place(slider);
    $(".files", plan).addEventListener("submit", (event) => download(event, plan));
    const sliders = $(".sliders", plan);
    sliders?.addEventListener("input", () => slid(plan));
    sliders?.addEventListener("reset", () => setTimeout(() => reset(plan)));
  }
  answer.focus({ preventScroll: true });
  answer.scrollIntoView({ block: "start" });
  showOffer();
}

function chosen(plan) {
  const answer = plan.closest("[data-answer]").dataset.answer;
  return { asked, answer, number: Number(plan.dataset.number) };
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy !== undefined) await copy(button);
  if (button?.dataset.run) await showRun(button.dataset.run);
});

async function copy(button) {
  const code = $("code", button.parentElement);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here: select it to be copied by hand
  }
}

async function download(event, plan) {
  event.preventDefault();
  const form = event.target.elements.form.value;
  const problem = $(":scope > .problem", plan);
  problem.textContent = "";
  try {
    const response = await call("file", { ...chosen(plan), form });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = form === "command" ? "start.sh" : `${form}.yaml`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  } catch (error) {
    problem.textContent = error.message;
  }
}

// Asked for after the answer is shown: it takes another search.
async function showOffer() {
  const place = $("#answer .offer");
  const plan = $("#plan-1");
  if (!plan) return;
  try {
    place.innerHTML = await (await call("offer", chosen(plan))).text();
  } catch {
    place.replaceChildren(); // a hint, not an answer: without it nothing is missing
  }
}

async function showLoad(plan) {
  const place = $(".drawn", plan);
  place.textContent = "Replaying…";
  const body = chosen(plan);
  body.asked = { ...body.asked, width: widthOf(place) };
  try {
    place.innerHTML = await (await call("load", body)).text();
  } catch (error) {
    place.textContent = error.message;
  }
}

// ---------------------------------------------------------------- sliders

// A slider moves in equal ratios: 64 lies as far from 32 as from 128.
function valueOf(slider) {
  const { least, most, whole } = slider.dataset;
  const value = least * (most / least) ** (slider.value / slider.max);
  return whole === "yes" ? Math.max(1, Math.round(value)) : Number(value.toPrecision(3));
}

function place(slider) {
  const { value, least, most } = slider.dataset;
  const share = Math.log(value / least) / Math.log(most / least);
  slider.value = slider.defaultValue = Math.round(slider.max * share);
  slider.dataset.start = slider.value;
}

function changesOf(plan) {
  const changes = {};
  for (const slider of plan.querySelectorAll(".sliders input")) {
    const moved = slider.value !== slider.dataset.start;
    const value = moved ? valueOf(slider) : Number(slider.dataset.value);
    $(".now", slider.parentElement).textContent = value;
    slider.setAttribute("aria-valuetext", value);
    if (moved) changes[slider.name] = String(value);
  }
  return changes;
}

const sliding = new WeakMap(); // by plan: the pause and the request under way

function slid(plan) {
  const changes = changesOf(plan);
  const last = sliding.get(plan);
  clearTimeout(last?.pause);
  last?.request.abort();
  const request = new AbortController();
  const pause = setTimeout(() => changed(plan, changes, request.signal), SLIDER_PAUSE);
  sliding.set(plan, { pause, request });
}

function reset(plan) {
  sliding.get(plan)?.request.abort();
  changesOf(plan);
  $(".changed", plan).replaceChildren();
  $(".what-if .problem", plan).textContent = "";
}

async function changed(plan, changes, signal) {
  const problem = $(".what-if .problem", plan);
  if (!Object.keys(changes).length) return reset(plan);
  try {
    const response = await call("what-if", { ...chosen(plan), changes }, signal);
    const html = await response.text();
    problem.textContent = "";
    $(".changed", plan).innerHTML = html;
  } catch (error) {
    if (error.name !== "AbortError") problem.textContent = error.message;
  }
}

// ---------------------------------------------------------------- benchmarks

async function compare(event) {
  event.preventDefault();
  const form = event.target;
  const button = $("button", form);
  tell(form, null);
  button.disabled = true;
  try {
    const files = await Promise.all([...form.elements.files.files].map((file) => textOf(file)));
    const body = { ...fieldsOf(form), files, width: widthOf($("#comparison")) };
    $("#comparison").innerHTML = await (await call("measured", body)).text();
    $("#comparison").focus();
  } catch (problem) {
    $("#comparison").replaceChildren();
    tell(form, problem);
  } finally {
    button.disabled = false;
  }
}

// ---------------------------------------------------------------- runs

let looking = 0;

async function showRuns() {
  clearTimeout(looking);
  const view = $("#view-runs");
  if (!view || view.hidden) return;
  try {
    const html = await (await call("runs")).text();
    // Only what changed is replaced: focus and selection stay where they are.
    if ($("#run-list").dataset.html !== html) $("#run-list").innerHTML = html;
    $("#run-list").dataset.html = html;
    $(".problem", view).textContent = "";
  } catch (error) {
    if ($("#view-runs")) $(".problem", view).textContent = error.message;
  }
  looking = setTimeout(showRuns, RUNS_PAUSE);
}

async function showRun(id) {
  const place = $("#run-detail");
  try {
    place.innerHTML = await (await call(`runs/${encodeURIComponent(id)}`)).text();
    place.focus();
  } catch (error) {
    place.textContent = error.message;
  }
}

begin();
