// Volumes: scripts of base64 text, added when they are wanted (a page opened from disk may not fetch), unpacked and turned
// so that x goes from the patient's right to left, y from front to back, z from head to feet: as slices stand on a screen.
"use strict";
(function (app) {
  const texts = new Map();
  const volumes = new Map();
  const READERS = { 2: ["getUint8", 1, Uint8Array], 4: ["getInt16", 2, Int16Array] };

  window.ct2vqVolume = (key, base64) => texts.set(key, base64);

  function addScript(source) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => resolve(script.remove());
      script.onerror = () => reject(new Error(source + " is missing or damaged: copy the whole folder again"));
      document.head.append(script);
    });
  }

  async function unzipped(base64) {
    const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new DataView(await new Response(stream).arrayBuffer());
  }

  /** Which axis of the file runs along each of the patient's axes and whether it runs towards left, back, feet. */
  function orientation(view) {
    const rows = [280, 296, 312].map((offset) => [0, 1, 2].map((axis) => view.getFloat32(offset + 4 * axis, true)));
    return rows.map((row) => {
      const sizes = row.map(Math.abs);
      const axis = sizes.indexOf(Math.max(...sizes));
      // NIfTI's axes point to the patient's right, front and head: all against ours
      return { axis, flipped: row[axis] > 0, mm: sizes[axis] };
    });
  }

  /** A NIfTI-1 volume (little-endian, uint8 or int16): size, mm of a voxel, values, the slope and the intercept. */
  app.parseNifti = function (view) {
    if (view.getInt32(0, true) !== 348) throw new Error("not a NIfTI-1 volume");
    const [read, width, Values] = READERS[view.getInt16(70, true)] || [];
    if (!read) throw new Error("a volume of an unknown type");
    const file = [42, 44, 46].map((offset) => view.getInt16(offset, true));
    const start = view.getFloat32(108, true);
    const axes = orientation(view);
    const size = axes.map(({ axis }) => file[axis]);
    const strides = [1, file[0], file[0] * file[1]];
    const from = axes.map(({ axis, flipped }) => (flipped ? (file[axis] - 1) * strides[axis] : 0));
    const step = axes.map(({ axis, flipped }) => (flipped ? -strides[axis] : strides[axis]));
    const data = new Values(size[0] * size[1] * size[2]);
    let place = 0;
    for (let z = 0; z < size[2]; z++)
      for (let y = 0; y < size[1]; y++)
        for (let x = 0; x < size[0]; x++) {
          const voxel = from[0] + from[1] + from[2] + x * step[0] + y * step[1] + z * step[2];
          data[place++] = view[read](start + width * voxel, true);
        }
    const slope = view.getFloat32(112, true) || 1;
    return { size, mm: axes.map((axis) => axis.mm), data, slope, intercept: view.getFloat32(116, true) };
  };

  async function loaded(path) {
    const key = path.replace(/^.*\//, "").replace(/\.js$/, "");
    await addScript(path);
    if (!texts.has(key)) throw new Error(path + " does not hold its volume: copy the whole folder again");
    const text = texts.get(key);
    texts.delete(key);
    return app.parseNifti(await unzipped(text));
  }

  /** The volume of a script, loaded once while it is wanted. */
  app.volume = function (path) {
    if (!volumes.has(path)) {
      const promise = loaded(path);
      // a failed load may be tried again
      promise.catch(() => volumes.delete(path));
      volumes.set(path, promise);
    }
    return volumes.get(path);
  };

  /** Forget the volumes that are not among `paths`: a pack's volumes together may be larger than the memory. */
  app.keepVolumes = function (paths) {
    for (const path of volumes.keys()) if (!paths.includes(path)) volumes.delete(path);
  };
})((window.ct2vqRead = window.ct2vqRead || {}));
