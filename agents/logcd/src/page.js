// What logcd did lately, and what it keeps. The rest of the page's code is kit.js.
import { Stream, byId, bytes, count, el, figures, setButtonRows, setRows, setText, showState, took, visible } from "./kit.js";
import { drawPods } from "./pods.js";

const REASONS = {
  symlink: "a symbolic link is never followed", not_a_file: "not a regular file", hard_link: "it has hard links outside the directory",
  sparse: "it claims to be larger than it is", too_many: "more files than --max-files", unreadable: "it cannot be read",
  unstable: "it was rewritten while it was read",
};

let chosen = null;

new Stream(() => "page/figures", {
  event(name, now) {
    draw(now.reasons, now.directories);
    drawPods(now.pods);
    setText(byId("place"), [now.directories, now.pods && { ...now.pods, dir: now.pods.pods }].filter(Boolean)
      .map((from) => `${visible(from.dir, 300)} into ${visible(from.out, 300)}`).join("; "));
    if (chosen) show(chosen);
  },
  state(state, text) {
    showState(byId("state"), state, text);
  },
});

function draw(reasons, now) {
  const notice = byId("notice");
  notice.dataset.kind = "bad";
  setText(notice, reasons ? `Not ready: ${visible(reasons.trim(), 500)}` : "");
  byId("directories-part").hidden = !now;
  if (!now) return;
  const last = now.cycles.at(-1);
  const published = now.cycles.filter((cycle) => cycle.result === "published");
  const spent = now.cycles.reduce((sum, cycle) => sum + cycle.took_ms, 0);
  figures(byId("totals"), [
    ["Logs", last ? count(last.files) : "–"], ["In today's archive", last ? bytes(last.content_bytes) : "–"],
    ["Its size", last ? bytes(last.archive_bytes) : "–"], ["Waiting to be archived", last ? bytes(last.waiting_bytes) : "–"],
    ["Last published", published.length ? time(published.at(-1).at_ms) : "–"], ["These cycles took", took(spent)],
    ["All archives", bytes(now.archives_bytes)], ["Free", now.disk_free_bytes === null ? "–" : bytes(now.disk_free_bytes)],
    ["Passed over", count(now.skip_counts.reduce((sum, [, n]) => sum + n, 0))],
  ]);
  setText(byId("cycles-caption"), now.cycles.length ? "The newest first; scans without changes are shown once" : "None yet.");
  setRows(byId("cycles"), now.cycles.toReversed().map((cycle) => [time(cycle.at_ms), cycle.result.replace("_", " "), took(cycle.took_ms),
    bytes(cycle.compressed_bytes), bytes(cycle.written_bytes), bytes(cycle.copied_bytes), count(cycle.files), bytes(cycle.archive_bytes)]));
  drawArchives(now);
  setText(byId("skipped-caption"), now.skip_counts.length
    ? now.skip_counts.map(([reason, n]) => `${count(n)}: ${REASONS[reason] ?? reason}`).join("; ") : "Nothing.");
  setRows(byId("skipped"), now.skipped.map(([name, reason]) => [visible(name), reason.replaceAll("_", " ")]));
}

const time = (ms) => new Date(ms).toLocaleTimeString();

function drawArchives(now) {
  setText(byId("archives-caption"), now.archives_all ? `${now.archives.length < now.archives_all ? `the newest ${now.archives.length} of ` : ""}${count(now.archives_all)}; choose one to see what is in it` : "None yet.");
  setButtonRows(byId("archives"), now.archives.map((archive) => ({
    key: archive.name, onclick: () => choose(archive.name), cells: [archive.name, bytes(archive.bytes)],
  })));
}

async function choose(name) {
  chosen = name;
  await show(name);
  byId("contents-title").focus();
}

async function show(name) {
  let text = "";
  try {
    const response = await fetch(`page/contents?${new URLSearchParams({ archive: name })}`, { cache: "no-store" });
    text = await response.text();
    if (!response.ok) throw new Error(text);
    if (name !== chosen) return;
    const { entries, entries_all: all } = JSON.parse(text);
    setText(byId("contents-caption"), entries.length < all ? `The first ${entries.length} of ${count(all)}` : `${count(all)} logs`);
    setRows(byId("contents"), entries.map((entry) => [visible(entry.name), bytes(entry.bytes), bytes(entry.packed_bytes),
      new Date(entry.mtime_s * 1000).toLocaleString(), entry.superseded ? "no longer in its file" : "as in its file"]));
    [...byId("contents").children].forEach((row, i) => linkToDownload(row.children[0], name, i));
  } catch {
    if (name !== chosen) return;
    setText(byId("contents-caption"), visible(text.trim(), 300) || "The daemon cannot be reached.");
    setRows(byId("contents"), []);
  }
  setText(byId("contents-title"), `In ${name}`);
  byId("contents-part").hidden = false;
}

/// The name of a log becomes a link that saves it. The daemon refuses it to other hosts.
function linkToDownload(cell, archive, entry) {
  const href = `page/log?${new URLSearchParams({ archive, entry })}`;
  cell.replaceChildren(el("a", { href, download: "" }, cell.textContent));
}
