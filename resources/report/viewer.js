// CT + SPECT beside CT + synthesised, crosshair and slices linked. NiiVue and the volumes are classic scripts that are
// added when they are wanted: a page opened from disk may neither fetch nor load modules or workers.
"use strict";
(function () {
  const study = window.ct2vqStudy;
  const box = document.getElementById("viewer");
  if (!box || !study.viewer) return;
  const settings = study.viewer;
  const control = (name) => document.getElementById("viewer-" + name);
  const status = control("status");
  const volumes = new Map();
  const panes = [];
  let item = null;
  let drawn = null;
  let turn = Promise.resolve();

  window.ct2vqVolume = (key, base64) => volumes.set(key, base64);

  function addScript(source) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => {
        script.remove();
        resolve();
      };
      script.onerror = () => reject(new Error(source + " is not there: copy the whole folder of the report"));
      document.head.append(script);
    });
  }

  async function volume(name) {
    const key = item.id + "/" + name;
    if (!volumes.has(key)) await addScript(item.folder + "/" + name + ".js");
    return volumes.get(key);
  }

  function addColours(pane) {
    for (const [name, colours] of Object.entries(settings.maps)) {
      const parts = { R: [], G: [], B: [], A: [], I: [] };
      colours.forEach(([red, green, blue], place) => {
        parts.R.push(red);
        parts.G.push(green);
        parts.B.push(blue);
        // nothing is nothing: outside the lungs the CT shows through
        parts.A.push(place === 0 ? 0 : 255);
        parts.I.push(Math.round((place * 255) / (colours.length - 1)));
      });
      pane.addColormap("ct2vq_" + name, parts);
    }
  }

  async function start() {
    if (panes.length) return;
    if (!window.niivue) await addScript(settings.script);
    for (const side of ["spect", "made"]) {
      const pane = new niivue.Niivue({
        backColor: [0, 0, 0, 1],
        crosshairColor: [1, 1, 1, 0.7],
        crosshairWidth: 0.8,
        crosshairWidthUnit: "mm",
        multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
        multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
        multiplanarEqualSize: false,
        show3Dcrosshair: false,
        isColorbar: false,
        isRadiologicalConvention: true,
        isOrientCube: false,
        isRuler: false,
        dragAndDropEnabled: false,
        loadingText: "",
        logLevel: "error",
        sagittalNoseLeft: true,
      });
      await pane.attachToCanvas(control(side));
      pane.setSliceType(pane.sliceTypeMultiplanar);
      addColours(pane);
      panes.push(pane);
    }
    panes[0].broadcastTo([panes[1]], { "2d": true, "3d": false });
    panes[1].broadcastTo([panes[0]], { "2d": true, "3d": false });
    panes.forEach((pane) => (pane.onLocationChange = tell));
  }

  function tell() {
    if (panes.some((pane) => pane.volumes.length < 2)) return;
    const place = panes[0].frac2mm(panes[0].scene.crosshairPos);
    const at = (loaded) => loaded.getValue(...loaded.mm2vox(place));
    const values = panes.map((pane) => at(pane.volumes[1]).toFixed(2));
    const hu = at(panes[0].volumes[0]);
    // NIfTI's axes point to the patient's right, front and head
    const [x, y, z] = [place[0], place[1], place[2]].map((value) => Math.round(value));
    const where =
      Math.abs(x) + (x < 0 ? " L" : " R") + ", " + Math.abs(y) + (y < 0 ? " P" : " A") + ", " + z + " mm";
    control("place").textContent =
      where.replace("-", "\u2212") +
      "; CT " + String(Math.round(hu)).replace("-", "\u2212") + " HU; SPECT " + values[0] + "; synthesised " + values[1];
  }

  function offer() {
    const target = control("target");
    const wanted = target.value;
    target.textContent = "";
    for (const name of item.targets) target.add(new Option(settings.targets[name], name));
    if (item.targets.includes(wanted)) target.value = wanted;
    const model = control("model");
    const kept = model.value;
    model.textContent = "";
    for (const [name, facts] of Object.entries(settings.models))
      if (facts.targets.includes(target.value)) model.add(new Option(facts.label, name));
    if (Array.from(model.options).some((option) => option.value === kept)) model.value = kept;
  }

  async function image(name, options) {
    return niivue.NVImage.loadFromBase64({ base64: await volume(name), name: name + ".nii.gz", ...options });
  }

  async function draw() {
    const target = control("target").value;
    const names = ["spect_" + target, control("model").value + "_" + target];
    const key = [item.id, ...names].join(" ");
    if (drawn === key) return;
    status.textContent = "loading " + item.id + " \u2026";
    const [level, width] = settings.window;
    const sameCase = drawn !== null && drawn.startsWith(item.id + " ");
    for (const [place, pane] of panes.entries()) {
      const ct = { colormap: "gray", cal_min: level - width / 2, cal_max: level + width / 2 };
      const over = { colormap: "ct2vq_" + control("map").value, cal_min: 0, cal_max: 1, opacity: opacity() };
      const images = [
        ...(sameCase ? [] : [await image("ct", ct)]),
        await image(names[place], over),
      ];
      while (pane.volumes.length > (sameCase ? 1 : 0)) pane.removeVolumeByIndex(pane.volumes.length - 1);
      images.forEach((loaded) => pane.addVolume(loaded));
      if (!sameCase) pane.scene.crosshairPos = [0.35, 0.5, 0.5];
      pane.drawScene();
    }
    drawn = key;
    control("spect-label").textContent = "CT + SPECT, " + settings.targets[target];
    control("made-label").textContent =
      "CT + " + settings.models[control("model").value].label + ", " + settings.targets[target] + ", SYNTHETIC";
    status.textContent = item.id + " is shown";
    box.dataset.shown = key;
    for (const name of volumes.keys()) if (!name.startsWith(item.id + "/")) volumes.delete(name);
    tell();
  }

  function refresh() {
    if (!box.open || !item) return;
    // one after the other: two cases at once would mix their volumes
    turn = turn
      .then(start)
      .then(draw)
      .catch((error) => {
        status.textContent = "The viewer cannot show this: " + error.message;
      });
  }

  function opacity() {
    return Number(control("opacity").value) / 100;
  }

  function colourBar() {
    const colours = settings.maps[control("map").value].map((rgb) => "rgb(" + rgb.join(",") + ")");
    control("bar").style.background = "linear-gradient(to right, " + colours.join(",") + ")";
  }

  for (const name of Object.keys(settings.maps)) control("map").add(new Option(name, name));
  control("map").value = settings.map;
  colourBar();
  control("map").addEventListener("input", () => {
    colourBar();
    panes.forEach((pane) => {
      if (pane.volumes.length > 1) pane.setColormap(pane.volumes[1].id, "ct2vq_" + control("map").value);
    });
  });
  control("opacity").addEventListener("input", () =>
    panes.forEach((pane) => pane.volumes.length > 1 && pane.setOpacity(1, opacity()))
  );
  control("target").addEventListener("input", () => {
    offer();
    refresh();
  });
  control("model").addEventListener("input", refresh);
  const steps = {
    ArrowLeft: [-1, 0, 0],
    ArrowRight: [1, 0, 0],
    ArrowUp: [0, 1, 0],
    ArrowDown: [0, -1, 0],
    PageUp: [0, 0, 1],
    PageDown: [0, 0, -1],
  };
  for (const side of ["spect", "made"])
    control(side).addEventListener(
      "keydown",
      (event) => {
        const by = steps[event.key];
        if (!by || !panes.length || !panes[0].volumes.length) return;
        // radiological: what is right on the screen is the patient's left
        panes[side === "spect" ? 0 : 1].moveCrosshairInVox(-by[0], by[1], by[2]);
        event.preventDefault();
        event.stopImmediatePropagation();
      },
      true
    );
  box.addEventListener("toggle", refresh);
  window.ct2vqOnCase((chosen) => {
    item = chosen;
    offer();
    refresh();
  });
})();
