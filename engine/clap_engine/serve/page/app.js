"use strict";
// The one page: what is asked for lies in the URL's hash, so that a link is a search.

const $ = (id) => document.getElementById(id);
const KEY = "clap-engine-key";
const STAGES = ["--fill", "--hit", "--accent", "--dot", "--focus", "--soft"];
let sound = null; // the dropped sound as a data URI; it is not part of a link
let near = null;
let asked = 0;
let blobs = [];

const map = new ClipMap($("map"), $("tip"), (key) => { forgetSound(); near = key; $("text").value = ""; submit(); });

function headers(more) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

async function call(path, body) {
  const options = body
    ? { method: "POST", headers: headers({ "content-type": "application/json" }), body: JSON.stringify(body) }
    : { headers: headers({}) };
  const response = await fetch(path, options);
  const found = await response.json();
  if (response.status === 401) $("key-row").hidden = false;
  if (!response.ok) throw new Error(found.error ? found.error.message : response.statusText);
  return found;
}

// "year >= 1970, kind = rain" -> {"and": [{"year": {">=": 1970}}, {"kind": {"=": "rain"}}]}
function filtersOf(text) {
  text = text.trim();
  if (!text) return null;
  if (text.startsWith("{")) {
    try { return JSON.parse(text); } catch (error) { throw new Error(`the filter is no JSON: ${error.message}`); }
  }
  const parts = text.split(",").filter((part) => part.trim()).map((part) => {
    const found = part.match(/^\s*([^\s<>=!]+)\s*(<=|>=|!=|=|<|>|\bhas\b|\bprefix\b)\s*(.+?)\s*$/);
    if (!found) throw new Error(`the filter "${part.trim()}" is not understood; write field = value`);
    return { [found[1]]: { [found[2]]: valueOf(found[3], found[2]) } };
  });
  return parts.length === 1 ? parts[0] : { and: parts };
}

function valueOf(text, operator) {
  if (operator === "prefix") return text;
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  if (text === "true" || text === "false") return text === "true";
  return text.replace(/^"(.*)"$/, "$1");
}

function stateOf() {
  const state = new URLSearchParams();
  for (const name of ["text", "negatives", "filters"]) {
    const value = $(name).value.trim();
    if (value) state.set(name, value);
  }
  if (near) state.set("near", near);
  if ($("k").value !== "10") state.set("k", $("k").value);
  return state.toString();
}

function readState() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const name of ["text", "negatives", "filters"]) $(name).value = state.get(name) || "";
  const k = state.get("k") || "10";
  $("k").value = [...$("k").options].some((option) => option.value === k) ? k : "10";
  near = state.get("near");
  return state;
}

function submit() {
  const hash = `#${stateOf()}`;
  if (hash === (location.hash || "#")) search();
  else location.hash = hash; // hashchange searches
}

async function search() {
  $("near").hidden = !near;
  $("near-key").textContent = near || "";
  const text = $("text").value.trim();
  if (!text && !sound && !near) return say("Describe a sound, or drop one.");
  const turn = ++asked;
  document.body.classList.add("busy");
  try {
    const body = { k: Number($("k").value), map: true };
    if (text) body.text = text;
    if (sound) body.audio = sound;
    if (near) body.near = near;
    const negatives = $("negatives").value.split(",").map((part) => part.trim()).filter(Boolean);
    if (negatives.length) body.negatives = negatives;
    const filters = filtersOf($("filters").value);
    if (filters) body.filters = filters;
    const answer = await call("/v1/search", body);
    if (turn === asked) show(answer);
  } catch (error) {
    if (turn === asked) { say(error.message, true); $("timings").hidden = true; }
  } finally {
    if (turn === asked) document.body.classList.remove("busy");
  }
}

function say(text, isBad) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", Boolean(isBad));
}

function show(answer) {
  const { hits, timings_ms: timings } = answer;
  const count = hits.length === 1 ? "1 hit" : `${hits.length} hits`;
  say(hits.length ? `${count} in ${timings.total.toFixed(1)} ms` : "No clip fits the filter.");
  showTimings(timings);
  for (const url of blobs) URL.revokeObjectURL(url);
  blobs = [];
  $("results").replaceChildren(...hits.map(hitRow));
  map.mark(hits);
}

function showTimings(timings) {
  const stages = Object.entries(timings).filter(([name]) => name !== "total");
  const sum = stages.reduce((total, [, ms]) => total + ms, 0) || 1;
  const said = stages.map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`).join(", ");
  $("timings").hidden = false;
  $("timings").title = said;
  $("timings").setAttribute("aria-label", `Stages: ${said}`);
  $("timings").replaceChildren(...stages.map(([, ms], i) => {
    const part = document.createElement("i");
    part.style.width = `${100 * ms / sum}%`;
    part.style.background = `var(${STAGES[i % STAGES.length]})`;
    return part;
  }));
}

function make(kind, className, ...children) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function clock(seconds) {
  const whole = Math.floor(seconds / 60);
  const rest = (seconds - 60 * whole).toFixed(1);
  return `${whole}:${rest.padStart(4, "0")}`;
}

function percent(share) {
  return share > .999 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`;
}

