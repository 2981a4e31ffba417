// What the pages of all agents share: harmless text, elements, figures, plots, streams.
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

/// Changes what is on the page only where it differs: focus, selection and screen readers stay undisturbed.
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

// Controls, and what turns the direction of text around or hides in it.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}|\p{Cf}/gu;

/// A stranger's text so that what is there can be seen, and no more of it than `max` characters.
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

/// The last minutes, one point a second, of some figures together.
export class History {
  static POINTS = 300;

  constructor(figures) {
    this.series = Array.from({ length: figures }, () => new Float64Array(History.POINTS).fill(NaN));
  }

  /// One point each; more seconds than one are told where a sleeping tab missed them.
  add(values, seconds = 1) {
    const steps = Math.min(History.POINTS, Math.max(1, Math.round(seconds)));
    this.series.forEach((series, i) => {
      series.copyWithin(0, steps);
      series.fill(values === null ? NaN : values[i], History.POINTS - steps);
    });
  }

  /// Since how many seconds there is anything.
  known() {
    const first = this.series[0].findIndex((value) => !Number.isNaN(value));
    return first < 0 ? 0 : History.POINTS - first;
  }

  latest(i) {
    return this.series[i].at(-1);
  }
}

const SVG = "http://www.w3.org/2000/svg";

/// A plot of some figures of a history; pointer and arrow keys read it.
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
    this.paths = keys.map((_, i) => this.shape("path", { class: `s${i + 1}` }));
    this.line = this.shape("line", { class: "cursor", y1: 0, y2: 100, visibility: "hidden" });
    this.values = keys.map(([name], i) => el("span", { class: `key s${i + 1}` }, name));
    this.top = el("span");
    this.since = el("span");
    this.when = el("span", {}, "now");
    place.append(el("figure", { class: "plot" },
      el("figcaption", {}, el("b", {}, title), this.values), this.svg,
      el("div", { class: "axis", "aria-hidden": "true" }, this.since, this.top, this.when)));
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
    // The first minute would be lost in five.
    this.span = history.known() <= 60 ? 60 : History.POINTS;
    this.svg.setAttribute("viewBox", `${History.POINTS - this.span} 0 ${this.span - 1} 100`);
    setText(this.since, `${this.span / 60} min ago`);
    let top = 1;
    for (const [, index] of this.keys) for (const value of history.series[index]) if (value > top) top = value;
    this.keys.forEach(([, index], i) => this.paths[i].setAttribute("d", outline(history.series[index], top)));
    const at = this.cursor ?? History.POINTS - 1;
    const said = this.keys.map(([name, index]) => `${name} ${this.say(history.series[index][at])}`);
    said.forEach((text, i) => setText(this.values[i], text));
    const when = this.cursor === null ? "now" : `${History.POINTS - 1 - at} s ago`;
    setText(this.when, when);
    setText(this.top, `top ${this.say(top)}`);
    this.svg.setAttribute("aria-label", `${this.title}, ${when}: ${said.join(", ")}; highest ${this.say(top)}`);
    this.line.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) this.line.setAttribute(end, at);
  }
}

/// Seconds that nobody saw are a gap, not a line.
function outline(values, top) {
  let path = "";
  let pen = false;
  values.forEach((value, x) => {
    if (Number.isNaN(value)) pen = false;
    else {
      path += `${pen ? "L" : "M"}${x} ${(97 - (value / top) * 92).toFixed(1)}`;
      pen = true;
    }
  });
  return path;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Silence for longer than this means that nobody is there: a comment line comes every 15 s.
const SILENCE_MS = 40_000;
// An event is one line of JSON; more than this is no event of ours.
const EVENT_MAX = 16 << 20;

/// Server-sent events over `fetch`, which can send a token; tried again until the page is closed.
export class Stream {
  /// `on.event(name, data)`, `on.state("open" | "lost" | "token", text)`; `path()` and `headers()` are asked each time.
  constructor(path, on, headers = () => ({})) {
    Object.assign(this, { path, on, headers, failures: 0, wake: () => {} });
    this.stopped = false;
    addEventListener("online", () => this.wake());
    addEventListener("visibilitychange", () => document.hidden || this.wake());
    this.run();
  }

  /// Begins anew at once, with the path and token of now.
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
        if (!response.ok) throw new Error(`the server answered ${response.status}`);
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

/// Shows how the connection is, said aloud by screen readers only when it changes.
export function showState(element, state, text) {
  element.dataset.state = state;
  setText(element, text);
}
