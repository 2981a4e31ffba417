// Shared by the pages of all agents: escaped text, elements, figures, plots, streams.
// Nothing here ever makes markup out of a string: text goes into text nodes.

/// An element with attributes (`onclick` and the like are listeners) and children.
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat());
  return element;
}

export const byId = (id) => document.getElementById(id);

/// Sets the text only if it differs, so that focus, selection and screen readers stay undisturbed.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// A list of names and values.
export function figures(list, entries) {
  while (list.children.length < entries.length) list.append(el("div", {}, el("dt"), el("dd")));
  while (list.children.length > entries.length) list.lastChild.remove();
  entries.forEach(([name, value], i) => {
    const [dt, dd] = list.children[i].children;
    setText(dt, name);
    setText(dd, value);
  });
}

/// Rows of text: the first cell is the row's name, the others are numbers.
export function setRows(body, rows) {
  const width = rows[0]?.length ?? 0;
  while (body.children.length < rows.length) {
    const numbers = Array.from({ length: width - 1 }, () => el("td", { class: "number" }));
    body.append(el("tr", {}, el("th", { scope: "row", class: "text" }), numbers));
  }
  while (body.children.length > rows.length) body.lastChild.remove();
  rows.forEach((row, i) => row.forEach((text, j) => setText(body.children[i].children[j], text)));
}

/// Rows whose first cell is a button, or text if nothing can be chosen. Rows keep their elements by `key`, so that the focus
/// stays where it is. The other cells are numbers.
export function setButtonRows(body, rows) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  rows.forEach(({ key, onclick, cells }, i) => {
    let row = old.get(key);
    if (!row) {
      const first = onclick ? el("button", { class: "link", onclick }, cells[0]) : cells[0];
      row = el("tr", { "data-key": key }, el("th", { scope: "row" }, first), cells.slice(1).map(() => el("td", { class: "number" })));
    }
    old.delete(key);
    if (body.children[i] !== row) body.insertBefore(row, body.children[i] ?? null);
    cells.slice(1).forEach((text, j) => setText(row.children[j + 1], text));
  });
  for (const row of old.values()) row.remove();
}

// Control characters, and characters that are invisible or reverse the direction of text.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}|\p{Cf}/gu;

/// Makes a stranger's text visible: escapes hidden characters, and cuts it to `max` characters.
export function visible(text, max = 200) {
  let cut = text.length > max ? text.slice(0, max) : text;
  if (cut.length < text.length && /[\ud800-\udbff]$/.test(cut)) cut = cut.slice(0, -1);
  const shown = cut.replace(UNSEEN, (c) => {
    const code = c.codePointAt(0);
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "␡" : `\\u{${code.toString(16)}}`;
  });
  return cut.length < text.length ? `${shown}…` : shown;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const brief = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });

export const count = (n) => grouped.format(n);
export const rate = (n) => (n === null || Number.isNaN(n) ? "–" : brief.format(n));

