// The table of cases: all rows are sorted and searched as numbers, 100 of them are shown.
document.addEventListener("DOMContentLoaded", function () {
  "use strict";
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const byId = function (name) { return document.getElementById("case-" + name); };
  const SHOWN = 100, FIRST = 3; // rows of a page; place of the first score in a row
  const state = { metric: 0, pair: 0, column: 0, down: false, page: 0 };
  const byName = new Intl.Collator("en", { numeric: true });
  const held = new Set(data.held.map(function (one) { return JSON.stringify(one); }));
  data.rows.sort(function (a, b) { return byName.compare(a[2], b[2]); }); // within a task, too: the order is kept

  function make(tag, text, className) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  }
  function options(select, texts) {
    texts.forEach(function (text, index) {
      const one = make("option", text);
      one.value = index;
      select.appendChild(one);
    });
  }
  function score(row, model) { return row[FIRST + state.metric * data.models.length + model]; }
  function difference(row) {
    const pair = data.pairs[state.pair];
    const base = score(row, pair[0]), other = score(row, pair[1]);
    return base === null || other === null ? null : other - base;
  }

  function columns() {
    const found = [];
    if (data.tasks.length > 1) found.push({ title: "Task", value: function (r) { return data.tasks[r[0]]; } });
    found.push({ title: "Case", value: function (r) { return r[2]; } });
    if (data.shares.length > 1) {
      found.push({ title: "Data", value: function (r) { return r[1]; }, text: function (r) { return data.shares[r[1]]; } });
    }
    data.models.forEach(function (name, model) {
      found.push({ title: name, number: true, value: function (r) { return score(r, model); } });
    });
    if (data.pairs.length) found.push({ title: "Difference", number: true, sign: true, value: difference });
    if (data.viewer) found.push({ title: "Pictures", link: true, value: function () { return ""; } });
    return found;
  }

  function compare(a, b) { // empty last, whatever the direction
    if (a === null || b === null) return a === b ? 0 : a === null ? 2 : -2;
    if (typeof a === "number") return a - b < 0 ? -1 : a > b ? 1 : 0;
    return byName.compare(a, b);
  }
  function chosenRows(all) {
    const wanted = byId("find").value.toLowerCase();
    const rows = data.rows.filter(function (row) {
      return !wanted || (data.tasks[row[0]] + " " + row[2]).toLowerCase().includes(wanted);
    });
    const by = all[state.column];
    if (!by) return rows;
    return rows.map(function (row, place) { return [by.value(row), place, row]; }).sort(function (a, b) {
      const order = compare(a[0], b[0]);
      if (Math.abs(order) === 2) return order;
      return (state.down ? -order : order) || a[1] - b[1];
    }).map(function (one) { return one[2]; });
  }
  function cell(column, row) {
    if (column.link && !held.has(JSON.stringify([row[0], row[2]]))) {
      const node = make("td"), fold = make("details"), quoted = function (name) { return "'" + name.replace(/'/g, "'\\''") + "'"; };
      fold.append(make("summary", "command"), make("code", "medvision view " + data.study
        + " --task " + quoted(data.tasks[row[0]]) + " --case " + quoted(row[2])));
      node.appendChild(fold);
      return node;
    }
    if (column.link) {
      const node = make("td"), link = make("a", "3D view");
      link.href = data.viewer + "#" + encodeURIComponent(data.tasks[row[0]]) + "/" + encodeURIComponent(row[2]);
      node.appendChild(link);
      return node;
    }
    const value = column.value(row);
    if (!column.number) return make("td", column.text ? column.text(row) : value);
    const digits = data.metrics[state.metric].digits;
    const printed = value === null ? "" : value.toFixed(digits), zero = Number(printed) === 0; // a zero has no sign
    const text = value === null ? "" : zero ? (0).toFixed(digits) : (column.sign && value > 0 ? "+" : "") + printed;
    return make("td", text, "r");
  }
  function draw() {
    const all = columns(), rows = chosenRows(all), pages = Math.max(1, Math.ceil(rows.length / SHOWN));
    state.page = Math.min(state.page, pages - 1);
    const head = make("tr");
    all.forEach(function (column, index) {
      const node = make("th", column.title, column.number ? "r" : "");
      node.scope = "col";
      if (!column.link) {
        node.tabIndex = 0;
        if (state.column === index) node.setAttribute("aria-sort", state.down ? "descending" : "ascending");
        const sort = function (event) {
          event.preventDefault();
          event.stopPropagation();
          state.down = state.column === index && !state.down;
          state.column = index;
          state.page = 0;
          draw();
          byId("table").tHead.rows[0].cells[index].focus();
        };
        node.addEventListener("click", sort);
        node.addEventListener("keydown", function (event) { if (event.key === "Enter" || event.key === " ") sort(event); });
      }
      head.appendChild(node);
    });
    const top = make("thead"), body = make("tbody"), first = state.page * SHOWN;
    top.appendChild(head);
    rows.slice(first, first + SHOWN).forEach(function (row) {
      const line = make("tr");
      all.forEach(function (column) { line.appendChild(cell(column, row)); });
      body.appendChild(line);
    });
    byId("table").replaceChildren(top, body);
    const last = Math.min(first + SHOWN, rows.length);
    byId("count").textContent = rows.length ? (first + 1) + " to " + last + " of " + rows.length : "no such case";
    byId("back").disabled = state.page === 0;
    byId("next").disabled = state.page >= pages - 1;
    byId("back").hidden = byId("next").hidden = pages === 1;
  }

  options(byId("metric"), data.metrics.map(function (metric) { return metric.title; }));
  options(byId("pair"), data.pairs.map(function (pair) { return data.models[pair[1]] + " − " + data.models[pair[0]]; }));
  byId("pair-label").hidden = data.pairs.length < 1;
  byId("metric").addEventListener("change", function () { state.metric = Number(this.value); draw(); });
  byId("pair").addEventListener("change", function () { state.pair = Number(this.value); draw(); });
  byId("find").addEventListener("input", function () { state.page = 0; draw(); });
  byId("back").addEventListener("click", function () { state.page -= 1; draw(); });
  byId("next").addEventListener("click", function () { state.page += 1; draw(); });
  draw();
});
