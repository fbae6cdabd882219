"use strict";
// The prompt stands in the page once, as text; the other panels are copies of it with classes of their own. Moving the
// slider changes classes of one element; only the saliency's colours, which differ at every layer, touch tokens.
(() => {
  const find = (query, within = document) => within.querySelector(query);
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const data = JSON.parse(find("#data").textContent);
  const root = find("#explorer"), slider = find("#layer"), texts = all(".text");
  const stages = all("#scores thead th").slice(1).map((cell) => Number(cell.textContent));
  const source = [...texts[0].children];
  const cutClass = (last) => (last < data.depth - 1 ? `c${last + 1}` : "");

  const panels = texts.map((text, index) => {
    const run = data.runs[index] || data.runs[0];
    if (index > 0) {
      const copies = document.createDocumentFragment();
      source.forEach((token, column) => {
        const copy = token.cloneNode(true);
        copy.className = cutClass(run.last[column]);
        copies.append(copy);
      });
      text.append(copies);
    }
    return [...text.children];
  });
  const columnOf = new WeakMap();
  panels.forEach((tokens) => tokens.forEach((token, column) => columnOf.set(token, column)));
  const marked = data.saliency ? panels[panels.length - 1] : null;

  // column -> place among the scores of the tokens that were there, for each stage of each run
  for (const run of data.runs) {
    for (const stage of run.stages) {
      stage.place = new Map();
      if (stage.scores.length) run.last.forEach((last, column) => {
        if (last >= stage.layer - 1) stage.place.set(column, stage.place.size);
      });
    }
  }

  let layer = Number(slider.value), painted = null, active = null;

  function paint() {
    if (!marked) return;
    const levels = data.saliency.levels[layer];
    for (let column = 0; column < levels.length; column += 1) {
      const level = levels[column];
      if (painted && painted[column] === level) continue;
      if (!painted && level === "0") continue;
      const cut = cutClass(data.runs[0].last[column]);
      marked[column].className = level === "0" ? cut : `${cut} s${level}`;
    }
    painted = levels;
    if (active !== null) panels.forEach((tokens) => tokens[active].classList.add("on"));
  }

  function show(next) {
    layer = Math.min(data.depth - 1, Math.max(0, next));
    slider.value = layer;
    root.dataset.layer = layer;
    const left = stages.filter((stage) => stage <= layer);
    root.className = [`at-${layer}`, ...left.map((stage) => `${stage === layer ? "cut" : "gone"}-${stage}`)].join(" ");
    find("#number").textContent = layer;
    const present = data.runs.map((run) => run.present[layer]);
    const before = data.runs.map((run) => (layer ? run.present[layer - 1] : data.tokens));
    const here = `Layer ${layer}: ${present[0]} of ${data.tokens} tokens present (${Math.round((100 * present[0]) / data.tokens)}%)`;
    find("#status").textContent = `${here}, ${before[0] - present[0]} cut here.`;
    slider.setAttribute("aria-valuetext", here);
    all(".share").forEach((line) => {
      const run = data.runs[line.dataset.run];
      line.textContent = run.agreement
        ? `of the ${run.present[layer]} most salient tokens ${Math.round(100 * run.agreement[layer])}% are present`
        : `${run.present[layer]} tokens present`;
    });
    paint();
    follow();
  }

  // In a narrow window the table of scores has more columns than fit: bring the layer's own into view.
  function follow() {
    const heads = all("#scores thead th"), box = find("#scores");
    let at = null;
    heads.slice(1).forEach((head, index) => {
      head.classList.toggle("at", stages[index] === layer);
      if (stages[index] <= layer) at = head;
    });
    if (at) box.scrollLeft = at.offsetLeft + at.offsetWidth - box.clientWidth + 8;
  }

  const left = (run, column) =>
    run.last[column] === data.depth - 1 ? "stays to the end" : `leaves at layer ${run.last[column] + 1}`;

  function write(cell, value, rank, sign = "") {
    const small = document.createElement("small");
    small.textContent = `(${rank}.)${sign}`;
    cell.replaceChildren(`${value} `, small);
  }

  function fill(cell, run, stage, column) {
    cell.className = "";
    const at = stage && stage.place.get(column);
    if (at === undefined) {
      cell.textContent = stage && run.last[column] < stage.layer - 1 ? "gone" : "–";
      return;
    }
    const score = stage.scores[at], rank = 1 + stage.scores.filter((other) => other > score).length;
    const forced = column < stage.sinks || column >= stage.local_from;
    const cut = run.last[column] === stage.layer - 1;
    write(cell, `${Number(score.toPrecision(3))}`, rank, forced ? " •" : cut ? " ✕" : "");
    if (cut) cell.className = "cell-cut";
  }

  function choose(column) {
    if (active !== null) panels.forEach((tokens) => tokens[active].classList.remove("on"));
    active = column;
    panels.forEach((tokens) => tokens[column].classList.add("on"));
    const text = source[column].textContent.replaceAll("\n", "").replaceAll(" ", "␣");
    const fates = data.runs.map((run) => `${run.name}: ${left(run, column)}`).join("; ");
    find("#token").textContent = `Token ${column} of ${data.tokens}, “${text}”. ${fates}.`;
    find("#scores").hidden = stages.length === 0;
    all("#scores tbody tr").forEach((row) => {
      const run = data.runs[row.dataset.run];
      [...row.cells].slice(1).forEach((cell, index) => {
        if (run) fill(cell, run, run.stages.find((stage) => stage.layer === stages[index]), column);
        else {
          const values = data.saliency.values[stages[index]], value = values[column];
          const rank = 1 + values.filter((other) => other > value).length;
          const least = `<${100 / data.share}%`;
          write(cell, value ? `${Number(((100 * value) / data.share).toPrecision(2))}%` : least, rank);
        }
      });
    });
    follow();
  }

  slider.addEventListener("input", () => show(Number(slider.value)));
  find("#drop").addEventListener("change", (event) => { root.dataset.drop = event.target.value; });

  let focused = null;
  function go(tokens, column) {
    const token = tokens[Math.min(data.tokens - 1, Math.max(0, column))];
    if (focused) { focused.removeAttribute("tabindex"); focused.removeAttribute("role"); }
    focused = token;
    token.tabIndex = 0;
    token.setAttribute("role", "button");
    token.setAttribute("aria-describedby", "token");
    token.focus();
  }
  texts.forEach((text, index) => {
    const column = (event) => columnOf.get(event.target);
    text.addEventListener("pointerover", (event) => { if (column(event) !== undefined) choose(column(event)); });
    text.addEventListener("focusin", (event) => { if (column(event) !== undefined) choose(column(event)); });
    text.addEventListener("click", (event) => { if (column(event) !== undefined) go(panels[index], column(event)); });
    text.addEventListener("scroll", () => {
      for (const other of texts) if (other !== text && other.scrollTop !== text.scrollTop) other.scrollTop = text.scrollTop;
    }, { passive: true });
    text.addEventListener("keydown", (event) => {
      const at = column(event), last = data.tokens - 1;
      const moves = { ArrowLeft: (at ?? 1) - 1, ArrowRight: at === undefined ? active ?? 0 : at + 1, Home: 0, End: last };
      const layers = { ArrowUp: 1, ArrowDown: -1 };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in moves) go(panels[index], moves[event.key]);
      else if (event.key in layers) show(layer + layers[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  });
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, .wide")) return; // they have their own use for the keys
    event.preventDefault();
    show(layer + step);
  });
  show(layer);
})();