export function bytes(n) {
  let unit = 0;
  for (; n >= 1024 && unit < 5; unit += 1) n /= 1024;
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

export function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

/// Formats a duration, in milliseconds if it is below a second.
export function took(ms) {
  if (ms >= 1000) return duration(ms);
  return ms < 1 ? "< 1 ms" : `${Math.round(ms)} ms`;
}

/// The last 15 minutes of some figures, one point a second.
export class History {
  static POINTS = 900;

  constructor(figures) {
    this.series = Array.from({ length: figures }, () => new Float64Array(History.POINTS).fill(NaN));
  }

  /// Adds one point to each series, or several if a sleeping tab missed some seconds.
  add(values, seconds = 1) {
    const steps = Math.min(History.POINTS, Math.max(1, Math.round(seconds)));
    this.series.forEach((series, i) => {
      series.copyWithin(0, steps);
      series.fill(values === null ? NaN : values[i], History.POINTS - steps);
    });
  }

  /// Fills in the agent's samples. `rows`: [age in ms, figure, …], the oldest first, the newest of now.
  /// `counters`: the number of figures, from the first on, that count up and are shown per second.
  fill(rows, counters, interval_ms) {
    for (const series of this.series) series.fill(NaN);
    const at = (age_ms) => Math.round(History.POINTS - 1 - age_ms / 1000);
    for (let i = 1; i < rows.length; i += 1) {
      const [before, after] = [rows[i - 1], rows[i]];
      const [start, end] = [at(before[0]), at(after[0])];
      // An agent samples while figures change, so a change happened within one interval after its sample.
      const busy = Math.max(1, Math.min(before[0] - after[0], interval_ms) / 1000);
      this.series.forEach((series, figure) => {
        const [from, to] = [before[figure + 1], after[figure + 1]];
        for (let x = Math.max(0, start); x < end; x += 1) {
          if (figure >= counters) series[x] = from;
          else series[x] = x - start < busy ? Math.max(0, to - from) / busy : 0;
        }
        if (end >= 0) series[end] = figure >= counters ? to : series[end - 1];
      });
    }
  }

  /// Seconds since the first known point.
  known() {
    const first = this.series[0].findIndex((value) => !Number.isNaN(value));
    return first < 0 ? 0 : History.POINTS - first;
  }

  latest(i) {
    return this.series[i].at(-1);
  }
}

const SVG = "http://www.w3.org/2000/svg";
const SPANS_S = [60, 300, 900];

/// A plot of some figures of a history, with axes. The pointer and the arrow keys read values from it.
export class Plot {
  /// `keys`: [name, index in the history], in the order of their colours; `say` makes a value readable.
  constructor(place, title, keys, say = rate) {
    this.title = title;
    this.keys = keys;
    this.say = say;
    this.cursor = null;
    this.svg = document.createElementNS(SVG, "svg");
    for (const [name, value] of Object.entries({ preserveAspectRatio: "none", role: "img", tabindex: "0" })) {
      this.svg.setAttribute(name, value);
    }
    this.grid = this.shape("path", { class: "grid" });
    this.paths = keys.map((_, i) => this.shape("path", { class: `s${i + 1}` }));
    this.line = this.shape("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
    this.values = keys.map(([name], i) => el("span", { class: `key s${i + 1}` }, name));
    this.heights = [1, 0.5, 0].map(() => el("span"));
    this.times = [0, 1, 2, 3].map(() => el("span"));
    place.append(el("figure", { class: "plot" },
      el("figcaption", {}, el("b", {}, title), this.values),
      el("div", { class: "heights", "aria-hidden": "true" }, this.heights), this.svg,
      el("div", { class: "times", "aria-hidden": "true" }, this.times)));
    this.svg.addEventListener("pointermove", (e) => {
      const box = this.svg.getBoundingClientRect();
      const part = (e.clientX - box.left) / box.width;
      this.move(History.POINTS - this.span + Math.round(part * (this.span - 1)));
    });
    this.svg.addEventListener("pointerleave", () => this.move(null));
    this.svg.addEventListener("blur", () => this.move(null));
    this.svg.addEventListener("keydown", (e) => {
      const step = { ArrowLeft: -5, ArrowRight: 5 }[e.key];
      if (step) this.move((this.cursor ?? History.POINTS - 1) + step);
      else if (e.key === "Escape") this.move(null);
      else return;
      e.preventDefault();
    });
  }

  shape(name, attributes) {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    this.svg.append(shape);
    return shape;
  }

  move(cursor) {
    this.cursor = cursor === null ? null : Math.min(History.POINTS - 1, Math.max(0, cursor));
    if (this.history) this.draw(this.history);
  }

  draw(history) {
    this.history = history;
    this.span = SPANS_S.find((span) => history.known() <= span) ?? History.POINTS;
    const first = History.POINTS - this.span;
    this.svg.setAttribute("viewBox", `${first} 0 ${this.span - 1} 100`);
    let highest = 0;
    for (const [, index] of this.keys) for (const value of history.series[index].subarray(first)) if (value > highest) highest = value;
    const top = roundUp(highest);
    this.keys.forEach(([, index], i) => this.paths[i].setAttribute("d", outline(history.series[index], top)));
    this.drawAxes(first, top);
    const at = this.cursor ?? History.POINTS - 1;
    const said = this.keys.map(([name, index]) => `${name} ${this.say(history.series[index][at])}`);
    said.forEach((text, i) => setText(this.values[i], text));
    const when = this.cursor === null ? "now" : ago(History.POINTS - 1 - at);
    this.svg.setAttribute("aria-label", `${this.title}, ${when}: ${said.join(", ")}; highest ${this.say(highest)}`);
    this.line.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) this.line.setAttribute(end, at);
    setText(this.times.at(-1), when);
  }

  drawAxes(first, top) {
    [top, top / 2, 0].forEach((value, i) => setText(this.heights[i], this.say(value)));
    const third = (this.span - 1) / 3;
    [3, 2, 1].forEach((n, i) => setText(this.times[i], ago((this.span / 3) * n)));
    const across = [top, top / 2, 0].map((value) => `M${first} ${height(value, top)}H${History.POINTS - 1}`);
    const down = [1, 2].map((n) => `M${(first + third * n).toFixed(1)} 0V100`);
    this.grid.setAttribute("d", [...across, ...down].join(""));
  }
}

const ago = (seconds) => (seconds < 60 ? `${Math.round(seconds)} s ago` : `${Number((seconds / 60).toFixed(1))} min ago`);

/// Rounds up to an even digit followed by zeros, so that the axis and its middle have readable labels.
function roundUp(value) {
  if (!(value > 2)) return 2;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [2, 4, 6, 8, 10].map((step) => step * unit).find((step) => step >= value);
}

const height = (value, top) => (97 - (value / top) * 92).toFixed(1);

/// Draws unknown seconds as a gap.
function outline(values, top) {
  let path = "";
  let pen = false;
  values.forEach((value, x) => {
    if (Number.isNaN(value)) pen = false;
    else {
      path += `${pen ? "L" : "M"}${x} ${height(value, top)}`;
      pen = true;
    }
  });
  return path;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// A longer silence means that the server is gone: a comment line comes every 15 s.
const SILENCE_MS = 40_000;
// The largest event that is accepted, one line of JSON.
const EVENT_MAX = 16 << 20;

/// Server-sent events over `fetch`, which can send a token. Retries until the page is closed.
export class Stream {
  /// `on.event(name, data)`, `on.state("open" | "lost" | "token", text)`; `path()` and `headers()` are called for each attempt.
  constructor(path, on, headers = () => ({})) {
    Object.assign(this, { path, on, headers, failures: 0, wake: () => {} });
    this.stopped = false;
    addEventListener("online", () => this.wake());
    addEventListener("visibilitychange", () => document.hidden || this.wake());
    this.run();
  }

  /// Reconnects at once, with the current path and token.
  renew() {
    this.failures = 0;
    this.abort?.abort("renew");
    this.wake();
  }

  stop() {
    this.stopped = true;
    this.renew();
  }

  async run() {
    while (!this.stopped) {
      this.abort = new AbortController();
      let why = "";
      try {
        const response = await fetch(this.path(), { headers: this.headers(), signal: this.abort.signal, cache: "no-store" });
        if (response.status === 401) {
          this.on.state("token", "a token is needed");
          await new Promise((wake) => { this.wake = wake; });
          continue;
        }
          if (!response.ok) throw new Error(`the server answered ${response.status}: ${(await response.text()).trim()}`);
        this.failures = 0;
        this.on.state("open", "live");
        await this.read(response.body);
      } catch (error) {
        why = error.name === "TypeError" ? "" : `: ${error.message}`;
      }
      if (this.stopped || this.abort.signal.reason === "renew") continue;
      const wait = Math.min(8000, 500 * 2 ** this.failures) * (0.5 + Math.random() / 2);
      this.failures = Math.min(this.failures + 1, 10);
      this.on.state("lost", `connection lost, trying again${visible(why, 100)}`);
      await Promise.race([sleep(wait), new Promise((wake) => { this.wake = wake; })]);
    }
  }

  async read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => this.abort.abort(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      if (rest.length > EVENT_MAX) throw new Error("an event is too long");
      for (const event of events) this.tell(event);
    }
  }

  tell(event) {
    let name = "message";
    let data = "";
    for (const line of event.split("\n")) {
      if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data += line.slice(5);
    }
    if (data) this.on.event(name, JSON.parse(data));
  }
}

/// Shows the state of the connection. Screen readers announce it only when it changes.
export function showState(element, state, text) {
  element.dataset.state = state;
  setText(element, text);
}

// ---- the end of each page: its version, the documentation, the pages of the other agents

const DOCUMENTATION = "https://github.com/nodecrew/nodecrew/tree/main/agents";
// The default ports; other ports are not known here.
const PAGES = { logd: 7667, logcd: 7668, queued: 8080 };

async function finishFooter() {
  const agent = document.querySelector("h1").textContent;
  const response = await fetch("page/version", { cache: "no-store" });
  const version = response.ok ? await response.text() : "";
  const others = Object.entries(PAGES).filter(([name]) => name !== agent)
    .flatMap(([name, port]) => [" ", el("a", { href: `http://${location.hostname}:${port}/` }, name)]);
  document.querySelector("footer").append(el("p", {}, `nodecrew ${visible(version, 60)} · `,
    el("a", { href: `${DOCUMENTATION}/${agent}` }, "documentation"), " · pages of this host at their default ports:", others));
}

finishFooter();
