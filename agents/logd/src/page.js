// The page of logd: the lines that it takes, their peers, and the file. Shared code is in kit.js.
import { History, Plot, Stream, byId, bytes, count, duration, el, figures, rate, setRows, setText, showState, visible } from "./kit.js";

const LINES_MAX = 500;
const LINE_CHARACTERS = 4200;

const [LINES, RECEIVED, WRITTEN, OPEN] = [0, 1, 2, 3];
// The first figures count up; the last is a level.
const COUNTERS = 3;
const history = new History(4);
const plots = [
  new Plot(byId("plots"), "Lines per second", [["lines", LINES]]),
  new Plot(byId("plots"), "Bytes per second", [["received", RECEIVED], ["written", WRITTEN]], (n) => (Number.isNaN(n) ? "–" : bytes(n))),
  new Plot(byId("plots"), "Connections", [["open", OPEN]], (n) => (Number.isNaN(n) ? "–" : count(n))),
];

let last = null;
let tail = null;

new Stream(() => "page/figures", {
  event(name, now) {
    const at = performance.now();
    if (name === "history") return history.fill(now.rows, COUNTERS, now.interval_ms);
    if (last) {
      const seconds = Math.max(0.2, (at - last.at) / 1000);
      const grown = (figure) => Math.max(0, now[figure] - last.now[figure]) / seconds;
      history.add([grown("lines"), grown("received_bytes"), grown("written_bytes"), now.connections_open], seconds);
    }
    last = { now, at };
    draw(now);
    if (now.lines_are_shown) tail ??= follow();
  },
  state(state, text) {
    showState(byId("state"), state, text);
    if (state !== "lost") return;
    // The time without a connection is a gap, and counters may restart.
    last = null;
    history.add(null);
  },
});

function draw(now) {
  setText(byId("file"), `writes ${visible(now.file, 300)}`);
  figures(byId("totals"), [
    ["Lines/s", rate(history.latest(LINES))], ["Bytes/s", Number.isNaN(history.latest(RECEIVED)) ? "–" : bytes(history.latest(RECEIVED))],
    ["Open connections", count(now.connections_open)], ["Connections", count(now.connections)], ["Receipts", count(now.receipts)],
    ["Lines", count(now.lines)], ["Received", bytes(now.received_bytes)], ["Waiting to be written", bytes(now.pending_bytes)],
  ]);
  const notice = byId("notice");
  notice.dataset.kind = "bad";
  setText(notice, now.reasons ? `Not ready: ${visible(now.reasons.trim(), 500)}` : "");
  for (const plot of plots) plot.draw(history);
  byId("lines-part").hidden = !now.lines_are_shown;
  byId("lines-off").hidden = now.lines_are_shown;
  const free = now.disk_free_bytes;
  figures(byId("disk"), [
    ["File", bytes(now.file_bytes)], ["Rotated at", now.rotate_bytes ? bytes(now.rotate_bytes) : "no size"],
    ["or after", now.rotate_age_ms ? duration(now.rotate_age_ms) : "no time"],
    ["Rotated files", `${count(now.rotated)}${now.keep_files ? ` of ${count(now.keep_files)}` : ""}`],
    ["Their size", `${bytes(now.rotated_bytes)}${now.keep_bytes ? ` of ${bytes(now.keep_bytes)}` : ""}`],
    ["Disk", free === null ? "–" : `${bytes(free)} of ${bytes(now.disk_bytes)} free`],
    ["Syncs to the disk", count(now.syncs)], ["Failures", count(now.write_errors + now.sync_errors)],
  ]);
  setText(byId("peers-caption"), now.peers.length ? "The largest since logd started" : "Nobody has sent anything yet. Try: echo hello | nc -N 127.0.0.1 6666");
  setRows(byId("peers"), now.peers.map((peer) => [peer.address ?? "all others", bytes(peer.bytes), count(peer.connections), count(peer.open)]));
  setText(byId("rotated-caption"), now.rotated ? `The newest ${now.newest.length} of ${count(now.rotated)}` : "Nothing was rotated yet.");
  setRows(byId("rotated"), now.newest.map((file) => [visible(file.name), bytes(file.bytes)]));
}

// ---- the lines

function follow() {
  const wanted = () => new URLSearchParams({
    with: byId("with").value, regex: byId("regex").checked, since: byId("since").value.trim(), until: byId("until").value.trim(),
  });
  return new Stream(() => `page/lines?${wanted()}`, {
    event(name, news) {
      const left = [];
      if (news.more_lines) left.push(`${count(news.more_lines)} ${news.more_lines === 1 ? "line" : "lines"}`);
      if (news.skipped_bytes) left.push(`${bytes(news.skipped_bytes)} skipped`);
      if (left.length) setText(byId("left-out"), `Too many lines to show all; left out just now: ${left.join(", ")}.`);
      show(news.lines);
    },
    state(state, text) {
      // The server sends the newest lines again at each start.
      if (state === "open") {
        byId("lines").replaceChildren();
        setText(byId("left-out"), "");
      } else setText(byId("left-out"), text);
    },
  });
}

const STAMPED = /^(\d{4}-\d\d-\d\dT\S+Z) (\S+) /;
const JSON_STAMP = /^\{"time":"([^"]+)","peer":"([^"]+)",/;
const LEVELS = [[/\b(fatal|critical|crit|error|err)\b/i, "bad"], [/\b(warning|warn)\b/i, "warn"]];

/// A line with its level and peer in colour. Each peer keeps its colour.
function row(line) {
  const shown = visible(line, LINE_CHARACTERS) || " ";
  const level = LEVELS.find(([words]) => words.test(shown))?.[1];
  const stamp = STAMPED.exec(shown) ?? JSON_STAMP.exec(shown);
  if (!stamp) return el("li", { class: level }, shown);
  const start = stamp[0].lastIndexOf(stamp[2]);
  const peer = el("span", { class: `peer p${colourOf(stamp[2])}` }, stamp[2]);
  return el("li", { class: level }, shown.slice(0, start), peer, shown.slice(start + stamp[2].length));
}

/// One of four colours, by the peer's host.
function colourOf(peer) {
  const host = peer.slice(0, peer.lastIndexOf(":"));
  return [...host].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 997, 7) % 4 + 1;
}

function show(lines) {
  const list = byId("lines");
  if (byId("pause").getAttribute("aria-pressed") === "true") return;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(...lines.slice(-LINES_MAX).map(row));
  while (list.children.length > LINES_MAX) list.firstChild.remove();
  // Do not scroll if the reader has scrolled back.
  if (atEnd) list.scrollTop = list.scrollHeight;
}

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  tail?.renew();
});

byId("pause").addEventListener("click", (event) => {
  const paused = event.target.getAttribute("aria-pressed") === "true";
  event.target.setAttribute("aria-pressed", String(!paused));
  setText(event.target, paused ? "Pause" : "Go on");
  if (paused) tail?.renew();
});

byId("download").addEventListener("click", () => {
  const text = [...byId("lines").children].map((line) => `${line.textContent}\n`).join("");
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const link = el("a", { href: url, download: `logd-lines-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.txt` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
});
