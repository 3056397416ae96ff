// One slice on a canvas: values are interpolated and then coloured (colours that are interpolated would show values that
// are not there), CT and function blended where the function is not zero.
"use strict";
(function (app) {
  /** Axes of a volume that run across, down and through each plane. */
  app.PLANES = {
    coronal: { name: "Coronal", axes: [0, 2, 1], sides: ["R", "L", "S", "I"] },
    axial: { name: "Axial", axes: [0, 1, 2], sides: ["R", "L", "A", "P"] },
    sagittal: { name: "Sagittal", axes: [1, 2, 0], sides: ["A", "P", "S", "I"] },
  };
  const STEPS = 256;
  //: function below this share of the window lets the CT shine through
  const CLEAR = 0.08;

  /** 256 colours of a map, red, green and blue after each other, between its given colours in straight lines. */
  app.colours = function (stops) {
    const colours = new Uint8ClampedArray(3 * STEPS);
    for (let i = 0; i < STEPS; i++) {
      const place = (i / (STEPS - 1)) * (stops.length - 1);
      const below = Math.min(Math.floor(place), stops.length - 2);
      for (let channel = 0; channel < 3; channel++) {
        const [value, above] = [stops[below][channel], stops[below + 1][channel]];
        colours[3 * i + channel] = value + (above - value) * (place - below);
      }
    }
    return colours;
  };

  function sliceOf(volume, plane, number) {
    const [across, down, through] = app.PLANES[plane].axes;
    const strides = [1, volume.size[0], volume.size[0] * volume.size[1]];
    const [width, height] = [volume.size[across], volume.size[down]];
    const values = new Float32Array(width * height);
    for (let v = 0; v < height; v++)
      for (let u = 0; u < width; u++) {
        const voxel = number * strides[through] + v * strides[down] + u * strides[across];
        values[v * width + u] = volume.data[voxel] * volume.slope + volume.intercept;
      }
    return { width, height, values };
  }

  /** For each of `pixels` pixels: the voxel before it and the share of the next one; -1 outside of the volume. */
  function samples(pixels, origin, scale, count) {
    const first = new Int32Array(pixels);
    const share = new Float32Array(pixels);
    for (let i = 0; i < pixels; i++) {
      const place = (i + 0.5 - origin) / scale - 0.5;
      if (place < -0.5 || place > count - 0.5) {
        first[i] = -1;
        continue;
      }
      const inside = Math.min(Math.max(place, 0), count - 1);
      first[i] = Math.min(Math.floor(inside), Math.max(count - 2, 0));
      share[i] = count > 1 ? inside - first[i] : 0;
    }
    return { first, share };
  }

  /** Interpolated values of a slice at every pixel of a cell; NaN outside of the volume. */
  function resampled(slice, width, height, frame) {
    const columns = samples(width, frame.left, frame.scale[0], slice.width);
    const rows = samples(height, frame.top, frame.scale[1], slice.height);
    const values = new Float32Array(width * height).fill(NaN);
    const line = new Float32Array(slice.width + 1);
    for (let y = 0; y < height; y++) {
      if (rows.first[y] < 0) continue;
      const upper = rows.first[y] * slice.width;
      const lower = slice.height > 1 ? upper + slice.width : upper;
      for (let u = 0; u < slice.width; u++) {
        const value = slice.values[upper + u];
        line[u] = value + (slice.values[lower + u] - value) * rows.share[y];
      }
      for (let x = 0; x < width; x++) {
        const u = columns.first[x];
        if (u >= 0) values[y * width + x] = line[u] + (line[u + 1] - line[u]) * columns.share[x];
      }
    }
    return values;
  }

  /** How much of what lies below each of the 256 colours hides. */
  function shares(opacity) {
    const ramp = (step) => (opacity === undefined ? 1 : opacity * Math.min(1, step / (CLEAR * STEPS)));
    return Float32Array.from({ length: STEPS }, (_, step) => ramp(step));
  }

  // the innermost loop of all drawing: plain numbers and typed arrays only
  function colour(pixels, values, layer) {
    const { colours } = layer;
    const hidden = shares(layer.opacity);
    const [low, high] = layer.window;
    const factor = (STEPS - 1) / Math.max(high - low, 1e-6);
    for (let i = 0, at = 0; i < values.length; i++, at += 4) {
      const value = values[i];
      if (value !== value) continue;
      let step = ((value - low) * factor + 0.5) | 0;
      if (step < 0) step = 0;
      else if (step >= STEPS) step = STEPS - 1;
      const share = hidden[step];
      if (share === 0) continue;
      const from = 3 * step;
      pixels[at] += (colours[from] - pixels[at]) * share;
      pixels[at + 1] += (colours[from + 1] - pixels[at + 1]) * share;
      pixels[at + 2] += (colours[from + 2] - pixels[at + 2]) * share;
    }
  }

  /**
   * Where a volume's slice stands in a cell: pixels of a voxel across and down, and of the slice's left upper corner. With a
   * zoom above one the crosshair stays in the middle as far as the slice reaches.
   */
  app.frame = function (volume, plane, width, height, pixelsOfMm, zoom, centre) {
    const axes = app.PLANES[plane].axes;
    const scale = [0, 1].map((i) => volume.mm[axes[i]] * pixelsOfMm * zoom);
    const corner = [width, height].map((room, i) => {
      const extent = scale[i] * volume.size[axes[i]];
      if (extent <= room) return (room - extent) / 2;
      return Math.min(0, Math.max(room - extent, room / 2 - (centre[axes[i]] + 0.5) * scale[i]));
    });
    return { left: corner[0], top: corner[1], scale };
  };

  /** Draw layers `{volume, window: [low, high], colours, opacity?}` of one slice, the first one below. */
  app.drawSlice = function (context, cell, layers, number) {
    const image = context.createImageData(cell.width, cell.height);
    const pixels = image.data;
    for (let i = 3; i < pixels.length; i += 4) pixels[i] = 255;
    for (const layer of layers) {
      const slice = sliceOf(layer.volume, cell.plane, number);
      colour(pixels, resampled(slice, cell.width, cell.height, cell.frame), layer);
    }
    context.putImageData(image, cell.x, cell.y);
  };
})((window.ct2vqRead = window.ct2vqRead || {}));
