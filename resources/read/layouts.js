// Where slices stand on the viewer's canvas: cells `{x, y, width, height, image, plane, number, pixelsOfMm}`.
"use strict";
(function (app) {
  const GAP = 2;
  //: slices in a montage, at least: what a page of a workstation shows
  const MONTAGE = 10;

  const extents = (volume, plane) => app.PLANES[plane].axes.slice(0, 2).map((axis) => volume.size[axis] * volume.mm[axis]);

  /** Images in rows, the three planes in columns, all in one scale. */
  function planes(images, state, room, volume) {
    const names = Object.keys(app.PLANES);
    const sizes = names.map((name) => extents(volume, name));
    const total = sizes.reduce((sum, [width]) => sum + width, 0);
    const height = Math.floor((room.height - GAP * (images.length - 1)) / images.length);
    const free = room.width - GAP * (names.length - 1);
    const pixelsOfMm = Math.min(free / total, height / Math.max(...sizes.map((size) => size[1])));
    const cells = [];
    images.forEach((image, row) => {
      let x = 0;
      names.forEach((plane, column) => {
        const width = Math.floor((free * sizes[column][0]) / total);
        const number = state.at[app.PLANES[plane].axes[2]];
        cells.push({ x, y: row * (height + GAP), width, height, image, plane, number, pixelsOfMm });
        x += width + GAP;
      });
    });
    return cells;
  }

  /** One plane, large, the images side by side. */
  function single(images, state, room, volume) {
    const [wide, high] = extents(volume, state.plane);
    const width = Math.floor((room.width - GAP * (images.length - 1)) / images.length);
    const pixelsOfMm = Math.min(width / wide, room.height / high);
    const number = state.at[app.PLANES[state.plane].axes[2]];
    return images.map((image, column) => {
      const x = column * (width + GAP);
      return { x, y: 0, width, height: room.height, image, plane: state.plane, number, pixelsOfMm };
    });
  }

  /** Numbers of slices, evenly spread over those that hold something, the crosshair's one among them. */
  function spread(first, last, count, current) {
    const step = Math.max(1, Math.ceil((last - first + 1) / count));
    const offset = (((current - first) % step) + step) % step;
    const numbers = [];
    for (let number = first + offset; number <= last && numbers.length < count; number += step) numbers.push(number);
    return numbers;
  }

  /** Slices of one plane in lines, in each line the images one below the other. */
  function montage(images, state, room, volume) {
    const [wide, high] = extents(volume, state.plane);
    const through = app.PLANES[state.plane].axes[2];
    const [first, last] = state.range[through];
    const wanted = Math.min(MONTAGE, last - first + 1);
    let best = { pixelsOfMm: 0 };
    for (let lines = 1; lines <= 4; lines++) {
      const columns = Math.ceil(wanted / lines);
      const width = Math.floor((room.width - GAP * (columns - 1)) / columns);
      const height = Math.floor(room.height / (lines * images.length)) - GAP;
      const pixelsOfMm = Math.min(width / wide, height / high);
      if (pixelsOfMm > best.pixelsOfMm) best = { pixelsOfMm, lines, columns, width, height };
    }
    const { columns, width, height, lines, pixelsOfMm } = best;
    return spread(first, last, columns * lines, state.at[through]).flatMap((number, i) =>
      images.map((image, row) => ({
        x: (i % columns) * (width + GAP),
        y: (Math.floor(i / columns) * images.length + row) * (height + GAP),
        width,
        height,
        image,
        plane: state.plane,
        number,
        pixelsOfMm,
      }))
    );
  }

  app.LAYOUTS = { planes, single, montage };
})((window.ct2vqRead = window.ct2vqRead || {}));
