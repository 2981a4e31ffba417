// The queues as they live: what /v1/events tells, and what /v1 can do. The rest of the page's code is kit.js.
import { Items } from "./items.js";
import { History, Plot, Stream, byId, bytes, count, duration, el, figures, rate, setText, showState, visible } from "./kit.js";

const TOKEN = "queued.token";
// More rows would not help; the filter finds the others.
const ROWS_MAX = 100;
const WORKERS_MAX = 50;
const DEAD_MAX = 20;
const PREVIEW_BYTES = 300;

// A history's figures, by index.
const [PUSHED, LEASED, ACKED, FAILED, READY, HELD, DELAYED, DEAD] = [0, 1, 2, 3, 4, 5, 6, 7];
const counters = (q) => [q.pushed, q.leases, q.acked, q.nacked + q.expired];
const levels = (q) => [q.ready, q.leased, q.delayed, q.dead];

const queues = new Map(); // name → { now, at, counted, rates, history, row }
const total = { history: new History(8), rates: [NaN, NaN, NaN, NaN] };
let selected = null;
let live = false;
let ticked = performance.now();

const plots = [
  new Plot(byId("plots"), "Items per second", [["pushed", PUSHED], ["leased", LEASED], ["acked", ACKED], ["failed", FAILED]]),
  new Plot(byId("plots"), "Items", [["ready", READY], ["leased", HELD], ["delayed", DELAYED], ["dead", DEAD]], (n) => (Number.isNaN(n) ? "–" : count(n))),
];

// ---- asking the server

const token = () => sessionStorage.getItem(TOKEN);
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

function say(text, kind = "good") {
  const notice = byId("notice");
  notice.dataset.kind = kind;
  setText(notice, text);
}

/// The answer, or null after its refusal was said.
async function ask(method, path, body, quiet = false) {
  try {
    const response = await fetch(path, { method, body, headers: headers(), cache: "no-store" });
    if (response.status === 401) askForToken("a token is needed");
    const text = await response.text();
    if (response.ok) return text ? JSON.parse(text) : {};
    if (!quiet) say(refusal(response.status, text), "bad");
  } catch {
    if (!quiet) say("The server cannot be reached; it may or may not have done what was asked.", "bad");
  }
  return null;
}

function refusal(status, text) {
  try {
    return `Refused (${status}): ${visible(JSON.parse(text).message, 300)}`;
  } catch {
    return `Refused (${status})`;
  }
}

const pathOf = (queue, rest) => `v1/queues/${encodeURIComponent(queue)}/${rest}`;

function askForToken(text) {
  const form = byId("token-form");
  showState(byId("state"), "token", text);
  if (!form.hidden) return;
  if (token()) say("The server does not know this token.", "bad");
  form.hidden = false;
  byId("token").focus();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  byId("token-form").hidden = true;
  say("");
  stream.renew();
});

byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  location.reload();
});

// ---- the stream

const stream = new Stream(() => "v1/events", {
  event(name, data) {
    if (name === "deleted") return remove(data.name);
    if (name !== "queue") return;
    const known = queues.get(data.name) ?? enter(data.name);
    Object.assign(known, { now: data, at: performance.now(), fresh: true });
    known.counted ??= counters(data);
    if (data.name === selected) look.wanted = true;
    drawSoon();
  },
  state(state, text) {
    live = state === "open";
    if (state === "token") return askForToken(text);
    showState(byId("state"), state, text);
    byId("forget").hidden = !token();
    if (!live) return;
    fillHistory();
    byId("token-form").hidden = true;
    Object.assign(look, { wanted: true, stats: true });
    // The stream begins with all queues: a queue that is not among them is gone.
    for (const queue of queues.values()) queue.fresh = false;
    setTimeout(() => {
      if (live) for (const [name, queue] of queues) if (!queue.fresh) remove(name);
    }, 3000);
  },
}, headers);

/// The agent remembers the last minutes of all queues together, and those of each queue that changed lately.
async function fillHistory() {
  const past = await ask("GET", "page/history", undefined, true);
  if (past) total.history.fill(past.rows, READY, past.interval_ms);
  for (const queue of queues.values()) queue.filled = false;
}

