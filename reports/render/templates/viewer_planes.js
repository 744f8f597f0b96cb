// One plane through a case: the image in grey, predictions filled, the truth as an outline.
const Plane = (function () {
  "use strict";
  // Axes of the picture to the right and up, the one through it, and its name.
  const KINDS = [
    { name: "axial", u: 0, v: 1, w: 2 },
    { name: "coronal", u: 0, v: 2, w: 1 },
    { name: "sagittal", u: 1, v: 2, w: 0 },
  ];

  function has(bits, voxel) { return bits[voxel >> 3] >> (voxel & 7) & 1; }

  // How the plane lies on the canvas: pixels of a voxel, and the corner of the lowest one.
  function placing(canvas, scene, kind) {
    const wide = scene.shape[kind.u] * scene.spacing[kind.u], tall = scene.shape[kind.v] * scene.spacing[kind.v];
    const perMm = Math.min(canvas.width / wide, canvas.height / tall);
    const du = scene.spacing[kind.u] * perMm, dv = scene.spacing[kind.v] * perMm;
    return {
      du: du, dv: dv,
      left: (canvas.width - scene.shape[kind.u] * du) / 2,
      low: (canvas.height + scene.shape[kind.v] * dv) / 2,
    };
  }

  function draw(canvas, scene, kind, at, layers, look) {
    const nu = scene.shape[kind.u], nv = scene.shape[kind.v], strides = scene.strides;
    const su = strides[kind.u], sv = strides[kind.v], base = at[kind.w] * strides[kind.w];
    const picture = new ImageData(nu, nv);
    const filled = layers.filter(function (layer) { return !layer.outlined; });
    for (let v = 0; v < nv; v++) {
      for (let u = 0; u < nu; u++) {
        const voxel = base + u * su + v * sv, grey = scene.window(scene.image[voxel]);
        let r = grey, g = grey, b = grey;
        for (const layer of filled) {
          for (const part of layer.parts) {
            if (has(part.bits, voxel)) {
              r += look.opacity * (part.colour[0] - r); g += look.opacity * (part.colour[1] - g); b += look.opacity * (part.colour[2] - b);
            }
          }
        }
        picture.data.set([r, g, b, 255], 4 * ((nv - 1 - v) * nu + u));
      }
    }
    const small = document.createElement("canvas");
    small.width = nu;
    small.height = nv;
    small.getContext("2d").putImageData(picture, 0, 0);
    const pen = canvas.getContext("2d"), place = placing(canvas, scene, kind);
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, place.left, place.low - nv * place.dv, nu * place.du, nv * place.dv);
    for (const layer of layers) {
      if (layer.outlined) for (const part of layer.parts) outline(pen, place, part, base, [nu, nv, su, sv]);
    }
    if (look.cross) cross(pen, canvas, place, at[kind.u], at[kind.v]);
    letters(pen, canvas, scene.letters[kind.u], scene.letters[kind.v]);
  }

  // The edges between voxels of a mask and others; black below, so that it is seen on any image.
  function outline(pen, place, part, base, grid) {
    const nu = grid[0], nv = grid[1];
    const inside = function (u, v) {
      return u >= 0 && v >= 0 && u < nu && v < nv && has(part.bits, base + u * grid[2] + v * grid[3]);
    };
    pen.beginPath();
    for (let v = 0; v < nv; v++) {
      for (let u = 0; u < nu; u++) {
        if (!inside(u, v)) continue;
        const x = place.left + u * place.du, y = place.low - v * place.dv, X = x + place.du, Y = y - place.dv;
        if (!inside(u - 1, v)) { pen.moveTo(x, y); pen.lineTo(x, Y); }
        if (!inside(u + 1, v)) { pen.moveTo(X, y); pen.lineTo(X, Y); }
        if (!inside(u, v - 1)) { pen.moveTo(x, y); pen.lineTo(X, y); }
        if (!inside(u, v + 1)) { pen.moveTo(x, Y); pen.lineTo(X, Y); }
      }
    }
    pen.lineCap = "square";
    pen.lineWidth = 5;
    pen.strokeStyle = "#000";
    pen.stroke();
    pen.lineWidth = 2.5;
    pen.strokeStyle = "rgb(" + part.colour.join(",") + ")";
    pen.stroke();
  }

  function cross(pen, canvas, place, u, v) {
    const x = place.left + (u + 0.5) * place.du, y = place.low - (v + 0.5) * place.dv;
    pen.strokeStyle = "rgba(125, 183, 245, 0.55)";
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, 0);
    pen.lineTo(x, canvas.height);
    pen.moveTo(0, y);
    pen.lineTo(canvas.width, y);
    pen.stroke();
  }

  function letters(pen, canvas, across, upward) {
    const size = Math.round(canvas.width / 30);
    pen.font = size + "px sans-serif";
    pen.fillStyle = "#7db7f5";
    pen.strokeStyle = "#000";
    pen.lineWidth = 4;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const write = function (text, x, y) { pen.strokeText(text, x, y); pen.fillText(text, x, y); };
    write(across[0], size, canvas.height / 2);
    write(across[1], canvas.width - size, canvas.height / 2);
    write(upward[0], canvas.width / 2, canvas.height - size);
    write(upward[1], canvas.width / 2, size);
  }

  // The voxel along u and v below a point of the canvas.
  function under(canvas, scene, kind, event) {
    const box = canvas.getBoundingClientRect(), place = placing(canvas, scene, kind);
    const x = (event.clientX - box.left) * canvas.width / box.width, y = (event.clientY - box.top) * canvas.height / box.height;
    const clamp = function (value, n) { return Math.max(0, Math.min(n - 1, Math.floor(value))); };
    return [clamp((x - place.left) / place.du, scene.shape[kind.u]), clamp((place.low - y) / place.dv, scene.shape[kind.v])];
  }

  return { KINDS: KINDS, draw: draw, under: under, has: has };
})();
