// What logd takes, from whom, and where it puts it. The rest of the page's code is kit.js.
import { History, Plot, Stream, byId, bytes, count, duration, el, figures, rate, setRows, setText, showState, visible } from "./kit.js";

const LINES_MAX = 500;
const LINE_CHARACTERS = 4200;

const [LINES, RECEIVED, WRITTEN, OPEN] = [0, 1, 2, 3];
const history = new History(4);
const plots = [
  new Plot(byId("plots"), "Lines a second", [["lines", LINES]]),
  new Plot(byId("plots"), "Bytes a second", [["received", RECEIVED], ["written", WRITTEN]], (n) => (Number.isNaN(n) ? "–" : bytes(n))),
  new Plot(byId("plots"), "Connections", [["open", OPEN]], (n) => (Number.isNaN(n) ? "–" : count(n))),
];

let last = null;
let tail = null;

new Stream(() => "page/figures", {
  event(name, now) {
    const at = performance.now();
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
    // What happens meanwhile is a gap, and counters may begin anew.
    last = null;
    history.add(null);
  },
});

function draw(now) {
  setText(byId("file"), `writes ${visible(now.file, 300)}`);
  figures(byId("totals"), [
    ["Lines/s", rate(history.latest(LINES))], ["Bytes/s", Number.isNaN(history.latest(RECEIVED)) ? "–" : bytes(history.latest(RECEIVED))],
    ["Open connections", count(now.connections_open)], ["Connections", count(now.connections)], ["Receipts", count(now.receipts)],
    ["Lines", count(now.lines)], ["Received", bytes(now.received_bytes)], ["Waiting for the file", bytes(now.pending_bytes)],
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
    ["Forced to the disk", count(now.syncs)], ["Failures", count(now.write_errors + now.sync_errors)],
  ]);
  setText(byId("peers-caption"), now.peers.length ? "The largest since logd started" : "Nobody has sent anything yet.");
  setRows(byId("peers"), now.peers.map((peer) => [peer.address ?? "all others", bytes(peer.bytes), count(peer.connections), count(peer.open)]));
  setText(byId("rotated-caption"), now.rotated ? `The newest ${now.newest.length} of ${count(now.rotated)}` : "Nothing was rotated yet.");
  setRows(byId("rotated"), now.newest.map((file) => [visible(file.name), bytes(file.bytes)]));
}

// ---- the lines

function follow() {
  return new Stream(() => `page/lines?${new URLSearchParams({ with: byId("with").value })}`, {
    event(name, news) {
      const left = [];
      if (news.more_lines) left.push(`${count(news.more_lines)} ${news.more_lines === 1 ? "line" : "lines"}`);
      if (news.skipped_bytes) left.push(`${bytes(news.skipped_bytes)} that nobody looked through`);
      if (left.length) setText(byId("left-out"), `Too fast to be shown whole; left out just now: ${left.join(", ")}.`);
      show(news.lines);
    },
    state(state) {
      // The file's last lines are told again at each beginning.
      if (state === "open") {
        byId("lines").replaceChildren();
        setText(byId("left-out"), "");
      }
    },
  });
}

function show(lines) {
  const list = byId("lines");
  if (byId("pause").getAttribute("aria-pressed") === "true") return;
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(...lines.slice(-LINES_MAX).map((line) => el("li", {}, visible(line, LINE_CHARACTERS) || " ")));
  while (list.children.length > LINES_MAX) list.firstChild.remove();
  // Who scrolled back wants to read.
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