/// Those of a single queue are asked for when it is chosen, once for each connection.
async function fillQueueHistory(name) {
  const queue = queues.get(name);
  if (!queue || queue.filled) return;
  queue.filled = true;
  const past = await ask("GET", `page/history?queue=${encodeURIComponent(name)}`, undefined, true);
  if (!past) return;
  queue.history ??= new History(8);
  queue.history.fill(past.rows, READY, past.interval_ms);
  drawSoon();
}

function enter(name) {
  const queue = { rates: [NaN, NaN, NaN, NaN] };
  queues.set(name, queue);
  return queue;
}

function remove(name) {
  queues.get(name)?.row?.element.remove();
  queues.delete(name);
  if (name === selected) look.wanted = true;
  drawSoon();
}

// ---- time

setInterval(() => {
  const now = performance.now();
  const seconds = Math.max(0.2, (now - ticked) / 1000);
  ticked = now;
  const sums = [0, 0, 0, 0, 0, 0, 0, 0];
  for (const queue of queues.values()) {
    const counts = counters(queue.now);
    // A restarted server may count from 0.
    queue.rates = counts.map((n, i) => Math.max(0, n - queue.counted[i]) / seconds);
    queue.counted = counts;
    const figures = [...queue.rates, ...levels(queue.now)];
    queue.history?.add(live ? figures : null, seconds);
    figures.forEach((n, i) => { sums[i] += n; });
  }
  total.history.add(live ? sums : null, seconds);
  total.rates = sums.slice(0, 4);
  draw();
  lookAgain();
}, 1000);

let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

const oldest = (queue) => (queue.now.oldest_ready_ms === null ? null : queue.now.oldest_ready_ms + performance.now() - queue.at);

// ---- drawing

function draw() {
  const all = [...queues.values()];
  const sum = (figure) => all.reduce((n, queue) => n + queue.now[figure], 0);
  const ages = all.map(oldest).filter((age) => age !== null);
  figures(byId("totals"), [
    ["Queues", count(all.length)], ["Depth", count(sum("backlog"))], ["Ready", count(sum("ready"))],
    ["Delayed", count(sum("delayed"))], ["Leased", count(sum("leased"))], ["Dead", count(sum("dead"))],
    ["Oldest ready", ages.length ? duration(Math.max(...ages)) : "–"], ["Bytes", bytes(sum("bytes"))],
    ["Waiting requests", count(sum("waiting"))],
  ]);
  drawRows();
  drawDetail();
  const shown = queues.get(selected)?.history ?? total.history;
  for (const plot of plots) plot.draw(shown);
}

function drawRows() {
  const wanted = byId("filter").value.trim();
  const names = [...queues.keys()].filter((name) => name.includes(wanted)).sort();
  const shown = names.slice(0, ROWS_MAX);
  const caption = queues.size === 0 ? "No queue yet. Try: seq 9 | queuectl push -q demo"
    : `${shown.length === queues.size ? shown.length : `${shown.length} of ${queues.size}`} ${queues.size === 1 ? "queue" : "queues"}; choose one to see its workers and dead letters`;
  setText(byId("queues-caption"), caption);
  const body = byId("rows");
  shown.forEach((name, i) => {
    const queue = queues.get(name);
    queue.history ??= new History(8);
    queue.row ??= newRow(name);
    if (body.children[i] !== queue.row.element) body.insertBefore(queue.row.element, body.children[i] ?? null);
    drawRow(name, queue);
  });
  while (body.children.length > shown.length) body.lastChild.remove();
  // Queues that are not shown use no memory.
  for (const name of [...names.slice(ROWS_MAX), ...[...queues.keys()].filter((name) => !name.includes(wanted))]) {
    Object.assign(queues.get(name), { row: undefined, history: name === selected ? queues.get(name).history : undefined });
  }
}

function newRow(name) {
  const open = el("button", { class: "link", onclick: () => choose(name) }, name);
  const tag = el("span", { class: "tag" });
  const cells = ["", "", "wide", "", "", "wide", "wide", "wide", "wide"].map((wide) => el("td", { class: `number ${wide}` }));
  return { element: el("tr", {}, el("th", { scope: "row" }, open), el("td", { class: "wide" }, tag), cells), tag, cells };
}

