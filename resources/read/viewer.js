// The viewer: V and Q with one crosshair, CT beside and below them where the session shows it. Slices are drawn on one 2D
// canvas: no WebGL, which remote desktops and old computers often lack.
"use strict";
(function (app) {
  const LIMITS = { low: 0, high: 1.5, gap: 0.02, zoom: 8, width: [50, 4000], level: [-1200, 1500] };
  const NAMES = { ventilation: ["V", "Ventilation"], perfusion: ["Q", "Perfusion"], ct: ["CT", ""] };
  const PIXELS_OF_A_WINDOW = 300;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const signed = (value) => String(Math.round(value)).replace("-", "\u2212");

  class Viewer {
    /** `pack`: colour maps and CT windows; `changed`: called with the settings that last beyond an item. */
    constructor(canvas, pack, settings, changed) {
      this.canvas = canvas;
      this.context = canvas.getContext("2d", { alpha: false });
      this.maps = pack.colour_maps;
      this.ctWindows = pack.ct_windows;
      this.changed = changed;
      this.state = { layout: "planes", map: pack.colour_map, beside: true, fused: false, opacity: 0.6, crosshair: true };
      Object.assign(this.state, settings, { plane: "coronal", at: [0, 0, 0], zoom: 1 });
      if (!this.maps[this.state.map]) this.state.map = pack.colour_map;
      this.grey = app.colours([[0, 0, 0], [255, 255, 255]]);
      this.reset();
      this.listen();
    }

    /** Windows as at the start of every item: no item is judged through another one's window. */
    resetWindows() {
      this.state.window = [0, 1];
      this.state.ct = { ...this.ctWindows[0] };
      this.draw();
    }

    reset() {
      this.state.zoom = 1;
      this.resetWindows();
    }

    /** Show volumes `{perfusion, ventilation, ct or null}`; all lie on one grid. */
    show(volumes) {
      const grids = Object.values(volumes).filter(Boolean).map((volume) => volume.size + " " + volume.mm);
      if (new Set(grids).size !== 1) throw new Error("the volumes of this item do not lie on one grid");
      this.volumes = volumes;
      this.colours = null;
      this.state.range = app.contentRange([volumes.perfusion, volumes.ventilation]);
      // the middle of a lung, not the heart between them
      this.state.at = this.state.range.map(([first, last], axis) => Math.round(first + (last - first) * (axis ? 0.5 : 0.28)));
      this.resetWindows();
    }

    clear() {
      this.volumes = null;
      this.draw();
    }

    images() {
      const { ct } = this.volumes;
      return ["ventilation", "perfusion"].concat(ct && this.state.beside ? ["ct"] : []);
    }

    layers(image) {
      const { ct, level, width } = { ct: this.volumes.ct, ...this.state.ct };
      const anatomy = { volume: ct, colours: this.grey, window: [level - width / 2, level + width / 2] };
      if (image === "ct") return [anatomy];
      const uptake = { volume: this.volumes[image], colours: this.colours, window: this.state.window };
      return ct && this.state.fused ? [anatomy, { ...uptake, opacity: this.state.opacity }] : [uptake];
    }

    /** Draw at the next frame, once, however often it is asked for. */
    draw() {
      if (this.waiting) return;
      this.waiting = true;
      requestAnimationFrame(() => {
        this.waiting = false;
        this.drawNow();
      });
    }

    drawNow() {
      const { canvas, context } = this;
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const room = { width: Math.round(canvas.clientWidth * ratio), height: Math.round(canvas.clientHeight * ratio) };
      if (!room.width || !room.height) return;
      if (canvas.width !== room.width || canvas.height !== room.height) Object.assign(canvas, room);
      context.fillStyle = "#000";
      context.fillRect(0, 0, room.width, room.height);
      this.cells = [];
      if (!this.volumes) return;
      this.colours = app.colours(this.maps[this.state.map]);
      const volume = this.volumes.perfusion;
      this.cells = app.LAYOUTS[this.state.layout](this.images(), this.state, room, volume);
      for (const cell of this.cells) {
        const { plane, width, height, pixelsOfMm } = cell;
        cell.frame = app.frame(volume, plane, width, height, pixelsOfMm, this.state.zoom, this.state.at);
        app.drawSlice(context, cell, this.layers(cell.image), cell.number);
        this.annotate(cell, ratio);
      }
      if (this.onDrawn) this.onDrawn();
    }

    annotate(cell, ratio) {
      const { context } = this;
      context.save();
      context.beginPath();
      context.rect(cell.x, cell.y, cell.width, cell.height);
      context.clip();
      if (this.state.crosshair) this.cross(cell, ratio);
      this.label(cell, ratio);
      context.restore();
    }

    cross(cell, ratio) {
      const [across, down, through] = app.PLANES[cell.plane].axes;
      if (cell.number !== this.state.at[through]) return;
      const x = cell.x + cell.frame.left + (this.state.at[across] + 0.5) * cell.frame.scale[0];
      const y = cell.y + cell.frame.top + (this.state.at[down] + 0.5) * cell.frame.scale[1];
      const hole = 7 * ratio;
      const lines = [[cell.x, y, x - hole, y], [x + hole, y, cell.x + cell.width, y]];
      lines.push([x, cell.y, x, y - hole], [x, y + hole, x, cell.y + cell.height]);
      this.context.strokeStyle = "rgba(120, 200, 230, 0.55)";
      this.context.lineWidth = ratio;
      this.context.beginPath();
      for (const [x1, y1, x2, y2] of lines) {
        this.context.moveTo(x1, y1);
        this.context.lineTo(x2, y2);
      }
      this.context.stroke();
    }

    label(cell, ratio) {
      const { context, state } = this;
      const small = state.layout === "montage" || cell.width < 190 * ratio;
      const { name, sides, axes } = app.PLANES[cell.plane];
      const [sign, word] = NAMES[cell.image];
      const edge = 6 * ratio;
      const write = (text, x, y, align, colour, size, weight = 400) => {
        context.font = weight + " " + size * ratio + "px system-ui, sans-serif";
        context.textAlign = align;
        context.textBaseline = "top";
        context.lineWidth = 3 * ratio;
        context.lineJoin = "round";
        context.strokeStyle = "rgba(0, 0, 0, 0.75)";
        context.strokeText(text, x, y);
        context.fillStyle = colour;
        context.fillText(text, x, y);
      };
      const current = cell.plane === state.plane && cell.number === state.at[axes[2]];
      const title = small ? sign : sign + (cell.image !== "ct" && this.volumes.ct && state.fused ? " + CT" : "");
      write(title, cell.x + edge, cell.y + edge, "left", "#f2d492", small ? 12 : 15, 600);
      const from = context.measureText(title).width + 2 * edge;
      const place = cell.number + 1 + "/" + this.volumes.perfusion.size[axes[2]];
      if (!small) write(word, cell.x + from, cell.y + edge + 2 * ratio, "left", "#a9b1bc", 12);
      const told = small ? place : name + " " + place;
      write(told, cell.x + cell.width - edge, cell.y + edge, "right", current ? "#8fd6ee" : "#a9b1bc", small ? 11 : 12);
      const middle = cell.y + cell.height / 2 - 6 * ratio;
      write(sides[0], cell.x + edge, middle, "left", "#8b939e", small ? 10 : 12);
      write(sides[1], cell.x + cell.width - edge, middle, "right", "#8b939e", small ? 10 : 12);
    }

    /** The cell below the mouse and the voxel there. */
    under(event) {
      const box = this.canvas.getBoundingClientRect();
      const ratio = this.canvas.width / box.width;
      const [x, y] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
      const inside = (cell) => x >= cell.x && x < cell.x + cell.width && y >= cell.y && y < cell.y + cell.height;
      const cell = (this.cells || []).find(inside);
      if (!cell) return null;
      const [across, down, through] = app.PLANES[cell.plane].axes;
      const at = this.state.at.slice();
      at[across] = Math.floor((x - cell.x - cell.frame.left) / cell.frame.scale[0]);
      at[down] = Math.floor((y - cell.y - cell.frame.top) / cell.frame.scale[1]);
      at[through] = cell.number;
      return { cell, at };
    }

    moveTo(at) {
      const size = this.volumes.perfusion.size;
      this.state.at = at.map((place, axis) => clamp(place, 0, size[axis] - 1));
      this.draw();
    }

    scroll(by) {
      if (!this.volumes) return;
      const at = this.state.at.slice();
      at[app.PLANES[this.state.plane].axes[2]] += by;
      this.moveTo(at);
    }

    zoom(factor) {
      this.set({ zoom: clamp(this.state.zoom * factor, 1, LIMITS.zoom) });
    }

    /** Change settings and draw; those that last are handed to whoever keeps them. */
    set(values) {
      Object.assign(this.state, values);
      const { layout, map, beside, fused, opacity, crosshair } = this.state;
      this.changed({ layout, map, beside, fused, opacity, crosshair });
      this.draw();
    }

    /** Window of the function by its lower and upper end (shares of the display's full scale). */
    setWindow(low, high) {
      const upper = clamp(high, LIMITS.gap, LIMITS.high);
      this.set({ window: [clamp(low, LIMITS.low, upper - LIMITS.gap), upper] });
    }

    moveWindow(low, high) {
      this.setWindow(this.state.window[0] + low, this.state.window[1] + high);
    }

    setCt(level, width) {
      this.set({ ct: { label: "", level: clamp(level, ...LIMITS.level), width: clamp(width, ...LIMITS.width) } });
    }

    next(what, by = 1) {
      const choices = { map: Object.keys(this.maps), layout: Object.keys(app.LAYOUTS), plane: Object.keys(app.PLANES) };
      const list = choices[what];
      this.set({ [what]: list[(list.indexOf(this.state[what]) + by + list.length) % list.length] });
    }

    nextCtWindow() {
      const place = this.ctWindows.findIndex((window) => window.label === this.state.ct.label);
      this.set({ ct: { ...this.ctWindows[(place + 1) % this.ctWindows.length] } });
    }

    /** The crosshair's place and the values there, in words. */
    told() {
      if (!this.volumes) return "";
      const { at } = this.state;
      const { size, perfusion, ventilation, ct } = { size: this.volumes.perfusion.size, ...this.volumes };
      const voxel = at[0] + size[0] * (at[1] + size[1] * at[2]);
      const value = (volume) => volume.data[voxel] * volume.slope + volume.intercept;
      const percent = (volume) => Math.round(100 * value(volume)) + " %";
      const hu = ct ? " \u00b7 CT " + signed(value(ct)) + " HU" : "";
      return "V " + percent(ventilation) + " \u00b7 Q " + percent(perfusion) + hu;
    }

    listen() {
      const { canvas } = this;
      new ResizeObserver(() => this.draw()).observe(canvas);
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("pointerdown", (event) => this.press(event));
      canvas.addEventListener("pointermove", (event) => this.drag(event));
      canvas.addEventListener("pointerup", () => (this.dragged = null));
      canvas.addEventListener("pointercancel", () => (this.dragged = null));
      canvas.addEventListener("dblclick", (event) => this.enlarge(event));
      canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    }

    press(event) {
      const hit = this.volumes && this.under(event);
      if (!hit) return;
      canvasFocus(this.canvas);
      try {
        this.canvas.setPointerCapture(event.pointerId);
      } catch {
        // a pointer that is already gone cannot be held
      }
      this.state.plane = hit.cell.plane;
      const windowing = event.button === 2 || event.shiftKey;
      this.dragged = { windowing, image: hit.cell.image, x: event.clientX, y: event.clientY };
      if (windowing) this.draw();
      else this.moveTo(hit.at);
    }

    drag(event) {
      if (!this.dragged || !this.volumes) return;
      if (!this.dragged.windowing) {
        const hit = this.under(event);
        if (hit && hit.cell.plane === this.state.plane) this.moveTo(hit.at);
        return;
      }
      const [right, up] = [event.clientX - this.dragged.x, this.dragged.y - event.clientY];
      Object.assign(this.dragged, { x: event.clientX, y: event.clientY });
      if (this.dragged.image === "ct") this.setCt(this.state.ct.level + 3 * up, this.state.ct.width + 4 * right);
      else this.moveWindow(right / PIXELS_OF_A_WINDOW, -up / PIXELS_OF_A_WINDOW);
    }

    enlarge(event) {
      const hit = this.volumes && this.under(event);
      if (hit) this.set({ plane: hit.cell.plane, layout: this.state.layout === "single" ? "planes" : "single" });
    }

    wheel(event) {
      event.preventDefault();
      const hit = this.volumes && this.under(event);
      if (!hit) return;
      if (event.ctrlKey) return this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
      this.state.plane = hit.cell.plane;
      // a touchpad sends many small steps
      this.rolled = (this.rolled || 0) + event.deltaY * (event.deltaMode === 1 ? 40 : 1);
      const steps = Math.trunc(this.rolled / 40) ? Math.sign(this.rolled) : 0;
      if (!steps) return;
      this.rolled = 0;
      this.scroll(steps);
    }
  }

  function canvasFocus(canvas) {
    canvas.focus({ preventScroll: true });
  }

  /** First and last slice along each axis in which any of the volumes is not zero. */
  app.contentRange = function (volumes) {
    const size = volumes[0].size;
    const ranges = size.map((count) => [count - 1, 0]);
    for (const { data } of volumes)
      for (let voxel = 0; voxel < data.length; voxel++) {
        if (!data[voxel]) continue;
        const at = [voxel % size[0], Math.floor(voxel / size[0]) % size[1], Math.floor(voxel / (size[0] * size[1]))];
        at.forEach((place, axis) => {
          if (place < ranges[axis][0]) ranges[axis][0] = place;
          if (place > ranges[axis][1]) ranges[axis][1] = place;
        });
      }
    return ranges.map(([first, last], axis) => (first <= last ? [first, last] : [0, size[axis] - 1]));
  };

  app.Viewer = Viewer;
})((window.ct2vqRead = window.ct2vqRead || {}));