function hitRow(hit, i) {
  const share = hit.calibrated === null ? Math.max(0, hit.score) : hit.calibrated;
  const bar = make("i");
  bar.style.width = `${Math.round(100 * Math.min(1, share))}%`;
  const track = make("span", "track", bar);
  track.setAttribute("aria-hidden", "true");
  const score = make("span", "", hit.score.toFixed(3) + (hit.calibrated === null ? "" : ` · ${percent(hit.calibrated)}`));
  if (hit.calibrated !== null) score.title = "score, and the share of unrelated pairs that score lower";
  const title = make("b", "", hit.key);
  title.title = hit.key;
  const facts = Object.entries(hit.metadata).slice(0, 8)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(" · ");
  const more = hit.duplicates.length ? ` · same as ${hit.duplicates.join(", ")}` : "";
  const alike = make("button", "plain", "≈");
  alike.type = "button";
  alike.title = `Find clips like ${hit.key}`;
  alike.setAttribute("aria-label", alike.title);
  alike.addEventListener("click", () => { forgetSound(); near = hit.key; $("text").value = ""; submit(); });
  const row = make("li", "hit",
    make("span", "rank", String(i + 1)),
    make("div", "", make("div", "title", title, make("span", "span", `${clock(hit.start_s)} – ${clock(hit.end_s)}`)),
      make("div", "score", track, score)),
    make("div", "facts", facts + more),
    make("div", "side", player(hit), alike));
  row.dataset.key = hit.key;
  row.addEventListener("pointerenter", () => map.light(map.hits.find((one) => one.key === hit.key)));
  row.addEventListener("pointerleave", () => map.light(null));
  return row;
}

// A player begins at the matching span; where keys are needed the sound is fetched with them.
function player(hit) {
  if (!hit.audio) return make("span", "mute", "no playback");
  const audio = make("audio");
  audio.controls = true;
  audio.preload = "metadata";
  audio.setAttribute("aria-label", `Play ${hit.key} from ${clock(hit.start_s)}`);
  audio.dataset.start = hit.start_s;
  let isBegun = false;
  audio.addEventListener("loadedmetadata", () => {
    if (!isBegun && hit.start_s > 0) audio.currentTime = hit.start_s;
    isBegun = true;
  });
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
  });
  if (!sessionStorage.getItem(KEY)) {
    audio.src = `${hit.audio}#t=${hit.start_s.toFixed(2)}`;
    return audio;
  }
  const load = make("button", "plain", "Load");
  load.type = "button";
  load.setAttribute("aria-label", `Load ${hit.key}`);
  load.addEventListener("click", async () => {
    const response = await fetch(hit.audio, { headers: headers({}) });
    if (!response.ok) return say(`${hit.key} can't be played`, true);
    audio.src = URL.createObjectURL(await response.blob());
    blobs.push(audio.src);
    load.replaceWith(audio);
    audio.play();
  });
  return load;
}

function forgetSound() {
  sound = null;
  $("file").value = "";
  $("chosen").hidden = true;
  $("chosen-audio").removeAttribute("src");
}

function takeSound(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    const data = String(reader.result);
    sound = `data:application/octet-stream;base64,${data.slice(data.indexOf(",") + 1)}`;
    near = null;
    $("chosen").hidden = false;
    $("chosen-name").textContent = file.name;
    $("chosen-audio").src = URL.createObjectURL(file);
    submit();
  });
  reader.addEventListener("error", () => say(`${file.name} can't be read`, true));
  reader.readAsDataURL(file);
}

async function about() {
  try {
    const [facts, plane] = await Promise.all([call("/v1/collection"), call("/v1/map")]);
    const minutes = facts.duration_s / 60;
    const length = minutes < 90 ? `${minutes.toFixed(1)} min` : `${(minutes / 60).toFixed(1)} h`;
    $("about").textContent = `${facts.clips.toLocaleString()} clips · ${length} · ${facts.model}`;
    $("map-note").textContent = `${plane.points.length.toLocaleString()} of ${plane.clips.toLocaleString()} clips · ${Math.round(100 * plane.share)} % of variance`;
    map.show(plane.points);
  } catch (error) {
    say(error.message, true);
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); if ($("text").value.trim()) near = null; submit(); });
$("k").addEventListener("change", submit);
$("file").addEventListener("change", () => takeSound($("file").files[0]));
$("forget").addEventListener("click", () => { forgetSound(); $("text").focus(); submit(); });
$("forget-near").addEventListener("click", () => { near = null; $("text").focus(); submit(); });
$("key").addEventListener("change", () => {
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key-row").hidden = true;
  say("Describe a sound, or drop one.");
  about().then(search);
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.remove("over"); });
}
addEventListener("drop", (event) => takeSound(event.dataTransfer.files[0]));
addEventListener("hashchange", () => { readState(); search(); });
addEventListener("keydown", (event) => {
  const isTyping = event.target.matches && event.target.matches("input, textarea, select");
  if (event.key === "/" && !isTyping) { event.preventDefault(); $("text").focus(); }
});

readState();
about().then(() => { if (location.hash.length > 1) search(); });