/// A drained queue is green only if every item succeeded.
function stateOf(queue) {
  const failed = queue.failed === 0 ? "" : `, ${count(queue.failed)} ${queue.failed === queue.dead ? "dead" : "failed"}`;
  const kind = queue.verdict !== "drained" ? "" : failed ? "warn" : "good";
  return { kind, text: `${queue.verdict}${failed}${queue.sealed ? ", sealed" : ""}` };
}

function drawRow(name, queue) {
  const { now, row, rates } = queue;
  const age = oldest(queue);
  const state = stateOf(now);
  setText(row.tag, state.text);
  row.tag.className = `tag ${state.kind}`;
  const values = [now.backlog, now.ready, now.delayed, now.leased, now.dead].map(count);
  [...values, age === null ? "–" : duration(age), rate(rates[0]), rate(rates[2]), count(now.waiting)]
    .forEach((text, i) => setText(row.cells[i], text));
  row.cells[4].classList.toggle("bad", now.dead > 0);
  if (name === selected) row.element.setAttribute("aria-current", "true");
  else row.element.removeAttribute("aria-current");
}

function drawDetail() {
  const queue = queues.get(selected);
  byId("detail").hidden = selected === null;
  const name = selected === null ? "all queues" : visible(selected, 128);
  setText(byId("plots-title"), `The last minutes of ${queue ? name : "all queues"}`);
  document.title = queue ? `${name} – queued` : "queued";
  if (selected === null) return;
  setText(byId("detail-title"), queue ? `Queue ${name}` : `There is no queue ${name}`);
  byId("seal").hidden = !queue;
  items.draw(queue?.now);
  if (!queue) return figures(byId("figures"), []);
  const { now, rates } = queue;
  const age = oldest(queue);
  setText(byId("seal"), now.sealed ? "Unseal" : "Seal");
  figures(byId("figures"), [
    ["State", stateOf(now).text], ["Ready", count(now.ready)], ["Delayed", count(now.delayed)],
    ["Leased", count(now.leased)], ["Dead", count(now.dead)], ["Oldest ready", age === null ? "–" : duration(age)],
    ["Pushed", `${count(now.pushed)}, ${rate(rates[0])}/s`], ["Acked", `${count(now.acked)}, ${rate(rates[2])}/s`],
    ["Failed", count(now.nacked)], ["Expired", count(now.expired)], ["Removed", count(now.removed)],
    ["Bytes", bytes(now.bytes)], ["Lease", duration(now.settings.lease_ms)], ["Attempts", now.settings.max_attempts || "any number"],
  ]);
  drawWorkers(now);
}

// ---- what the selected queue's workers hold, and its dead letters: asked for only when something changed

const look = { wanted: false, stats: true, asking: false, asked: 0, leased: [], dead: [], after: null, seen: new Map() };

async function lookAgain() {
  if (!live) return;
  fillQueueHistory(selected);
  if (look.asking) return;
  const now = performance.now();
  const queue = queues.get(selected);
  // A lease that was extended changes no figure: its end passes, and it is still there.
  if (look.leased.some((item) => item.ends < now) && now - look.asked > 2000) look.wanted = true;
  if (!look.wanted && !look.stats) return;
  Object.assign(look, { asking: true, asked: now });
  if (look.stats || now - (look.statsAt ?? -Infinity) > 10_000) await drawServer(now);
  if (look.wanted) {
    look.wanted = false;
    const name = selected;
    // No more than there are: the server need not search on for others.
    const leased = queue?.now.leased ? await peek(name, "items?state=leased", Math.min(WORKERS_MAX, queue.now.leased)) : [];
    const dead = queue?.now.dead ? await peek(name, `dead?${look.after ? `after=${look.after}` : ""}`, Math.min(DEAD_MAX, queue.now.dead)) : [];
    if (name === selected) {
      keepLeased(leased ?? []);
      look.dead = dead ?? [];
      if (look.dead.length === 0 && look.after) Object.assign(look, { after: null, wanted: true });
      drawDead(queue?.now);
      if (queue) drawWorkers(queue.now);
    }
  }
  look.asking = false;
}

