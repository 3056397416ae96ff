// The viewer's controls and its keys.
"use strict";
(function (app) {
  const one = (selector) => document.querySelector(selector);
  const LAYOUTS = { planes: ["3 planes", "T"], single: ["1 plane", "O"], montage: ["Montage", "M"] };
  const LETTERS = { coronal: "C", axial: "A", sagittal: "S" };
  const STEP = 0.05;

  /** Keys of the viewer, letters where keyboards of other countries have other signs: key, what it does in words, and how. */
  app.viewerKeys = (viewer, ct) => [
    ["ArrowUp", "\u2191", "slice before", () => viewer.scroll(-1)],
    ["ArrowDown", "\u2193", "next slice", () => viewer.scroll(1)],
    ["PageUp", "Page \u2191", "five slices back", () => viewer.scroll(-5)],
    ["PageDown", "Page \u2193", "five slices on", () => viewer.scroll(5)],
    ...Object.entries(LETTERS).map(([plane, letter]) => [
      letter.toLowerCase(),
      letter,
      app.PLANES[plane].name.toLowerCase() + " plane",
      () => viewer.set({ plane }),
    ]),
    ...Object.entries(LAYOUTS).map(([layout, [name, letter]]) => [
      letter.toLowerCase(),
      letter,
      name.toLowerCase(),
      () => viewer.set({ layout }),
    ]),
    ["k", "K", "next colours", () => viewer.next("map")],
    ["l", "L", "V and Q lighter", () => viewer.moveWindow(0, -STEP)],
    ["d", "D", "V and Q darker", () => viewer.moveWindow(0, STEP)],
    ["Shift+l", "Shift L", "lower end down", () => viewer.moveWindow(-STEP, 0)],
    ["Shift+d", "Shift D", "lower end up", () => viewer.moveWindow(STEP, 0)],
    ["r", "R", "window and zoom as at first", () => viewer.reset()],
    ["z", "Z", "larger", () => viewer.zoom(1.25)],
    ["Shift+z", "Shift Z", "smaller", () => viewer.zoom(1 / 1.25)],
    ["x", "X", "crosshair on or off", () => viewer.set({ crosshair: !viewer.state.crosshair })],
    ...(ct ? ctKeys(viewer) : []),
  ];

  const ctKeys = (viewer) => [
    ["b", "B", "CT beside on or off", () => viewer.set({ beside: !viewer.state.beside })],
    ["f", "F", "CT below V and Q on or off", () => viewer.set({ fused: !viewer.state.fused })],
    ["e", "E", "V and Q on the CT more opaque", () => opacity(viewer, 0.1)],
    ["Shift+e", "Shift E", "less opaque", () => opacity(viewer, -0.1)],
    ["w", "W", "next CT window", () => viewer.nextCtWindow()],
  ];

  function opacity(viewer, by) {
    viewer.set({ fused: true, opacity: Math.min(1, Math.max(0, viewer.state.opacity + by)) });
  }

  function choices(box, names, choose) {
    for (const [value, [label, letter]] of names) {
      const button = app.element("button", { type: "button" }, label + " ", app.element("kbd", {}, letter));
      button.dataset.value = value;
      button.addEventListener("click", () => choose(value));
      box.append(button);
    }
  }

  /** Connect the controls with the viewer, once. */
  app.connectToolbar = function (viewer, pack) {
    choices(one("#layouts"), Object.entries(LAYOUTS), (layout) => viewer.set({ layout }));
    const planes = Object.entries(LETTERS).map(([plane, letter]) => [plane, [app.PLANES[plane].name, letter]]);
    choices(one("#planes"), planes, (plane) => viewer.set({ plane }));
    const map = one("#map");
    for (const name of Object.keys(pack.colour_maps)) map.add(new Option(name.replaceAll("_", " "), name));
    map.addEventListener("change", () => {
      viewer.set({ map: map.value });
      map.blur();
    });
    one("#reset").addEventListener("click", () => viewer.reset());
    one("#beside").addEventListener("click", () => viewer.set({ beside: !viewer.state.beside }));
    one("#fused").addEventListener("click", () => viewer.set({ fused: !viewer.state.fused }));
    one("#opacity").addEventListener("input", (event) => viewer.set({ fused: true, opacity: Number(event.target.value) / 100 }));
    one("#ct-window").addEventListener("click", () => viewer.nextCtWindow());
    viewer.onDrawn = () => refresh(viewer);
  };

  const pressed = (selector, value) => one(selector).setAttribute("aria-pressed", String(value));

  function refresh(viewer) {
    const { state } = viewer;
    for (const [box, value] of [["#layouts", state.layout], ["#planes", state.plane]])
      for (const button of document.querySelectorAll(box + " button"))
        button.setAttribute("aria-pressed", String(button.dataset.value === value));
    one("#map").value = state.map;
    const stops = viewer.maps[state.map].map((rgb) => "rgb(" + rgb.join(",") + ")");
    one("#scale").style.background = "linear-gradient(to right, " + stops.join(",") + ")";
    one("#window").textContent = state.window.map((share) => Math.round(100 * share)).join("\u2013") + " %";
    one(".group.ct").hidden = !viewer.volumes.ct;
    pressed("#beside", state.beside);
    pressed("#fused", state.fused);
    one("#opacity").value = Math.round(100 * state.opacity);
    const { label, level, width } = state.ct;
    const numbers = "W " + Math.round(width) + " L " + String(Math.round(level)).replace("-", "\u2212");
    one("#ct-window").replaceChildren((label || "CT") + " ", app.element("small", {}, numbers), " ", app.element("kbd", {}, "W"));
    one("#told").textContent = viewer.told();
  }
})((window.ct2vqRead = window.ct2vqRead || {}));
