// What is known of a reading: records of items and sessions, the state of a session, the time, the export.
"use strict";
(function (app) {
  const DAY_MS = 86400000;
  const iso = (ms) => new Date(ms).toISOString();
  const rounded = (seconds) => Math.round(seconds * 1000) / 1000;

  /** An item that was never opened. */
  app.newRecord = (session, item) => ({
    session: session.number,
    item: item.item,
    part: session.part,
    values: {},
    seconds: 0,
    visits: 0,
    changes: 0,
    first_opened: null,
    last_changed: null,
  });

  app.answerKey = (session, item) => session.number + "/" + item.item;

  /** The pack with the records of its reader: all that the pages show is told from here. */
  class Reading {
    constructor(pack, kept) {
      this.pack = pack;
      this.sessions = kept.sessions;
      this.answers = kept.answers;
    }

    record(session, item) {
      return this.answers.get(app.answerKey(session, item)) || app.newRecord(session, item);
    }

    complete(session, item) {
      return !app.missing(app.questionsOf(this.pack, session.part), this.record(session, item).values).length;
    }

    completed(session) {
      return session.items.filter((item) => this.complete(session, item)).length;
    }

    finished(session) {
      const state = this.sessions.get(session.number);
      return state && state.finished ? state.finished : null;
    }

    /** `done`, `running`, `ready`, `previous` (the session `number` comes first) or `washout` (with `until`, in ms). */
    standing(session, now) {
      if (this.finished(session)) return { state: "done" };
      if (this.sessions.has(session.number)) return { state: "running" };
      const before = this.pack.sessions.filter((other) => other.number < session.number);
      const open = before.findLast((other) => !this.finished(other));
      if (open) return { state: "previous", number: open.number };
      const after = this.pack.sessions.find((other) => other.number === session.after);
      const until = after ? Date.parse(this.finished(after)) + this.pack.washout.days * DAY_MS : 0;
      return until > now ? { state: "washout", until } : { state: "ready" };
    }

    /** The export file's content, digest included (contract: docs/reading.md). */
    exported(now) {
      const { study, reader, pack } = this.pack;
      const sessions = this.pack.sessions.filter((session) => this.sessions.has(session.number));
      const document = { format: 1, study, reader, pack, simulated_readers: false, exported: iso(now) };
      document.browser = navigator.userAgent;
      document.sessions = sessions.map((session) => {
        const { number, started, finished, washout_overridden } = this.sessions.get(session.number);
        return { number, started, finished, washout_overridden };
      });
      document.answers = sessions.flatMap((session) =>
        session.items
          .filter((item) => this.answers.has(app.answerKey(session, item)))
          .map((item) => {
            const record = this.record(session, item);
            const optional = app.questionsOf(this.pack, session.part).filter((question) => question.optional);
            const values = { ...Object.fromEntries(optional.map(({ name }) => [name, ""])), ...record.values };
            return { ...record, values, seconds: rounded(record.seconds), complete: this.complete(session, item) };
          })
      );
      return { ...document, digest: app.digest(document) };
    }

    fileName() {
      return "ct2vq-" + this.pack.reader + "-" + this.pack.pack.slice(0, 8) + ".json";
    }

    /** Entries for the store out of an export of this pack; throws with the reason why it cannot be used. */
    restored(document) {
      if (!document || document.format !== 1) throw new Error("this is not an export of a reader study");
      if (document.pack !== this.pack.pack || document.reader !== this.pack.reader)
        throw new Error("this file belongs to another pack or another reader");
      if (app.digest(document) !== document.digest) throw new Error("this file was changed after it was exported");
      const sessions = document.sessions.map((state) => {
        const session = this.pack.sessions.find((other) => other.number === state.number);
        const answers = document.answers.filter((answer) => answer.session === state.number && answer.complete);
        const reached = Math.min(answers.length, session.items.length - 1);
        return ["sessions", state.number, { ...state, at: reached, reached }];
      });
      const answers = document.answers.map(({ complete, ...record }) => ["answers", record.session + "/" + record.item, record]);
      return [...sessions, ...answers];
    }
  }

  /** Seconds while an item is in front, the page visible and the reader there. */
  class Clock {
    /** `idleMs`: without a key or the mouse for so long, `idle()` is called and that time is taken off; 0 is never. */
    constructor(idleMs, idle) {
      Object.assign(this, { idleMs, idle, running: false, seconds: 0, quiet: 0, last: 0 });
      for (const event of ["keydown", "pointermove", "pointerdown", "wheel"])
        document.addEventListener(event, () => this.seen(), { capture: true, passive: true });
    }

    seen() {
      if (!this.running) return;
      this.tick();
      this.quiet = 0;
    }

    start(seconds) {
      Object.assign(this, { running: true, seconds, quiet: 0, last: performance.now() });
    }

    resume() {
      this.start(this.seconds);
    }

    stop() {
      this.tick();
      this.running = false;
    }

    tick() {
      if (!this.running) return;
      const now = performance.now();
      const passed = (now - this.last) / 1000;
      this.last = now;
      this.seconds += passed;
      this.quiet += passed;
      if (!this.idleMs || this.quiet * 1000 < this.idleMs) return;
      this.seconds -= this.quiet;
      this.running = false;
      this.idle();
    }
  }

  Object.assign(app, { Reading, Clock });
})((window.ct2vqRead = window.ct2vqRead || {}));
