// The questions beside the images: what is asked in a part, the form, and answers by keyboard.
"use strict";
(function (app) {
  const NONE = "none";
  //: letters of an answer that get a line of their own
  const LONG = 22;

  /**
   * What a part asks: `{name, title, kind, options, optional?}`, kind `scale` (numbers), `one`, `several` or `text`.
   * "none" among several excludes the others. What the pack has no answers for is not asked.
   */
  app.questionsOf = (pack, part) => allQuestions(pack, part).filter(({ kind, options }) => kind === "text" || options.length);

  function allQuestions(pack, part) {
    if (part === "acceptability") {
      const scale = pack.acceptability.levels.map(({ value, label }) => ({ value, label }));
      const guess = (pack.guess || []).map(({ name, label }) => ({ value: name, label }));
      const ask = ({ name, question }) => ({ name, title: question, kind: "scale", options: scale });
      return [...pack.acceptability.items.map(ask), { name: "guess", title: "These images are", kind: "one", options: guess }];
    }
    const { choices, confidence, locations, patterns } = pack.diagnosis;
    const named = (list) => (list || []).map(({ name, label }) => ({ value: name, label }));
    const places = named(locations);
    if (places.length && !places.some((place) => place.value === NONE)) places.push({ value: NONE, label: "No defect" });
    return [
      { name: "diagnosis", title: "Diagnosis", kind: "one", options: named(choices) },
      { name: "confidence", title: "Confidence in it", kind: "scale", options: confidence },
      { name: "locations", title: "Where are defects? (several)", kind: "several", options: places },
      { name: "pattern", title: "V/Q pattern", kind: "one", options: named(patterns) },
      { name: "comment", title: "Comment (optional)", kind: "text", options: [], optional: true },
    ];
  }

  const answered = (question, values) => {
    const value = values[question.name];
    return question.kind === "several" ? Boolean(value && value.length) : value !== undefined && value !== null;
  };

  /** Questions that must be answered and are not. */
  app.missing = (questions, values) => questions.filter((question) => !question.optional && !answered(question, values));

  function toggled(question, values, value) {
    const before = values[question.name] || [];
    if (before.includes(value)) return before.filter((name) => name !== value);
    const chosen = value === NONE ? [NONE] : [...before.filter((name) => name !== NONE), value];
    return question.options.map((option) => option.value).filter((name) => chosen.includes(name));
  }

  class Form {
    /** `changed(name, value, again)` is told every answer; `again`: whether it changes or takes back one given before. */
    constructor(box, changed) {
      this.box = box;
      this.changed = changed;
      this.questions = [];
      this.values = {};
    }

    show(questions, values, frozen) {
      this.questions = questions;
      this.values = values;
      this.frozen = frozen;
      this.box.textContent = "";
      questions.forEach((question) => this.box.append(this.field(question)));
      this.refresh();
      this.activate(Math.max(0, questions.indexOf(app.missing(questions, values)[0])));
    }

    field(question) {
      const field = app.element("fieldset", { className: question.kind });
      field.dataset.question = question.name;
      const legend = app.element("legend", {}, question.title);
      legend.append(app.element("output", {}));
      field.append(legend);
      field.addEventListener("focusin", () => this.activate(this.questions.indexOf(question)));
      field.addEventListener("pointerdown", () => this.activate(this.questions.indexOf(question)));
      field.append(question.kind === "text" ? this.text(question) : this.choices(question));
      return field;
    }

    choices(question) {
      const several = question.kind === "several";
      const long = question.options.some(({ label }) => label.length > LONG);
      const group = app.element("div", { className: "options" + (long ? " long" : "") });
      group.setAttribute("role", several ? "group" : "radiogroup");
      group.setAttribute("aria-label", question.title);
      question.options.forEach(({ value, label }, place) => {
        const button = app.element("button", { type: "button", disabled: this.frozen, title: label });
        button.setAttribute("role", several ? "checkbox" : "radio");
        button.dataset.value = value;
        if (question.kind === "scale") {
          button.setAttribute("aria-label", value + ", " + label);
          button.append(app.element("b", {}, String(value)));
        } else button.append(app.element("kbd", {}, String(place + 1)), app.element("span", {}, label));
        button.addEventListener("click", () => this.choose(question, value));
        group.append(button);
      });
      return group;
    }

    text(question) {
      const area = app.element("textarea", { rows: 2, value: this.values[question.name] || "", disabled: this.frozen });
      area.setAttribute("aria-label", question.title);
      area.addEventListener("input", () => {
        this.values[question.name] = area.value;
        this.changed(question.name, area.value, false);
      });
      return area;
    }

    choose(question, value) {
      if (this.frozen) return;
      const before = this.values[question.name];
      const now = question.kind === "several" ? toggled(question, this.values, value) : value;
      const given = answered(question, this.values);
      // another place beside those that stay is no change of mind
      const changed = question.kind === "several" ? (before || []).some((name) => !now.includes(name)) : given;
      if (JSON.stringify(before) === JSON.stringify(now)) return this.advance(question);
      this.values[question.name] = now;
      this.refresh();
      this.changed(question.name, now, changed);
      if (question.kind !== "several" && !given) this.advance(question);
    }

    /** To the next question that is open, if there is one behind this. */
    advance(question) {
      const place = this.questions.indexOf(question);
      const open = app.missing(this.questions, this.values).map((other) => this.questions.indexOf(other));
      const next = open.find((other) => other > place);
      if (next !== undefined) this.activate(next);
    }

    refresh() {
      this.questions.forEach((question) => {
        const field = this.box.querySelector('[data-question="' + CSS.escape(question.name) + '"]');
        const value = this.values[question.name];
        const chosen = (option) => (Array.isArray(value) ? value.includes(option) : value === option);
        field.querySelectorAll("button").forEach((button, place) => {
          button.setAttribute("aria-checked", String(chosen(question.options[place].value)));
        });
        field.classList.toggle("answered", answered(question, this.values));
        const labels = question.options.filter((option) => chosen(option.value)).map((option) => option.label);
        field.querySelector("output").textContent = question.kind === "scale" ? labels.join("") : "";
      });
    }

    activate(place) {
      this.active = place;
      Array.from(this.box.children).forEach((field, i) => field.classList.toggle("active", i === place));
      const field = this.box.children[place];
      if (field) field.scrollIntoView({ block: "nearest" });
    }

    /** To the question before or behind, round the corner. */
    step(by) {
      const count = this.questions.length;
      this.activate((this.active + by + count) % count);
      const field = this.box.children[this.active];
      if (this.questions[this.active].kind === "text") field.querySelector("textarea").focus();
      else if (document.activeElement) document.activeElement.blur();
    }

    /** A digit answers the active question; false if it has no such answer. */
    digit(number) {
      const question = this.questions[this.active];
      if (!question || question.kind === "text") return false;
      const { kind, options } = question;
      const option = kind === "scale" ? options.find(({ value }) => value === number) : options[number - 1];
      if (!option) return false;
      this.choose(question, option.value);
      return true;
    }

    /** Point at what is open; returns how many questions are. */
    demand() {
      const open = app.missing(this.questions, this.values);
      if (open.length) this.activate(this.questions.indexOf(open[0]));
      return open.length;
    }
  }

  app.Form = Form;
})((window.ct2vqRead = window.ct2vqRead || {}));