const peek = async (name, what, limit) => (await ask("GET", pathOf(name, `${what}&limit=${limit}&cut=${PREVIEW_BYTES}`), undefined, true))?.items;

async function drawServer(now) {
  Object.assign(look, { stats: false, statsAt: now });
  const stats = await ask("GET", "v1/stats", undefined, true);
  if (!stats) return;
  setText(byId("server"), `durability ${stats.durability} · ${bytes(stats.memory_bytes)} of ${bytes(stats.memory_bytes_max)} memory · ${bytes(stats.log_bytes)} log`);
}

/// Since when a lease is held is known for those that began under the page's eyes.
function keepLeased(items) {
  const now = performance.now();
  const before = look.seen;
  look.seen = new Map();
  for (const item of items) {
    const id = `${item.id} ${item.attempts}`;
    const since = before.get(id) ?? { at: now, before: look.first };
    look.seen.set(id, since);
    Object.assign(item, { since, ends: now + (item.due_ms ?? 0) });
  }
  look.first = false;
  look.leased = items.sort((a, b) => (a.worker ?? "").localeCompare(b.worker ?? "") || a.since.at - b.since.at);
}

function bodyOf(item) {
  const text = item.body ?? `base64 ${item.body_base64 ?? ""}`;
  const cell = el("td", { class: "text" }, visible(text, PREVIEW_BYTES) || "(empty)");
  if (item.key !== undefined) cell.append(el("div", { class: "soft" }, `key ${visible(item.key, 60)}`));
  if (item.bytes !== undefined) cell.append(el("div", { class: "soft" }, `the beginning of ${bytes(item.bytes)}`));
  cell.title = item.id;
  return cell;
}

/// Rows are kept while their item is: a focus, or a text being selected, stays.
function keepRows(body, items, make, update = () => {}) {
  const rows = new Map([...body.children].map((row) => [row.dataset.id, row]));
  items.forEach((item, i) => {
    const id = `${item.id} ${item.attempts}`;
    let row = rows.get(id);
    if (!row) {
      row = make(item);
      row.dataset.id = id;
    }
    rows.delete(id);
    if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    update(row, item);
  });
  for (const row of rows.values()) row.remove();
}

function drawWorkers(queue) {
  const now = performance.now();
  byId("workers-table").hidden = look.leased.length === 0;
  byId("workers-empty").hidden = look.leased.length > 0;
  const workers = new Set(look.leased.map((item) => item.worker ?? "")).size;
  setText(byId("workers-caption"), `${look.leased.length < queue.leased ? `the first ${look.leased.length} of ` : ""}${count(queue.leased)} held, by ${workers} ${workers === 1 ? "worker" : "workers"}`);
  keepRows(byId("workers"), look.leased, (item) => el("tr", {},
    el("th", { scope: "row", class: "text" }, item.worker === undefined ? "(no name)" : visible(item.worker, 128)), bodyOf(item),
    el("td", { class: "number wide" }, count(item.attempts)), el("td", { class: "number" }), el("td", { class: "number" })),
  (row, item) => {
    const [held, ends] = [...row.children].slice(-2);
    setText(held, `${item.since.before ? "over " : ""}${duration(now - item.since.at)}`);
    setText(ends, item.ends > now ? duration(item.ends - now) : "now");
  });
}

