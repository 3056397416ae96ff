// A session: items one after the other, every answer saved at once, keys, time, pauses.
"use strict";
(function (app) {
  const one = (selector) => document.querySelector(selector);
  const TICK_MS = 1000;
  const FLUSH_TICKS = 5;

  class Room {
    /** `leave()`: shows the sessions; `ended()`: called when a session was finished. */
    constructor(reading, store, settings, { leave, ended }) {
      Object.assign(this, { reading, store, leave, ended, pack: reading.pack, ticks: 0, turn: 0 });
      this.viewer = new app.Viewer(one("#canvas"), this.pack, settings.viewer, (viewer) => this.keep({ viewer }));
      this.form = new app.Form(one("#questions"), (name, value, again) => this.answer(again));
      this.clock = new app.Clock(60000 * this.pack.idle_minutes, () => this.pause(true));
      app.connectToolbar(this.viewer, this.pack);
      this.listen();
    }

    listen() {
      one("#next").addEventListener("click", () => this.next());
      one("#back").addEventListener("click", () => this.go(this.state.at - 1));
      one("#leave").addEventListener("click", () => this.close());
      one("#pause").addEventListener("click", () => this.pause(false));
      one("#help-button").addEventListener("click", () => this.help());
      one("#paused").addEventListener("close", () => this.resume());
      one("#help").addEventListener("close", () => one("#canvas").focus({ preventScroll: true }));
      document.querySelectorAll("[data-close]").forEach((button) => (button.onclick = () => button.closest("dialog").close()));
      document.addEventListener("keydown", (event) => this.key(event));
      document.addEventListener("visibilitychange", () => this.seen(!document.hidden));
      window.addEventListener("pagehide", () => this.seen(false));
      window.addEventListener("beforeunload", (event) => this.store.pending && event.preventDefault());
      setInterval(() => this.tick(), TICK_MS);
    }

    /** Open a session where it was left. */
    open(session) {
      this.session = session;
      this.questions = app.questionsOf(this.pack, session.part);
      this.state = this.reading.sessions.get(session.number);
      one("#research").textContent = "Research only";
      one("#research").title = app.warning(this.pack);
      app.view("reading");
      return this.show();
    }

    async close() {
      await this.flush(true);
      this.front = false;
      this.session = null;
      this.viewer.clear();
      this.leave();
    }

    get item() {
      return this.session.items[this.state.at];
    }

    /** Show the item: first its images, then its questions; the clock runs from when both are there. */
    async show() {
      const { session, item } = this;
      const asked = { session, item };
      this.shown = asked;
      this.front = false;
      this.refresh();
      this.viewer.clear();
      this.cover("Loading images\u2026");
      one("#questions").textContent = "";
      try {
        const volumes = await this.load(item);
        if (this.shown !== asked) return;
        this.viewer.show(volumes);
      } catch (error) {
        if (this.shown === asked) this.cover("The images cannot be shown: " + error.message, () => this.show());
        return;
      }
      this.present(session, item);
      this.preload();
    }

    present(session, item) {
      this.cover(null);
      const record = this.reading.record(session, item);
      this.record = record;
      record.visits += 1;
      record.first_opened = record.first_opened || new Date().toISOString();
      this.reading.answers.set(app.answerKey(session, item), record);
      this.form.show(this.questions, record.values, false);
      this.front = true;
      this.clock.start(record.seconds);
      if (document.hidden) this.clock.stop();
      one("#canvas").focus({ preventScroll: true });
      document.body.dataset.item = item.item;
      this.refresh();
      this.write([this.answerEntry()], "relaxed");
    }

    async load(item) {
      const names = ["perfusion", "ventilation", ...(item.ct ? ["ct"] : [])];
      const loaded = await Promise.all(names.map((name) => app.volume(item[name])));
      return { ct: null, ...Object.fromEntries(names.map((name, i) => [name, loaded[i]])) };
    }

    preload() {
      const near = [this.item, this.session.items[this.state.at + 1]].filter(Boolean);
      app.keepVolumes(near.flatMap((item) => [item.perfusion, item.ventilation, item.ct]));
      // what is wrong with the next item is told when it is opened
      if (near[1]) this.load(near[1]).catch(() => {});
    }

    /** Cover the images with a text and a way to try again. */
    cover(text, again) {
      const cover = one("#cover");
      cover.hidden = text === null;
      cover.querySelector("p").textContent = text || "";
      const button = cover.querySelector("button");
      button.hidden = !again;
      button.textContent = "Try again";
      button.onclick = again || null;
    }

    answerEntry() {
      return ["answers", app.answerKey(this.session, this.item), this.record];
    }

    sessionEntry() {
      return ["sessions", this.session.number, this.state];
    }

    /** Write to the store; what cannot be written stops the reading and says so. True if it is on the disk. */
    async write(entries, durability = "strict") {
      const turn = durability === "strict" ? ++this.turn : null;
      try {
        await this.store.write(entries, durability);
        if (turn === this.turn) one("#saved").textContent = "Saved";
        return true;
      } catch (error) {
        this.front = false;
        this.clock.stop();
        this.lost(error, entries);
        return false;
      }
    }

    lost(error, entries) {
      if (error instanceof app.TakenOver) {
        const again = ["Read in this window", () => location.reload()];
        const text = "Only the window that was opened last may save answers. Close one of them.";
        app.problem("This pack is open in another window", text, "", again);
        return;
      }
      const text = "The answer is still here but not on the disk: free some space, then try again. Do not close this window.";
      const again = async () => {
        app.view("reading");
        if (await this.write(entries)) this.show();
      };
      app.problem("An answer could not be saved", text, error.message, ["Try again", again]);
    }

    answer(again) {
      if (again) this.record.changes += 1;
      this.record.last_changed = new Date().toISOString();
      this.clock.tick();
      this.record.seconds = this.clock.seconds;
      one("#missing").textContent = "";
      one("#saved").textContent = "Saving\u2026";
      this.refresh();
      return this.write([this.answerEntry()]);
    }

    /** Settings of the viewer, which outlast the item; losing the last one costs nothing. */
    keep(settings) {
      clearTimeout(this.keeping);
      this.keeping = setTimeout(() => this.store.write([["state", "settings", settings]], "relaxed").catch(() => {}), 500);
    }

    tick() {
      if (!this.front) return;
      this.clock.tick();
      this.ticks += 1;
      if (this.clock.running && this.ticks % FLUSH_TICKS === 0) this.flush(false);
    }

    /** Keep the time of the item in front. */
    async flush(stop) {
      if (!this.front) return true;
      if (stop) this.clock.stop();
      this.record.seconds = this.clock.seconds;
      return this.write([this.answerEntry()], stop ? "strict" : "relaxed");
    }

    seen(visible) {
      if (!this.front || one("#paused").open) return;
      if (visible) this.clock.resume();
      else this.flush(true);
    }

    pause(idle) {
      if (!this.front || one("#paused").open) return;
      this.flush(true);
      one("#paused p").textContent = idle
        ? "Nobody was here for " + this.pack.idle_minutes + " minutes; they are not counted."
        : "The time stands still and the images are covered.";
      document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
      this.cover("Paused");
      one("#paused").showModal();
    }

    resume() {
      if (!this.front) return;
      this.cover(null);
      if (!document.hidden) this.clock.resume();
      one("#canvas").focus({ preventScroll: true });
    }

    /** To an item that was reached before, or the next one. */
    async go(place) {
      if (!this.front || place < 0 || (place < this.state.at && !this.pack.go_back)) return;
      if (place > this.state.at && this.demand()) return;
      if (!(await this.flush(true))) return;
      this.state = { ...this.state, at: place, reached: Math.max(place, this.state.reached) };
      this.reading.sessions.set(this.session.number, this.state);
      if (await this.write([this.sessionEntry()])) await this.show();
    }

    next() {
      if (!this.front) return;
      if (this.state.at < this.session.items.length - 1) return this.go(this.state.at + 1);
      if (!this.demand()) return this.finish();
    }

    /** True, and told, if a question of this item is open. */
    demand() {
      const open = this.form.demand();
      one("#missing").textContent = open ? (open === 1 ? "One question is" : open + " questions are") + " open" : "";
      return open > 0;
    }

    async finish() {
      const { session } = this;
      const open = session.items.findIndex((item) => !this.reading.complete(session, item));
      if (open >= 0) return this.go(open);
      const text = "All " + session.items.length + " items are answered. A finished session can no longer be opened or changed.";
      if (!(await app.ask("Finish this session?", text, "Not yet", "Finish"))) return;
      await this.flush(true);
      this.state = { ...this.state, finished: new Date().toISOString() };
      if (!(await this.write([this.sessionEntry()]))) return;
      this.reading.sessions.set(session.number, this.state);
      this.front = false;
      this.session = null;
      this.viewer.clear();
      this.ended();
    }

    refresh() {
      const { session, state, pack } = this;
      const total = session.items.length;
      one("#where").textContent = session.title + " \u00b7 item " + (state.at + 1) + " of " + total;
      const done = this.reading.completed(session);
      one("#progress i").style.width = (100 * done) / total + "%";
      one("#progress").setAttribute("aria-valuenow", String(done));
      one("#progress").setAttribute("aria-valuemax", String(total));
      one("#back").hidden = !pack.go_back;
      one("#back").disabled = state.at === 0;
      const last = state.at === total - 1;
      one("#next").textContent = last ? "Finish session" : pack.go_back ? "Next \u2192" : "Next \u2192 (no way back)";
      one("#next").classList.toggle("ready", this.reading.complete(session, this.item));
    }

    /** Keys of the reading: key, sign, words, action. */
    readingKeys() {
      const digits = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
      return [
        ...digits.map((digit) => [digit, digit, "", () => this.form.digit(Number(digit))]),
        ["Enter", "Enter", "next open question; when all are answered, next item", () => this.enter()],
        ["ArrowRight", "\u2192", "next question", () => this.form.step(1)],
        ["ArrowLeft", "\u2190", "question before", () => this.form.step(-1)],
        ["n", "N", "next item", () => this.next()],
        ...(this.pack.go_back ? [["Backspace", "Backspace", "item before", () => this.go(this.state.at - 1)]] : []),
        ["p", "P", "pause", () => this.pause(false)],
        ["?", "?", "these keys", () => this.help()],
        ["h", "H", "these keys", () => this.help()],
      ];
    }

    keys() {
      return [...this.readingKeys(), ...app.viewerKeys(this.viewer, this.viewer.volumes && this.viewer.volumes.ct)];
    }

    enter() {
      if (this.form.demand()) return;
      this.next();
    }

    key(event) {
      if (!this.front || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      const { target } = event;
      if (target.matches("textarea")) {
        if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
          event.preventDefault();
          one("#canvas").focus({ preventScroll: true });
        }
        return;
      }
      const pressed = event.key === "Enter" && target.matches("button") && !target.closest("#questions");
      if (pressed || target.matches("select, input")) return;
      const found = this.meant(event);
      if (!found) return;
      event.preventDefault();
      found[3]();
    }

    /** The entry of a key: with and without capitals, and the row of digits of keyboards that have signs there. */
    meant(event) {
      const plain = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const names = [(event.shiftKey ? "Shift+" : "") + plain, plain, event.code.replace(/^Digit([1-9])$/, "$1")];
      const keys = this.keys();
      return names.map((name) => keys.find(([key]) => key === name)).find(Boolean);
    }

    help() {
      const { element } = app;
      const row = (sign, words) => element("tr", {}, element("td", {}, element("kbd", {}, sign)), element("td", {}, words));
      const table = (title, rows) => element("table", {}, element("caption", {}, title), element("tbody", {}, ...rows));
      const rows = (keys) => keys.filter((key) => key[2] && key[0] !== "h").map(([, sign, words]) => row(sign, words));
      const ct = this.viewer.volumes && this.viewer.volumes.ct;
      const mouse = [
        ["Wheel", "slices"],
        ["Click, drag", "crosshair"],
        ["Right-drag", "window: up and down, left and right"],
        ["Ctrl wheel", "zoom"],
        ["Double click", "one plane, and back"],
      ];
      const keys = one("#help .keys");
      const answers = [row("1 \u2026 9", "answer of the marked question"), ...rows(this.readingKeys())];
      const viewer = rows(app.viewerKeys(this.viewer, ct));
      const hand = mouse.map(([sign, words]) => row(sign, words));
      keys.replaceChildren(table("Answers", answers), table("Mouse", hand), table("Images", viewer));
      one("#help").showModal();
    }
  }

  app.Room = Room;
})((window.ct2vqRead = window.ct2vqRead || {}));
