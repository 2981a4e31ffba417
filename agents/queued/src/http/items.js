// A queue's items and settings: look, search, select, delete, move; pause, configure and delete the queue.
import { byId, bytes, count, duration, el, setText, visible } from "./kit.js";

const ROWS = 25;
const PREVIEW_BYTES = 300;
const SETTINGS = ["lease_ms", "max_attempts", "backoff_ms", "backoff_max_ms", "max_items", "max_bytes", "key_memory_ms", "dead_letter_queue"];

/// `server`: `ask(method, path, body)` and `pathOf(queue, rest)`; `say(text)` and `sure(text, yes)` speak to the reader.
export class Items {
  constructor(server) {
    Object.assign(this, { server, queue: null, after: null, next: null, selected: new Set() });
    byId("items-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.look(null);
    });
    byId("items-next").addEventListener("click", () => this.look(this.next));
    byId("items-first").addEventListener("click", () => this.look(null));
    byId("items-all").addEventListener("change", (event) => this.selectAll(event.target.checked));
    byId("items-delete").addEventListener("click", () => this.deleteSelected());
    byId("items-move-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.moveSelected(byId("items-to").value.trim());
    });
    byId("pause").addEventListener("click", () => this.pause());
    byId("drain").addEventListener("click", () => this.drain());
    byId("delete-queue").addEventListener("click", () => this.deleteQueue());
    byId("settings").addEventListener("click", () => this.openSettings());
    byId("settings-dialog").addEventListener("close", () => this.saveSettings());
  }

  /// Another queue was chosen: nothing is looked up before somebody asks.
  choose(queue) {
    this.queue = queue;
    this.show([]);
    setText(byId("items-caption"), "Show lists the first items.");
    for (const id of ["items-first", "items-next"]) byId(id).hidden = true;
  }

  /// `now` is the queue object, undefined when the queue is gone.
  draw(now) {
    this.now = now;
    for (const id of ["pause", "drain", "settings", "delete-queue"]) byId(id).hidden = !now;
    if (now) setText(byId("pause"), now.paused ? "Resume" : "Pause");
  }

  async look(after) {
    const [queue, by, what] = [this.queue, byId("items-by").value, byId("items-what").value];
    const search = what.trim() === "" ? null : by;
    let answer;
    if (search === "id") {
      const item = await this.ask("GET", `items/${encodeURIComponent(what.trim())}`);
      answer = item && { items: [item] };
    } else {
      const query = new URLSearchParams({ limit: ROWS, cut: PREVIEW_BYTES });
      if (byId("items-state").value) query.set("state", byId("items-state").value);
      if (search) query.set(search, what);
      if (after) query.set("after", after);
      answer = await this.ask("GET", `items?${query}`);
    }
    if (!answer || queue !== this.queue) return;
    // A full page may have more after it, a search says so itself.
    this.next = answer.next ?? (answer.items.length === ROWS ? answer.items.at(-1).id : null);
    this.after = after;
    byId("items-first").hidden = after === null;
    byId("items-next").hidden = this.next === null;
    setText(byId("items-caption"), answer.items.length || this.next ? `${count(answer.items.length)} shown, in order of push` : "No such item.");
    this.show(answer.items);
  }

  show(items) {
    this.selected.clear();
    byId("items-all").checked = false;
    byId("items").replaceChildren(...items.map((item) => this.row(item)));
    this.drawSelection();
  }

  row(item) {
    const box = el("input", {
      type: "checkbox", "aria-label": `Select ${item.id}`, disabled: item.state === "leased",
      onchange: (event) => {
        if (event.target.checked) this.selected.add(item.id);
        else this.selected.delete(item.id);
        this.drawSelection();
      },
    });
    const body = visible(item.body ?? `base64 ${item.body_base64 ?? ""}`, PREVIEW_BYTES) || "(empty)";
    const notes = [`id ${item.id}`];
    if (item.key !== undefined) notes.push(`key ${visible(item.key, 60)}`);
    if (item.bytes !== undefined) notes.push(`the beginning of ${bytes(item.bytes)}`);
    if (item.worker !== undefined) notes.push(`held by ${visible(item.worker, 128)}`);
    const due = item.due_ms === undefined ? "" : ` for ${duration(item.due_ms)}`;
    return el("tr", {}, el("td", {}, box),
      el("td", { class: "text" }, body, notes.map((note) => el("div", { class: "soft" }, note))),
      el("td", {}, `${item.state}${due}`), el("td", { class: "number" }, this.attemptsButton(item)),
      el("td", { class: "text wide" }, item.reason === undefined ? "" : visible(item.reason, 1024)));
  }

  attemptsButton(item) {
    return el("button", {
      class: "link", "aria-label": `Attempts of ${item.id}: ${count(item.attempts)}`, onclick: () => this.showAttempts(item.id),
    }, count(item.attempts));
  }

  async showAttempts(id) {
    const item = await this.ask("GET", `items/${id}`);
    if (!item) return;
    const history = item.history ?? [];
    setText(byId("attempts-caption"), `${id}: ${item.state}${history.length ? "" : ", no attempt is known"}`);
    byId("attempts").replaceChildren(...history.map(attemptRow));
    byId("attempts-dialog").showModal();
  }

  selectAll(checked) {
    for (const box of byId("items").querySelectorAll("input:not(:disabled)")) {
      if (box.checked !== checked) box.click();
    }
  }

  drawSelection() {
    const n = this.selected.size;
    setText(byId("items-selected"), n === 0 ? "none selected" : `${count(n)} selected`);
    for (const id of ["items-delete", "items-move"]) byId(id).disabled = n === 0;
  }

  ask(method, rest, body) {
    return this.server.ask(method, this.server.pathOf(this.queue, rest), body && JSON.stringify(body));
  }

  async deleteSelected() {
    const ids = [...this.selected];
    if (!(await this.server.sure(`Delete ${count(ids.length)} selected items for good?`, "Yes, delete"))) return;
    const answer = await this.ask("POST", "items/delete", { ids });
    if (!answer) return;
    this.server.say(`${count(answer.count)} of ${count(ids.length)} items deleted.`);
    await this.look(this.after);
  }

  async moveSelected(to) {
    const ids = [...this.selected];
    const answer = await this.ask("POST", "items/move", { to, ids });
    if (!answer) return;
    this.server.say(`${count(answer.count)} of ${count(ids.length)} items moved into ${visible(to, 128)}.`);
    await this.look(this.after);
  }

  async pause() {
    const answer = await this.ask("POST", this.now?.paused ? "resume" : "pause");
    if (answer) this.server.say(`${this.queue} is ${answer.paused ? "paused: nothing is handed out" : "running again"}.`);
  }

  async drain() {
    const { ready, delayed } = this.now;
    if (!(await this.server.sure(`Remove all ${count(ready + delayed)} ready and delayed items of ${this.queue}?`, "Yes, remove"))) return;
    const answer = await this.ask("POST", "drain");
    if (answer) this.server.say(`${count(answer.removed)} items removed.`);
  }

  async deleteQueue() {
    const queue = this.queue;
    if (!(await this.server.sure(`Delete queue ${queue} with everything in it?`, "Yes, delete"))) return;
    if (await this.server.ask("DELETE", `v1/queues/${encodeURIComponent(queue)}`)) this.server.say(`Queue ${queue} is deleted.`);
  }

  openSettings() {
    for (const name of SETTINGS) byId(`set-${name}`).value = this.now.settings[name] ?? "";
    byId("settings-dialog").returnValue = "cancel";
    byId("settings-dialog").showModal();
  }

  async saveSettings() {
    if (byId("settings-dialog").returnValue !== "save") return;
    const changed = {};
    for (const name of SETTINGS) {
      const text = byId(`set-${name}`).value.trim();
      const value = name === "dead_letter_queue" ? text || null : Number(text);
      if (value !== (this.now.settings[name] ?? null)) changed[name] = value;
    }
    const path = `v1/queues/${encodeURIComponent(this.queue)}`;
    if (await this.server.ask("PUT", path, JSON.stringify(changed))) this.server.say(`The settings of ${this.queue} are changed.`);
  }
}

const ENDS = { nacked: "failed", expired: "the lease expired", released: "released", disconnected: "the connection ended" };
const FATES = { dead: "the item died", moved: "moved to the dead-letter queue" };

function attemptRow(attempt) {
  const at = (time) => (time === undefined ? "not known" : new Date(time).toLocaleString());
  const end = attempt.ended === undefined ? "still held" : ENDS[attempt.ended] ?? attempt.ended;
  const fate = attempt.fate === undefined ? "" : `, ${FATES[attempt.fate] ?? attempt.fate}`;
  // An expired lease has no reason but that.
  const reason = attempt.ended === "expired" ? undefined : attempt.reason;
  const notes = [reason, attempt.ended_at && at(attempt.ended_at)].filter((note) => note !== undefined);
  return el("tr", {}, el("td", { class: "number" }, count(attempt.attempt)),
    el("td", { class: "text" }, attempt.worker === undefined ? "(no name)" : visible(attempt.worker, 128)),
    el("td", {}, at(attempt.leased_at)),
    el("td", { class: "text" }, `${end}${fate}`, notes.map((note) => el("div", { class: "soft" }, visible(note, 256)))));
}