function drawDead(queue) {
  const dead = queue?.dead ?? 0;
  byId("dead-table").hidden = look.dead.length === 0;
  byId("dead-empty").hidden = look.dead.length > 0;
  for (const id of ["redrive-all", "delete-all"]) byId(id).hidden = dead === 0;
  byId("dead-first").hidden = look.after === null;
  byId("dead-next").hidden = look.dead.length < DEAD_MAX;
  setText(byId("dead-caption"), look.dead.length < dead ? `${look.dead.length} of ${count(dead)}` : `${count(dead)}`);
  keepRows(byId("dead"), look.dead, (item) => {
    const short = visible(item.body ?? item.id, 30);
    const act = (what, danger) => el("button", {
      class: danger ? "danger" : undefined, "aria-label": `${what} ${short}`,
      onclick: () => settle(what.toLowerCase(), [item.id]),
    }, what);
    return el("tr", {}, bodyOf(item),
      el("td", { class: "text" }, item.reason === undefined ? "(none was given)" : visible(item.reason, 1024)),
      el("td", { class: "number wide" }, items.attemptsButton(item)),
      el("td", { class: "wide" }, new Date(item.pushed_at).toLocaleString()),
      el("td", {}, el("div", { class: "row together" }, act("Redrive"), act("Delete", true))));
  });
}

// ---- doing

async function settle(what, ids) {
  if (what === "delete" && !(await sure(ids ? "Delete this dead letter for good?" : `Delete all dead letters of ${selected} for good?`))) return;
  const answer = await ask("POST", pathOf(selected, `dead/${what}`), JSON.stringify(ids ? { ids } : {}));
  if (answer) say(`${count(answer.count)} ${answer.count === 1 ? "item" : "items"} ${what === "delete" ? "deleted" : "ready again"}.`);
  look.wanted = true;
}

function sure(text, yes = "Yes, delete") {
  const dialog = byId("sure");
  setText(byId("sure-text"), text);
  setText(byId("sure-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

byId("redrive-all").addEventListener("click", () => settle("redrive"));
byId("delete-all").addEventListener("click", () => settle("delete"));
byId("dead-next").addEventListener("click", () => turn(look.dead.at(-1)?.id ?? null));
byId("dead-first").addEventListener("click", () => turn(null));

function turn(after) {
  Object.assign(look, { after, wanted: true });
  lookAgain();
}

byId("seal").addEventListener("click", async () => {
  const what = queues.get(selected)?.now.sealed ? "unseal" : "seal";
  const answer = await ask("POST", pathOf(selected, what));
  if (answer) say(`${selected} is ${answer.sealed ? "sealed: nothing more can be pushed" : "open again"}.`);
});

byId("push").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [queue, key] = [byId("push-queue").value.trim(), byId("push-key").value];
  const lines = byId("push-lines").checked;
  const query = new URLSearchParams();
  if (byId("push-seal").checked) query.set("seal", "true");
  if (key && !lines) query.set("key", key);
  const body = new Blob([byId("push-body").value.replace(/\r\n/g, "\n")]);
  const button = byId("push-button");
  button.disabled = true;
  const answer = await ask("POST", pathOf(queue, `${lines ? "batch" : "items"}?${query}`), body);
  button.disabled = false;
  if (!answer) return;
  const pushed = lines ? answer.items.length : 1;
  say(answer.duplicate ? `${queue} has an item with this key already.` : `Pushed ${count(pushed)} ${pushed === 1 ? "item" : "items"} into ${queue}.`);
  byId("push-body").value = "";
  byId("push-body").focus();
});

// ---- choosing a queue; the address has it, so that it can be kept and sent

function choose(name) {
  location.hash = name === null ? "" : `queue=${encodeURIComponent(name)}`;
}

function chosen() {
  // The skip link's place is not a choice.
  if (location.hash && !location.hash.startsWith("#queue=")) return;
  let name = null;
  try {
    name = decodeURIComponent(location.hash.slice(7)) || null;
  } catch {
    // No name of a queue.
  }
  if (name === selected) return;
  selected = name;
  Object.assign(look, { wanted: true, leased: [], dead: [], after: null, seen: new Map(), first: true });
  items.choose(name);
  if (name !== null && queues.has(name)) byId("push-queue").value = name;
  draw();
  drawDead(queues.get(name)?.now);
  lookAgain();
}

addEventListener("hashchange", () => {
  const before = selected;
  chosen();
  if (selected !== null && selected !== before) byId("detail-title").focus();
});
byId("close").addEventListener("click", () => {
  choose(null);
  byId("queues").focus();
});
byId("filter").addEventListener("input", draw);
const items = new Items({ ask, pathOf, say, sure });
chosen();
draw();
