// Container logs: namespaces, their containers, and the newest lines of a container.
import { Stream, byId, bytes, count, el, figures, setButtonRows, setRows, setText, visible } from "./kit.js";

let shownNamespace = null;
let areLinesShown = false;
let tail = null;

/// Draws the part of the page, or hides it where logcd archives no container logs.
export function drawPods(now) {
  byId("pods-part").hidden = !now;
  if (!now) return;
  areLinesShown = now.lines_are_shown;
  byId("lines-off").hidden = areLinesShown;
  figures(byId("pods-totals"), [
    ["Namespaces", count(now.namespaces_all)],
    ["New a second", bytes(now.namespaces.reduce((sum, namespace) => sum + namespace.bytes_per_second, 0))],
    ["Their archives", bytes(now.kept_bytes)],
    ["Lost logs", count(now.losses.reduce((sum, loss) => sum + loss.logs, 0))],
  ]);
  const { namespaces, namespaces_all: all } = now;
  const listed = namespaces.length < all ? `The ${namespaces.length} of ${count(all)} that keep the most` : "Choose one to see its containers";
  setText(byId("namespaces-caption"), all ? `${listed}. The rate is that of the last five minutes` : "None yet.");
  setButtonRows(byId("namespaces"), namespaces.map((namespace) => ({
    key: namespace.name,
    onclick: () => chooseNamespace(namespace.name),
    cells: [namespace.name, `${bytes(namespace.bytes_per_second)}/s`, bytes(namespace.read_bytes), bytes(namespace.kept_bytes),
      bytes(namespace.share_bytes), namespace.oldest.replace(/\..*/, "") || "–"],
  })));
  setText(byId("losses-caption"), now.losses.length ? "Logs that were removed before they were read to their end; the newest first" : "None since logcd started.");
  setRows(byId("losses"), now.losses.toReversed().map((loss) => [visible(loss.container), count(loss.logs), new Date(loss.at_ms).toLocaleString()]));
}

async function chooseNamespace(name) {
  shownNamespace = name;
  let caption = "";
  let containers = [];
  try {
    const response = await fetch(`page/containers?${new URLSearchParams({ namespace: name })}`, { cache: "no-store" });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    const found = JSON.parse(text);
    containers = found.containers;
    const all = found.containers_all;
    caption = containers.length < all ? `The first ${containers.length} of ${count(all)}` : `${count(all)} with logs on this node`;
  } catch (error) {
    caption = visible(error.message.trim(), 300);
  }
  if (name !== shownNamespace) return;
  setText(byId("containers-title"), `Containers of ${name}`);
  setText(byId("containers-caption"), caption);
  setButtonRows(byId("containers"), containers.map(({ dir, pod, container }) => ({
    key: dir, onclick: areLinesShown ? () => follow(dir) : null, cells: [visible(pod), visible(container)],
  })));
  byId("containers-part").hidden = false;
  byId("containers-title").focus();
}

function follow(dir) {
  tail?.stop();
  setText(byId("lines-title"), `The newest lines of ${visible(dir)}`);
  byId("lines").replaceChildren();
  byId("lines-part").hidden = false;
  tail = new Stream(() => `page/container-lines?${new URLSearchParams({ container: dir })}`, {
    event(name, lines) {
      const list = byId("lines");
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
      list.replaceChildren(...lines.map((line) => el("li", { class: line.stream === "stderr" ? "warn" : undefined },
        el("span", { class: "soft" }, line.time ? `${line.time} ` : ""), visible(line.text, 4000) || " ")));
      // Who scrolled back wants to read.
      if (atEnd) list.scrollTop = list.scrollHeight;
    },
    state(state, text) {
      setText(byId("lines-state"), state === "open" ? "" : text);
    },
  });
}
