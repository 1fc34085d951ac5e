// The page "Inside": which word drew which pixel. Click a word for its map, a pixel for its words.
(() => {
  "use strict";
  const { shared, say, make, number, shade, code, sequential, paintPositive, greatest, legend, panel, toggle } = window.diffuscopeInside;
  const PLACES = [
    "inside.place.top_left", "inside.place.top", "inside.place.top_right", "inside.place.left", "inside.place.middle", "inside.place.right",
    "inside.place.bottom_left", "inside.place.bottom", "inside.place.bottom_right",
  ];
  const READINGS = {
    competing: ["inside.words.reading.competing", "inside.words.about.competing"],
    plain: ["inside.words.reading.plain", "inside.words.about.plain"],
    share: ["inside.words.reading.share", "inside.words.about.share"],
  };
  const choices = { chip: null, reading: "competing", summed: true, own: false, special: false, threshold: 0.4, cell: null };

  const chipName = (chip) => {
    if (chip.kind === "start") return say("inside.token.start");
    if (chip.kind === "end") return say("inside.token.end");
    return chip.kind === "padding" ? say("inside.token.padding") : chip.text;
  };
  // Only words compete: the start, end and padding tokens would win everywhere, and mean nothing.
  const withSpecial = () => choices.special && choices.reading !== "competing";
  const shown = (run) => run.chips.map((chip, index) => ({ ...chip, index })).filter((chip) => chip.kind === "word" || withSpecial());

  // The maps that are compared: of competing words, probabilities, or shares of what the shown tokens get at that place.
  const mapsNow = (run) => {
    const call = choices.summed ? null : shared.call;
    const chips = shown(run);
    if (choices.reading === "competing") return { chips, maps: chips.map((chip) => run.competingMap(chip.index, call)) };
    const maps = chips.map((chip) => run.map(chip.index, call));
    if (choices.reading !== "share") return { chips, maps };
    const total = new Float32Array(maps[0]?.length ?? 0);
    maps.forEach((map, each) => map.forEach((value, place) => { total[place] += value * chips[each].count; }));
    return { chips, maps: maps.map((map, each) => map.map((value, place) => (value * chips[each].count) / (total[place] || 1))) };
  };

  // The outline of everything above the threshold, along the edges of the cells.
  const contour = (map, w, h, level) => {
    const inside = (x, y) => x >= 0 && y >= 0 && x < w && y < h && map[y * w + x] > level;
    let path = "";
    for (let y = 0; y < h; y += 1) for (let x = 0; x < w; x += 1) {
      if (!inside(x, y)) continue;
      if (!inside(x, y - 1)) path += `M${x} ${y}h1`;
      if (!inside(x, y + 1)) path += `M${x} ${y + 1}h1`;
      if (!inside(x - 1, y)) path += `M${x} ${y}v1`;
      if (!inside(x + 1, y)) path += `M${x + 1} ${y}v1`;
    }
    return path;
  };

  const facts = (map, w, h) => {
    const top = greatest(map);
    const at = map.indexOf(top);
    const [x, y] = [at % w, Math.floor(at / w)];
    const place = PLACES[Math.min(2, Math.floor((y / h) * 3)) * 3 + Math.min(2, Math.floor((x / w) * 3))];
    const area = map.reduce((count, value) => count + (value > choices.threshold * top), 0) / map.length;
    return { top, place: say(place), area: Math.round(area * 100) };
  };

  const wordsPanel = (run) => {
    if (!run.maps) return panel("words", say("inside.panel.words"), true, make("p", { class: "inside-note", id: "inside-no-words" }, say("inside.words.none")));
    const { h, w } = run.maps;
    if (choices.chip === null || !run.chips[choices.chip]) choices.chip = longest(run);
    const bar = make("div", { class: "inside-chips", role: "group", "aria-label": say("inside.words.choose") });
    const overlay = make("canvas", { class: "inside-pixels inside-overlay" });
    const outline = make("path", { svg: true, class: "inside-contour" });
    const mark = make("rect", { svg: true, width: 1, height: 1, class: "inside-cell" });
    const lines = make("svg", { viewBox: `0 0 ${w} ${h}`, preserveAspectRatio: "none", class: "inside-lines", "aria-hidden": "true" }, outline, mark);
    const base = run.picture ? make("img", { src: run.picture, alt: "", class: "inside-grey" }) : make("canvas", { class: "inside-pixels inside-grey" });
    const frame = make("div", { class: "inside-map", id: "inside-map", tabindex: "0", role: "img", style: `aspect-ratio:${run.shapes.width}/${run.shapes.height}` }, base, overlay, lines);
    const scale = legend("positive");
    const caption = make("p", { class: "inside-note", id: "inside-map-words", "aria-live": "polite" });
    const ranking = make("div", { class: "inside-ranking", id: "inside-ranking", "aria-live": "polite" });
    const table = make("tbody");

    const choose = (cell) => { choices.cell = cell; update(); };
    frame.addEventListener("click", (event) => {
      const box = frame.getBoundingClientRect();
      const x = Math.min(w - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * w)));
      const y = Math.min(h - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * h)));
      choose(y * w + x);
    });
    frame.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      const cell = choices.cell ?? Math.floor(h / 2) * w + Math.floor(w / 2);
      const [x, y] = [Math.min(w - 1, Math.max(0, (cell % w) + move[0])), Math.min(h - 1, Math.max(0, Math.floor(cell / w) + move[1]))];
      choose(y * w + x);
    });

    const drawChips = () => bar.replaceChildren(...shown(run).map((chip) => make("button", {
      type: "button", class: `inside-chip ${chip.kind}`, "aria-pressed": String(chip.index === choices.chip), "data-chip": chip.index,
      click: () => { choices.chip = chip.index; drawChips(); update(); bar.querySelector("[aria-pressed=true]")?.focus(); },
    }, chipName(chip))));

    const rank = (chips, maps) => {
      if (choices.cell === null) { mark.setAttribute("visibility", "hidden"); ranking.replaceChildren(make("p", { class: "inside-note" }, say("inside.words.click_pixel"))); return; }
      const [x, y] = [choices.cell % w, Math.floor(choices.cell / w)];
      for (const [name, value] of Object.entries({ x, y, visibility: "visible" })) mark.setAttribute(name, value);
      const found = chips.map((chip, each) => ({ chip, value: maps[each][choices.cell] })).sort((one, other) => other.value - one.value);
      const top = found[0]?.value || 1;
      ranking.replaceChildren(make("p", { class: "inside-note" }, say("inside.words.at_pixel", { row: y + 1, column: x + 1 })),
        make("ol", {}, found.slice(0, 8).map(({ chip, value }) => make("li", {}, make("span", { class: "inside-word" }, chipName(chip)),
          make("span", { class: "inside-bar", "aria-hidden": "true" }, make("span", { style: `width:${((value / top) * 100).toFixed(1)}%` })), make("span", { class: "inside-value" }, number(value))))));
    };

    const update = () => {
      const { chips, maps } = mapsNow(run);
      const at = Math.max(0, chips.findIndex((chip) => chip.index === choices.chip));
      const map = maps[at];
      if (!map) return;
      const own = facts(map, w, h);
      const top = choices.own ? own.top : Math.max(...maps.map(greatest));
      shade(overlay, map, w, h, (value) => sequential[code(value / (top || 1))], (value) => 60 + 150 * Math.min(1, value / (top || 1)));
      if (!run.picture) window.diffuscopeInside.put(base, run.colours("x0", shared.call));
      outline.setAttribute("d", contour(map, w, h, choices.threshold * own.top));
      scale.set(top);
      about.textContent = say(choices.reading === "competing" && chips.length < 2 ? "inside.words.alone" : READINGS[choices.reading][1]);
      const values = { word: chipName(chips[at]), peak: number(own.top), place: own.place, area: own.area, threshold: Math.round(choices.threshold * 100) };
      caption.textContent = say("inside.words.map", values);
      frame.setAttribute("aria-label", caption.textContent);
      table.replaceChildren(...chips.map((chip, each) => {
        const each_ = facts(maps[each], w, h);
        return make("tr", {}, make("th", { scope: "row" }, chipName(chip)), make("td", {}, number(each_.top)), make("td", {}, each_.place), make("td", {}, `${each_.area} %`));
      }));
      rank(chips, maps);
    };

    const redraw = () => {
      if (run.chips[choices.chip].kind !== "word" && !withSpecial()) choices.chip = longest(run);
      special.disabled = choices.reading === "competing";
      drawChips();
      update();
    };
    const specials = toggle(say("inside.words.special"), choices.special, (on) => { choices.special = on; redraw(); });
    const special = specials.querySelector("input");
    special.disabled = choices.reading === "competing";
    const about = make("p", { class: "inside-note", id: "inside-reading-about", "aria-live": "polite" });
    const readings = make("div", { class: "inside-switches", role: "radiogroup", "aria-label": say("inside.words.reading") }, make("span", { class: "inside-label" }, say("inside.words.reading")), Object.entries(READINGS).map(([name, [title]]) => make("label", { class: "inside-toggle" },
      make("input", { type: "radio", name: "inside-reading", value: name, checked: name === choices.reading, change: () => { choices.reading = name; redraw(); } }), make("span", {}, say(title)))));
    const threshold = make("input", { type: "range", min: 0.1, max: 0.9, step: 0.05, value: choices.threshold, "aria-label": say("inside.words.threshold"), input: () => { choices.threshold = Number(threshold.value); update(); } });
    const content = [
      make("p", { class: "inside-note" }, say("inside.words.about")), bar, readings, about,
      make("div", { class: "inside-switches" },
        toggle(say("inside.words.summed"), choices.summed, (on) => { choices.summed = on; update(); }), toggle(say("inside.words.own"), choices.own, (on) => { choices.own = on; update(); }),
        specials,
        make("label", { class: "inside-toggle" }, make("span", {}, say("inside.words.threshold")), threshold)),
      make("div", { class: "inside-split" }, make("div", {}, frame, scale, caption), ranking),
      make("details", { class: "inside-more" }, make("summary", {}, say("inside.words.table")), make("div", { class: "heatmap-scroll" }, make("table", { class: "numbers-table" },
        make("thead", {}, make("tr", {}, ["inside.words.column.word", "inside.words.column.peak", "inside.words.column.place", "inside.words.column.area"].map((key) => make("th", { scope: "col" }, say(key))))), table))),
      atlas(run),
    ];
    if (run.maps.h < run.shapes.h) content.splice(1, 0, make("p", { class: "inside-note" }, say("inside.words.smaller", { h, w, full: `${run.shapes.h} × ${run.shapes.w}` })));
    drawChips();
    const node = panel("words", say("inside.panel.words"), true, ...content);
    node.update = update;
    return node;
  };

  const longest = (run) => run.chips.reduce((best, chip, index) => (chip.kind === "word" && (best < 0 || chip.text.length > run.chips[best].text.length) ? index : best), -1) || 0;

  // Layers x heads as small multiples on one scale; only where all heads were recorded.
  const atlas = (run) => {
    if (!run.atlas) return make("p", { class: "inside-note" }, say("inside.atlas.none"));
    const { h, w, layers } = run.atlas;
    const heads = layers.reduce((sum, layer) => sum + layer.heads, 0);
    const rows = make("div", { class: "inside-atlas" });
    const draw = () => {
      const words = run.chips.filter((chip) => chip.kind === "word");
      const word = Math.max(0, words.indexOf(run.chips[choices.chip]));
      const top = Math.max(...run.atlas.peaks.slice(word * heads, (word + 1) * heads));
      let number_ = word * heads;
      rows.replaceChildren(...layers.map((layer) => make("div", { class: "inside-layer" }, make("span", { class: "inside-layer-name" }, `${layer.name.replace(/\.transformer_blocks.*/, "")} (${layer.h} × ${layer.w})`),
        make("div", { class: "inside-heads" }, Array.from({ length: layer.heads }, (_, head) => {
          const unit = run.atlas.peaks[number_] / 255;
          const label = say("inside.atlas.tile", { layer: layer.name, head: head + 1, peak: number(run.atlas.peaks[number_]) });
          const tile = make("canvas", { class: "inside-pixels", role: "img", "aria-label": label, title: label });
          const at = number_ * h * w;
          paintPositive(tile, Float32Array.from(run.codes.atlas.subarray(at, at + h * w), (value) => value * unit), w, h, top);
          number_ += 1;
          return tile;
        })))));
    };
    const node = make("details", { class: "inside-more", id: "inside-atlas", toggle: () => node.open && draw() }, make("summary", {}, say("inside.atlas")), make("p", { class: "inside-note" }, say("inside.atlas.about")), rows);
    return node;
  };

  Object.assign(window.diffuscopeInside, { wordsPanel, chipName });
})();
