// The page: which case, which masks, and where. Names are foreign text and only ever become textContent.
(function () {
  "use strict";
  const index = JSON.parse(document.getElementById("index").textContent);
  const byId = function (name) { return document.getElementById(name); };
  const SIDE = 640, WHITE = [255, 255, 255];
  const PALETTE = ["#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2"].map(function (hex) {
    return [1, 3, 5].map(function (at) { return parseInt(hex.slice(at, at + 2), 16); });
  });
  const kept = new Map(); // the scenes that the page holds, by key
  const chosen = { layers: new Map(), structures: new Map(), angles: { azimuth: 30, elevation: 20, zoom: 1 } };
  const views = [];
  let scene = null, at = [0, 0, 0], request = 0, waiting = 0, opened = 0;

  function make(tag, text) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    return node;
  }
  function keyOf(task, name) { return encodeURIComponent(task) + "/" + encodeURIComponent(name); }
  function say(text) { byId("state").textContent = text; }
  function quoted(name) { return "'" + name.replace(/'/g, "'\\''") + "'"; }

  async function unpack(text) {
    const packed = atob(text), bytes = new Uint8Array(packed.length);
    for (let place = 0; place < bytes.length; place++) bytes[place] = packed.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function prepare(stored) {
    const one = Object.assign({}, stored, { strides: [1, stored.shape[0], stored.shape[0] * stored.shape[1]] });
    const voxels = one.strides[2] * one.shape[2], share = Math.ceil(voxels / 8);
    one.image = await unpack(stored.image);
    one.layers = await Promise.all(stored.layers.map(async function (layer) {
      const bytes = layer.data === null ? null : await unpack(layer.data);
      const bits = bytes && stored.structures.map(function (_, place) { return bytes.subarray(place * share, (place + 1) * share); });
      return Object.assign({}, layer, { bits: bits });
    }));
    one.small = View3D.reduce(one.shape, function (voxel) { return one.image[voxel]; });
    return one;
  }

  function colourOf(layer, structure) {
    if (byId("colours").value === "structure") return PALETTE[structure % PALETTE.length];
    return layer.truth ? WHITE : PALETTE[(scene.layers.indexOf(layer) - 1) % PALETTE.length];
  }
  function shownLayers() {
    return scene.layers.filter(function (layer) { return layer.bits && chosen.layers.get(layer.name); }).map(function (layer) {
      const parts = [];
      scene.structures.forEach(function (name, place) {
        if (chosen.structures.get(name) !== false) parts.push({ bits: layer.bits[place], colour: colourOf(layer, place), place: place });
      });
      return { layer: layer, parts: parts, outlined: layer.truth || byId("style").value === "outline" };
    });
  }
  function surfaces(layers) { // of each structure apart only where they have colours of their own
    const apart = byId("colours").value === "structure", found = [];
    layers.forEach(function (shown) {
      (apart ? shown.parts.map(function (part) { return [part]; }) : [shown.parts]).forEach(function (parts) {
        if (!parts.length) return;
        const key = parts.map(function (part) { return part.place; }).join(), cache = shown.layer.reduced || (shown.layer.reduced = new Map());
        if (!cache.has(key)) {
          cache.set(key, View3D.reduce(scene.shape, function (voxel) {
            return parts.some(function (part) { return Plane.has(part.bits, voxel); }) ? 1 : 0;
          }));
        }
        found.push({ mask: cache.get(key), colour: parts[0].colour, opacity: shown.layer.truth ? 0.45 : 0.75 });
      });
    });
    return found.slice(0, 30);
  }

  function draw(quick) {
    const dark = Number(byId("dark").value) * 2.55, bright = Math.max(dark + 1, Number(byId("bright").value) * 2.55);
    scene.window = function (value) { return Math.max(0, Math.min(255, (value - dark) * 255 / (bright - dark))); };
    scene.showVolume = byId("volume").checked;
    const layers = shownLayers(), look = { opacity: Number(byId("opacity").value) / 100, cross: byId("cross").checked };
    views.forEach(function (view) {
      if (view.kind) Plane.draw(view.canvas, scene, view.kind, at, layers, look);
      else View3D.draw(view.canvas, scene, scene.small, surfaces(layers), chosen.angles, quick === true);
    });
    const file = scene.file.map(function (axis) { // the voxel's place in the file, whose axes may run otherwise
      const value = Math.min(axis.size - 1, Math.floor((at[axis.shown] + 0.5) * axis.step));
      return axis.flipped ? axis.size - 1 - value : value;
    });
    byId("where").textContent = "Voxel " + file.join(", ") + " of the file (" + scene.file.map(function (axis) { return axis.size; }).join(" × ") + ")";
  }
  function refresh() { // at most once a frame; a fine picture once nothing moves
    if (!scene) return;
    cancelAnimationFrame(request);
    clearTimeout(waiting);
    request = requestAnimationFrame(function () { draw(true); });
    waiting = setTimeout(draw, 150);
  }
  function move(place) {
    at = place.map(function (value, axis) { return Math.max(0, Math.min(scene.shape[axis] - 1, value)); });
    views.forEach(function (view) { if (view.kind) view.sliders[0].value = at[view.kind.w]; });
    refresh();
  }

  function addView(title, kind, sliders) {
    const figure = make("figure"), caption = make("figcaption", title), canvas = make("canvas");
    canvas.width = canvas.height = SIDE;
    canvas.id = title.replace(" ", "");
    figure.append(caption, canvas);
    const view = { canvas: canvas, kind: kind, sliders: sliders.map(function (about) {
      const slider = make("input");
      Object.assign(slider, { type: "range", min: about.min, max: about.max, value: about.value });
      slider.setAttribute("aria-label", about.label);
      slider.addEventListener("input", function () { about.set(Number(slider.value)); });
      figure.appendChild(slider);
      return slider;
    }) };
    views.push(view);
    byId("planes").appendChild(figure);
    return view;
  }
  Plane.KINDS.forEach(function (kind) {
    const go = function (value) { const place = at.slice(); place[kind.w] = value; move(place); };
    const canvas = addView(kind.name, kind, [{ min: 0, max: 1, value: 0, label: kind.name + " slice", set: go }]).canvas;
    const point = function (event) {
      if (!event.buttons || !scene) return;
      const found = Plane.under(canvas, scene, kind, event), place = at.slice();
      place[kind.u] = found[0];
      place[kind.v] = found[1];
      move(place);
    };
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("wheel", function (event) { event.preventDefault(); if (scene) go(at[kind.w] + Math.sign(event.deltaY)); }, { passive: false });
  });
  (function () {
    const set = function (name) { return function (value) { chosen.angles[name] = value; refresh(); }; };
    const view = addView("3D", null, [
      { min: -180, max: 180, value: chosen.angles.azimuth, label: "turn", set: set("azimuth") },
      { min: -90, max: 90, value: chosen.angles.elevation, label: "tilt", set: set("elevation") },
    ]);
    view.canvas.addEventListener("wheel", function (event) {
      event.preventDefault();
      chosen.angles.zoom = Math.max(0.8, Math.min(8, chosen.angles.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15)));
      refresh();
    }, { passive: false });
    view.canvas.addEventListener("pointermove", function (event) {
      if (!event.buttons) return;
      const turned = chosen.angles.azimuth - event.movementX * 0.6 + 540;
      chosen.angles.azimuth = turned % 360 - 180;
      chosen.angles.elevation = Math.max(-90, Math.min(90, chosen.angles.elevation + event.movementY * 0.6));
      view.sliders[0].value = chosen.angles.azimuth;
      view.sliders[1].value = chosen.angles.elevation;
      refresh();
    });
  })();

  function tick(text, on, changed) {
    const label = make("label"), box = make("input");
    box.type = "checkbox";
    box.checked = on;
    box.addEventListener("change", function () { changed(box.checked); refresh(); });
    label.append(box, " ");
    if (text !== undefined) label.append(text);
    return label;
  }
  function listLayers() {
    byId("layers").replaceChildren.apply(byId("layers"), scene.layers.map(function (layer, place) {
      if (!chosen.layers.has(layer.name)) chosen.layers.set(layer.name, place < 2);
      const box = make("div"), swatch = make("span");
      const label = tick(undefined, chosen.layers.get(layer.name) && layer.bits !== null, function (on) { chosen.layers.set(layer.name, on); });
      label.firstChild.disabled = layer.bits === null;
      box.className = "layer";
      swatch.className = "swatch";
      swatch.style.background = "rgb(" + (layer.truth ? WHITE : PALETTE[(place - 1) % PALETTE.length]).join(",") + ")";
      label.append(swatch, layer.name);
      box.appendChild(label);
      layer.lines.forEach(function (text) { box.appendChild(make("p", text)); });
      layer.warnings.forEach(function (text) { box.appendChild(make("p", text)).className = "warn"; });
      return box;
    }));
    const fields = scene.structures.map(function (name, place) {
      const label = tick(undefined, chosen.structures.get(name) !== false, function (on) { chosen.structures.set(name, on); });
      const swatch = make("span");
      swatch.className = "swatch";
      swatch.style.background = "rgb(" + PALETTE[place % PALETTE.length].join(",") + ")";
      if (byId("colours").value === "structure") label.append(swatch);
      label.append(name);
      return label;
    });
    byId("structures").replaceChildren.apply(byId("structures"), [make("legend", "Structures")].concat(fields));
    byId("structures").hidden = scene.structures.length < 2;
  }

  async function stored(task, name) {
    const key = keyOf(task, name);
    if (kept.has(key)) return kept.get(key);
    if (!index.served) {
      throw new Error("Case " + name + " of " + task + " is not in this file, which holds best, median and worst ones. To see it: "
        + "medvision view STUDY --task " + quoted(task) + " --case " + quoted(name) + " (STUDY is the study's folder)");
    }
    const answer = await fetch("case?task=" + encodeURIComponent(task) + "&case=" + encodeURIComponent(name));
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }
  function fit() { // the four views share what the window has below the header and the notes
    if (scene) document.documentElement.style.setProperty("--above", byId("main").offsetTop + "px");
  }
  async function open(task, name) {
    const key = keyOf(task, name), select = byId("case"), mine = ++opened;
    select.value = key;
    delete document.documentElement.dataset.shown;
    say("reading ...");
    byId("notes").replaceChildren();
    byId("main").hidden = true;
    scene = null;
    let text = "", notes = [];
    try {
      const one = await prepare(await stored(task, name));
      if (mine !== opened) return; // another was asked for meanwhile
      scene = one;
      notes = one.notes;
      views.forEach(function (view) { if (view.kind) view.sliders[0].max = one.shape[view.kind.w] - 1; });
      listLayers();
      byId("main").hidden = false;
      move(one.start);
      text = one.task + ", " + one.case + (one.rank ? ": " + one.rank : "");
    } catch (error) {
      if (mine !== opened) return;
      notes = [error.message];
    }
    say(text);
    byId("notes").replaceChildren.apply(byId("notes"), notes.map(function (note) { return make("li", note); }));
    if (scene) draw();
    fit();
    document.documentElement.dataset.shown = scene ? key : "nothing";
  }
  function follow() {
    const wanted = location.hash.slice(1) || index.first;
    if (!wanted) return say("There is no case to show.");
    try {
      const parts = wanted.split("/").map(decodeURIComponent);
      return open(parts[0], parts.slice(1).join("/"));
    } catch (error) {
      return say("This address names no case.");
    }
  }
  function step(by) {
    const select = byId("case"), place = select.selectedIndex + by;
    if (place >= 0 && place < select.options.length) location.hash = select.options[place].value;
  }

  document.querySelectorAll("script.scene").forEach(function (node) {
    const one = JSON.parse(node.textContent);
    kept.set(keyOf(one.task, one.case), one);
  });
  index.tasks.forEach(function (task) {
    const group = make("optgroup");
    group.label = task.name;
    task.cases.forEach(function (about) {
      const option = make("option", about[0] + (about[1] ? " (" + about[1] + ")" : ""));
      option.value = keyOf(task.name, about[0]);
      group.appendChild(option);
    });
    byId("case").appendChild(group);
  });
  byId("case").addEventListener("change", function () { location.hash = byId("case").value; });
  byId("before").addEventListener("click", function () { step(-1); });
  byId("after").addEventListener("click", function () { step(1); });
  ["style", "opacity", "dark", "bright", "cross", "volume"].forEach(function (name) { byId(name).addEventListener("input", refresh); });
  byId("colours").addEventListener("input", function () { listLayers(); refresh(); });
  addEventListener("hashchange", follow);
  addEventListener("resize", fit);
  follow();
})();
