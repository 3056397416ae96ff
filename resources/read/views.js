// Pages without images: the sessions, the export, problems, and the dialogs.
"use strict";
(function (app) {
  const one = (selector, inside = document) => inside.querySelector(selector);

  /** A new element with properties and children. */
  app.element = function (tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const { element } = app;

  const day = (ms) => new Date(ms).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
  const count = (number, word) => number + " " + word + (number === 1 ? "" : "s");

  /** Show one view, hide the others. */
  app.view = function (name) {
    document.querySelectorAll(".view").forEach((section) => (section.hidden = section.id !== name));
    document.body.dataset.view = name;
    window.scrollTo(0, 0);
  };

  /** Tell of something that stops the reading. `action`: `[label, function]` or nothing. */
  app.problem = function (title, text, reason, action) {
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    one("#problem h1").textContent = title;
    one("#problem .lead").textContent = text;
    one("#problem .reason").textContent = reason ? "Reason: " + reason : "";
    const button = one("#problem-action");
    button.hidden = !action;
    if (action) [button.textContent, button.onclick] = action;
    app.view("problem");
  };

  /** A question with two answers; resolves to whether the second one was taken. */
  app.ask = function (title, text, no, yes) {
    const dialog = one("#ask");
    one("h2", dialog).textContent = title;
    one("p", dialog).textContent = text;
    one("[data-answer=no]", dialog).textContent = no;
    one("[data-answer=yes]", dialog).textContent = yes;
    return new Promise((resolve) => {
      dialog.returnValue = "";
      dialog.onclose = () => resolve(dialog.returnValue === "yes");
      dialog.querySelectorAll("[data-answer]").forEach((button) => (button.onclick = () => dialog.close(button.dataset.answer)));
      dialog.showModal();
      // what cannot be undone is not done by a second press of Enter
      one("[data-answer=no]", dialog).focus();
    });
  };

  const facts = ({ items, ct }) => count(items.length, "item") + " \u00b7 " + (ct === "shown" ? "with CT" : "CT hidden");

  function standingWords(standing, session, reading, now) {
    const days = Math.ceil((standing.until - now) / 86400000);
    const waits = session.after !== null && reading.pack.washout.days > 0;
    switch (standing.state) {
      case "done":
        return "Finished on " + day(Date.parse(reading.finished(session)));
      case "running":
        return reading.completed(session) + " of " + session.items.length + " answered";
      case "previous":
        return "After session " + standing.number + (waits ? " and " + count(reading.pack.washout.days, "day") : "");
      case "washout":
        return "Opens on " + day(standing.until) + " (" + count(days, "day") + " to wait: the same cases are shown again)";
      default:
        return "Ready";
    }
  }

  function sessionCard(session, reading, now, open) {
    const standing = reading.standing(session, now);
    const card = element("li", { className: "card session " + standing.state });
    const title = element("h2", {}, element("b", {}, String(session.number)), session.title);
    const words = standingWords(standing, session, reading, now);
    const share = reading.completed(session) / session.items.length;
    const bar = element("div", { className: "bar" }, element("i", {}));
    bar.firstChild.style.width = 100 * share + "%";
    const small = element("p", { className: "small" }, facts(session));
    card.append(element("div", {}, title, small, element("p", { className: "standing" }, words), bar));
    const early = standing.state === "washout" && reading.pack.washout.mode === "warn";
    const labels = { ready: "Begin", running: "Continue", washout: "Begin early\u2026" };
    if (early || standing.state === "ready" || standing.state === "running") {
      const button = element("button", { type: "button", className: early ? "" : "main" }, labels[standing.state]);
      button.dataset.session = session.number;
      button.addEventListener("click", () => open(session, standing));
      card.append(button);
    }
    return card;
  }

  /** The page of sessions. `open(session, standing)` is called by their buttons. */
  app.showHome = function (reading, now, open) {
    const { pack } = reading;
    const home = one("#home");
    one(".eyebrow", home).textContent = "Reader study \u00b7 " + pack.study;
    one("h1", home).textContent = pack.title;
    one(".sub", home).textContent = "Reader " + pack.reader + " (" + pack.level + ")";
    one(".banner", home).textContent = app.warning(pack);
    const list = one("#sessions");
    list.textContent = "";
    pack.sessions.forEach((session) => list.append(sessionCard(session, reading, now, open)));
    const total = pack.sessions.reduce((sum, session) => sum + session.items.length, 0);
    const done = pack.sessions.reduce((sum, session) => sum + reading.completed(session), 0);
    one(".overall .small", home).textContent = done + " of " + count(total, "item") + " answered";
    one(".overall i", home).style.width = (100 * done) / total + "%";
    const intro = pack.intro.map((text) => element("p", {}, text));
    one("#intro", home).replaceChildren(element("h2", {}, "About this study"), ...intro);
    one("#restore").hidden = reading.sessions.size > 0;
    one("#to-export").disabled = !reading.sessions.size;
    app.view("home");
    const first = one("#sessions button.main");
    if (first) first.focus({ preventScroll: true });
  };

  /** What stands over every page. */
  app.warning = function (pack) {
    const simulated = pack.simulated ? " The patients are simulated." : "";
    return "RESEARCH ONLY. Some images are synthetic. Not for diagnosis or treatment." + simulated;
  };

  function download(text, name) {
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    element("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  }

  /** The page of the export. */
  app.showExport = function (reading) {
    const page = one("#export");
    const sessions = reading.pack.sessions;
    const open = sessions.filter((session) => !reading.finished(session)).length;
    one("h1", page).textContent = open ? "Your answers so far" : "All sessions are finished. Thank you.";
    one(".sub", page).textContent = open
      ? count(open, "session") + " not finished: export again at the end. A copy now does no harm."
      : "One file is left to send.";
    one("#save-file").textContent = "Save " + reading.fileName();
    one("#file-saved").textContent = "";
    const to = reading.pack.return_to;
    one("#return-to").textContent = to ? "Hand it over: " + to : "Hand the file to whoever gave you this folder.";
    const rows = sessions.map((session) => {
      const state = reading.finished(session) ? "finished" : reading.sessions.has(session.number) ? "begun" : "not begun";
      const answers = reading.completed(session) + " of " + session.items.length;
      const title = session.number + ". " + session.title;
      return element("tr", {}, ...[title, answers, state].map((text) => element("td", {}, text)));
    });
    one("tbody", page).replaceChildren(...rows);
    const fill = () => {
      const content = reading.exported(Date.now());
      one("#export-text").value = app.canonical(content) + "\n";
      one("#digest").textContent = "Digest (SHA-256): " + content.digest;
      return one("#export-text").value;
    };
    fill();
    one("#save-file").onclick = () => {
      download(fill(), reading.fileName());
      one("#file-saved").textContent = "saved to your downloads";
    };
    app.view("export");
    one("#save-file").focus({ preventScroll: true });
  };
})((window.ct2vqRead = window.ct2vqRead || {}));
