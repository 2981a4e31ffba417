// Keys, how fast they are used, which are used most, and the changes as they are made. The rest of the page's code is kit.js.
import { History, Plot, Stream, byId, bytes, count, el, figures, rate, setRows, setText, showState, visible } from "./kit.js";

const CHANGES_MAX = 300;

const [READS, WRITES, COMMITS, KEYS] = [0, 1, 2, 3];
const history = new History(4);
const plots = [
  new Plot(byId("plots"), "Uses per second", [["reads", READS], ["writes", WRITES]]),
  new Plot(byId("plots"), "Commits per second", [["commits", COMMITS]]),
  new Plot(byId("plots"), "Keys", [["keys", KEYS]], (n) => (Number.isNaN(n) ? "–" : count(n))),
];

let last = null;

new Stream(() => "page/figures", {
  event(name, now) {
    const at = performance.now();
    if (last) {
      const seconds = Math.max(0.2, (at - last.at) / 1000);
      const grown = (figure) => Math.max(0, now[figure] - last.now[figure]) / seconds;
      history.add([grown("reads"), grown("writes"), grown("commits"), now.keys], seconds);
    }
    last = { now, at };
    draw(now);
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
  setText(byId("engine"), now.engine === "memory" ? "keys in memory" : "keys on the disk");
  figures(byId("totals"), [
    ["Reads/s", rate(history.latest(READS))], ["Writes/s", rate(history.latest(WRITES))], ["Keys", count(now.keys)],
    ["Keys and values", bytes(now.bytes)], ["Room taken", `${bytes(now.cost_bytes)} of ${bytes(now.bytes_max)}`],
    ["Revision", String(now.revision)], ["Watchers", count(now.watchers)], ["Failed commits", count(now.commit_errors)],
  ]);
  const notice = byId("notice");
  notice.dataset.kind = "bad";
  const reasons = now.reasons ? `Not ready: ${visible(now.reasons.trim(), 500)}` : "";
  setText(notice, now.is_going_down ? `${reasons} Every request is answered with 503.`.trim() : reasons);
  for (const plot of plots) plot.draw(history);
  setText(byId("hot-caption"), now.hot.length ? "Those of the last minutes" : "No key was used yet. Try: kvctl put greeting hello");
  setRows(byId("hot"), now.hot.map((hot) => [visible(hot.key), count(hot.reads), count(hot.writes)]));
}

// ---- the changes

const isPaused = () => byId("pause").getAttribute("aria-pressed") === "true";

const changes = new Stream(() => `page/changes?${new URLSearchParams({ prefix: byId("prefix").value })}`, {
  event(name, change) {
    if (name === "gone") setText(byId("changes-state"), "Too fast to be shown whole; some changes are left out.");
    if (!change.key || isPaused()) return;
    const list = byId("changes");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const until = change.expires ? `, until ${change.expires}` : "";
    const size = name === "put" ? `  ${bytes(change.bytes)}${until}` : "";
    list.append(el("li", { class: name === "put" ? undefined : "warn" }, `${change.revision} ${name} ${visible(change.key, 1024)}${size}`));
    while (list.children.length > CHANGES_MAX) list.firstChild.remove();
    // Who scrolled back wants to read.
    if (atEnd) list.scrollTop = list.scrollHeight;
  },
  state(state, text) {
    setText(byId("changes-state"), state === "open" ? "" : text);
  },
});

byId("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("changes").replaceChildren();
  changes.renew();
});

byId("pause").addEventListener("click", (event) => {
  event.target.setAttribute("aria-pressed", String(!isPaused()));
  setText(event.target, isPaused() ? "Go on" : "Pause");
});
