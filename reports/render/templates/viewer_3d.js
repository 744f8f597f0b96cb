// The 3D view: parallel rays through a reduced grid; the first voxel of each mask is a lit surface,
// the image behind it is the maximum along the ray.
const View3D = (function () {
  "use strict";
  const EDGE = 96; // voxels of the reduced grid along its longest edge, at most
  const FINE = 300, COARSE = 150; // rays along an edge of the picture; fewer while it is turned

  // The largest value of every block of voxels, so that nothing thin is lost.
  function reduce(shape, value) {
    const step = Math.max(1, Math.ceil(Math.max.apply(null, shape) / EDGE));
    const small = shape.map(function (n) { return Math.ceil(n / step); });
    const out = new Uint8Array(small[0] * small[1] * small[2]);
    for (let z = 0, from = 0; z < shape[2]; z++) {
      const plane = small[1] * Math.floor(z / step);
      for (let y = 0; y < shape[1]; y++) {
        const row = small[0] * (Math.floor(y / step) + plane);
        for (let x = 0; x < shape[0]; x++, from++) {
          const v = value(from);
          if (v) {
            const to = row + Math.floor(x / step);
            if (v > out[to]) out[to] = v;
          }
        }
      }
    }
    return { shape: small, data: out, step: step };
  }

  // Directions of sight, right and up of the picture in the patient's space (x right, y anterior, z superior).
  function basis(azimuth, elevation) {
    const a = azimuth * Math.PI / 180, e = elevation * Math.PI / 180;
    return {
      sight: [-Math.sin(a) * Math.cos(e), Math.cos(a) * Math.cos(e), -Math.sin(e)],
      right: [Math.cos(a), Math.sin(a), 0],
      up: [-Math.sin(a) * Math.sin(e), Math.cos(a) * Math.sin(e), Math.cos(e)],
    };
  }

  // Along every ray: the distance to the first voxel of each mask, and the brightest voxel.
  function march(scene, bits, count, image, view, zoom, size) {
    const shape = image.shape, cell = scene.spacing.map(function (mm) { return mm * image.step; });
    const extent = shape.map(function (n, k) { return n * cell[k]; });
    const radius = Math.hypot(extent[0], extent[1], extent[2]) / 2;
    const pace = Math.min(cell[0], cell[1], cell[2]) * 0.7, every = (1 << count) - 1;
    const depths = [], bright = new Uint8Array(size * size);
    for (let layer = 0; layer < count; layer++) depths.push(new Float32Array(size * size).fill(Infinity));
    for (let j = 0; j < size; j++) {
      for (let i = 0; i < size; i++) {
        const s = ((i + 0.5) / size * 2 - 1) * radius / zoom, t = (1 - (j + 0.5) / size * 2) * radius / zoom;
        let near = 0, far = 2 * radius;
        const start = [0, 0, 0];
        for (let k = 0; k < 3; k++) { // where the ray is inside of the box
          start[k] = extent[k] / 2 + s * view.right[k] + t * view.up[k] - radius * view.sight[k];
          const d = view.sight[k];
          if (Math.abs(d) < 1e-9) {
            if (start[k] < 0 || start[k] >= extent[k]) far = -1;
          } else {
            const one = -start[k] / d, two = (extent[k] - start[k]) / d;
            near = Math.max(near, Math.min(one, two));
            far = Math.min(far, Math.max(one, two));
          }
        }
        let seen = 0, most = 0;
        for (let at = near + pace / 2; at < far; at += pace) {
          const x = Math.floor((start[0] + at * view.sight[0]) / cell[0]);
          const y = Math.floor((start[1] + at * view.sight[1]) / cell[1]);
          const z = Math.floor((start[2] + at * view.sight[2]) / cell[2]);
          if (x < 0 || y < 0 || z < 0 || x >= shape[0] || y >= shape[1] || z >= shape[2]) continue;
          const voxel = x + shape[0] * (y + shape[1] * z), fresh = bits[voxel] & ~seen;
          if (fresh) {
            for (let layer = 0; layer < count; layer++) {
              if (fresh >> layer & 1) depths[layer][j * size + i] = at;
            }
            seen |= fresh;
            if (seen === every && !scene.showVolume) break;
          }
          if (image.data[voxel] > most) most = image.data[voxel];
        }
        bright[j * size + i] = most;
      }
    }
    return { depths: depths, bright: bright, mm: 2 * radius / size / zoom, cell: Math.max(cell[0], cell[1], cell[2]) };
  }

  // A surface's brightness from the slope of its smoothed distances: 1 where it faces the viewer.
  function lit(depth, size, mm, cell) {
    const reach = Math.max(2, Math.min(5, Math.round(cell / mm))), near = Math.max(6 * mm, 2.5 * cell);
    const mean = new Float32Array(size * size), out = new Float32Array(size * size);
    for (let p = 0; p < size * size; p++) {
      if (depth[p] === Infinity) continue;
      const x = p % size, y = (p - x) / size;
      let sum = 0, n = 0;
      for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
        const X = x + dx, Y = y + dy;
        if (X < 0 || Y < 0 || X >= size || Y >= size) continue;
        const d = depth[Y * size + X];
        if (Math.abs(d - depth[p]) < near) { sum += d; n++; }
      }
      mean[p] = sum / n;
    }
    for (let p = 0; p < size * size; p++) {
      if (depth[p] === Infinity) continue;
      const x = p % size;
      const slope = function (a, b, inside) {
        return inside && depth[a] !== Infinity && depth[b] !== Infinity ? (mean[b] - mean[a]) / (2 * mm) : 1.5;
      };
      const gx = slope(p - 1, p + 1, x > 0 && x < size - 1);
      const gy = slope(p - size, p + size, p >= size && p < size * (size - 1));
      out[p] = 0.25 + 0.75 / Math.sqrt(1 + gx * gx + gy * gy);
    }
    return out;
  }

  // angles: azimuth, elevation (degrees) and zoom; layers: {mask: reduced, colour: [r, g, b], opacity}, at most 30.
  function draw(canvas, scene, image, layers, angles, quick) {
    const size = quick ? COARSE : FINE, view = basis(angles.azimuth, angles.elevation);
    const bits = new Int32Array(image.data.length);
    layers.forEach(function (layer, place) {
      const data = layer.mask.data;
      for (let v = 0; v < bits.length; v++) if (data[v]) bits[v] |= 1 << place;
    });
    const found = march(scene, bits, layers.length, image, view, angles.zoom, size);
    const light = found.depths.map(function (depth) { return lit(depth, size, found.mm, found.cell); });
    const picture = new ImageData(size, size), order = layers.map(function (_, place) { return place; });
    for (let p = 0; p < size * size; p++) {
      let left = 1, r = 0, g = 0, b = 0;
      order.sort(function (one, two) { return found.depths[one][p] - found.depths[two][p] || one - two; });
      for (const place of order) {
        if (found.depths[place][p] === Infinity) break;
        const layer = layers[place], share = left * layer.opacity, shade = light[place][p];
        r += share * shade * layer.colour[0]; g += share * shade * layer.colour[1]; b += share * shade * layer.colour[2];
        left -= share;
      }
      const grey = scene.showVolume ? left * 0.55 * scene.window(found.bright[p]) : 0;
      picture.data.set([r + grey, g + grey, b + grey, 255], 4 * p);
    }
    const small = document.createElement("canvas");
    small.width = small.height = size;
    small.getContext("2d").putImageData(picture, 0, 0);
    const pen = canvas.getContext("2d");
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    axes(pen, canvas, scene, view);
  }

  // Which way the patient lies, in the corner.
  function axes(pen, canvas, scene, view) {
    const length = canvas.width * 0.055, x0 = canvas.width * 0.1, y0 = canvas.height * 0.9;
    pen.font = Math.round(canvas.width / 34) + "px sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 2;
    scene.letters.forEach(function (pair, axis) {
      const x = view.right[axis] * length, y = -view.up[axis] * length;
      pen.strokeStyle = pen.fillStyle = ["#ff9a85", "#6fd19f", "#7db7f5"][axis];
      pen.beginPath();
      pen.moveTo(x0, y0);
      pen.lineTo(x0 + x, y0 + y);
      pen.stroke();
      pen.fillText(pair[1], x0 + 1.45 * x, y0 + 1.45 * y);
    });
  }

  return { reduce: reduce, draw: draw };
})();
