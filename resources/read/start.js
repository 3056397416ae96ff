// The page's start: is everything there, does this browser keep answers, and then the sessions.
"use strict";
(function (app) {
  const DEFAULTS = {
    idle_minutes: 5,
    return_to: "",
    // the usual chest windows: W 1500 L -600 for lungs, W 350 L 50 for soft tissue
    ct_windows: [
      { label: "Lung", level: -600, width: 1500 },
      { label: "Soft tissue", level: 50, width: 350 },
    ],
  };
  const one = (selector) => document.querySelector(selector);

  function lacking() {
    return ["DecompressionStream", "ResizeObserver", "HTMLDialogElement"].filter((name) => !window[name]);
  }

  function usable() {
    if (!app.pack) {
      const text = "pack.js is missing or damaged. Copy the whole folder, not this page alone, and open index.html in it.";
      app.problem("The study is not here", text);
      return false;
    }
    if (app.pack.format !== 1) {
      app.problem("This pack is of another version", "Ask for a new folder: this page reads packs of format 1.");
      return false;
    }
    if (lacking().length) {
      const text = "Open index.html in a current Chrome, Edge, Firefox (113 or newer) or Safari (16.4 or newer).";
      app.problem("This browser is too old", text, "it has no " + lacking().join(", "));
      return false;
    }
    return true;
  }

  async function begin(pack) {
    let store;
    try {
      store = await app.openStore(pack.pack);
    } catch (error) {
      const text =
        "Your answers would be lost, so nothing is shown. Open index.html in a normal window (not a private one) of Chrome, " +
        "Edge or Firefox, and allow it to keep data.";
      app.problem("This browser keeps no answers", text, error.message || error.name, ["Try again", () => location.reload()]);
      return;
    }
    const kept = await store.read();
    const reading = new app.Reading(pack, kept);
    const home = () => app.showHome(reading, Date.now(), (session, standing) => open(session, standing));
    const room = new app.Room(reading, store, kept.settings, { leave: home, ended: () => app.showExport(reading) });

    async function open(session, standing) {
      if (standing.state === "washout" && !(await early(standing))) return;
      if (standing.state !== "running" && !(await begun(session, standing.state === "washout"))) return;
      room.open(session);
    }

    function early(standing) {
      const days = Math.ceil((standing.until - Date.now()) / 86400000);
      const asked = "The same cases are shown again. The study asks for " + pack.washout.days + " days in between; ";
      return app.ask("Begin before the interval is over?", asked + days + " are left. It will be noted.", "Wait", "Begin early");
    }

    function begun(session, overridden) {
      const { number } = session;
      const started = new Date().toISOString();
      const state = { number, started, finished: null, washout_overridden: overridden, at: 0, reached: 0 };
      reading.sessions.set(session.number, state);
      return room.write([["sessions", session.number, state]]);
    }

    one("#to-export").addEventListener("click", () => app.showExport(reading));
    one("#export-back").addEventListener("click", home);
    one("#restore input").addEventListener("change", (event) => restore(event.target, reading, store));
    one("#kept .state").textContent = "\u2713 Tried just now: this browser keeps answers.";
    home();
  }

  async function restore(input, reading, store) {
    try {
      await store.write(reading.restored(JSON.parse(await input.files[0].text())));
      location.reload();
    } catch (error) {
      input.value = "";
      await app.ask("This file cannot be used", error.message + ". Nothing was changed.", "Close", "OK");
    }
  }

  if (!usable()) return;
  const pack = { ...DEFAULTS, ...app.pack };
  document.title = pack.title + " \u00b7 " + pack.reader;
  begin(pack).catch((error) => app.problem("The page cannot go on", "Reload it; your saved answers are kept.", error.message));
})((window.ct2vqRead = window.ct2vqRead || {}));
