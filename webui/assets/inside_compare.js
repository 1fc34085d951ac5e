// The page "Inside": two runs under one scrubber, and what the model answers about a run (ablation, lock-in).
(() => {
  "use strict";
  const inside = window.diffuscopeInside;
  const { shared, say, sayOf, make, number, put, paintPositive, greatest, canvas, legend, chart, figure, Run } = inside;

  const difference = (run, other, call, pair) => {
    const size = run.shapes.h * run.shapes.w;
    const sum = new Float32Array(size);
    for (let channel = 0; channel < run.shapes.channels; channel += 1) {
      const one = run.channel("x0", call, channel), two = other.channel("x0", pair, channel);
      for (let place = 0; place < size; place += 1) sum[place] += (one[place] - two[place]) ** 2;
    }
    return sum.map(Math.sqrt);
  };

  const changes = (one, other) => ["prompt", "negative", "seed", "steps", "cfg", "sampler", "model"]
    .filter((name) => one[name] !== other[name]).map((name) => `${say(`inside.fact.${name}`)}: ${one[name]} → ${other[name]}`);

  // Both paths of x0 in the plane of their first two principal components.
  const plane = (found) => {
    const points = found.paths.flat();
    const reach = Math.max(...points.flatMap(([x, y]) => [Math.abs(x), Math.abs(y)])) || 1;
    const at = ([x, y]) => [160 + (x / reach) * 140, 130 - (y / reach) * 115];
    const path = (points_, colour, dashed) => make("polyline", { svg: true, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashed ? "6 4" : null, points: points_.map((point) => at(point).map((value) => value.toFixed(1)).join(",")).join(" ") });
    const dots = found.paths.map((_, index) => make("circle", { svg: true, r: 6, fill: inside.COLOURS[index] }));
    const label = say("inside.compare.plane", { first: Math.round(found.explained[0] * 100), second: Math.round((found.explained[1] ?? 0) * 100) });
    const svg = make("svg", { viewBox: "0 0 320 260", role: "img", "aria-label": label, class: "inside-chart" }, path(found.paths[0], inside.COLOURS[0]), path(found.paths[1], inside.COLOURS[1], true), dots);
    const node = figure(label, svg);
    node.mark = (call) => dots.forEach((dot, index) => {
      const [x, y] = at(found.paths[index][index ? found.pairs[call] : call]);
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", y);
    });
    return node;
  };

  const comparison = (run, other, found) => {
    const pictures = [canvas(say("inside.compare.first")), canvas(say("inside.compare.second")), canvas(say("inside.compare.difference"))];
    pictures[1].id = "inside-other-x0";
    pictures[2].id = "inside-difference";
    const scale = legend("positive");
    const curve = chart([{ name: say("inside.compare.distance"), values: found.parted }], { label: say("inside.compare.distance"), count: run.calls, low: 0 });
    const paths = plane(found);
    const epsilon = make("input", { type: "range", min: 0.01, max: 2, step: 0.01, value: 0.05, id: "inside-epsilon", "aria-label": say("inside.compare.epsilon"), input: () => part() });
    const parting = make("p", { class: "inside-note", id: "inside-parting", "aria-live": "polite" });
    const part = () => {
      const call = found.parted.findIndex((value) => value > Number(epsilon.value));
      const words = { epsilon: Number(epsilon.value).toFixed(2) };
      epsilon.setAttribute("aria-valuetext", words.epsilon);
      parting.textContent = call < 0 ? say("inside.compare.never", words) : sayOf(run, "inside.compare.parts", { ...words, call: call + 1, timestep: number(run.steps[call].timestep, 6) });
    };
    const picture = (each, words) => (each.picture ? figure(words, make("img", { src: each.picture, class: "inside-pixels", alt: words })) : figure(words, make("p", { class: "inside-missing" }, say("inside.stopped.short"))));
    const largest = Math.max(...run.steps.map((_, call) => greatest(difference(run, other, call, found.pairs[call]))));
    const node = make("div", { class: "inside-body" },
      make("p", { class: "inside-note" }, changes(run.request, other.request).join("; ") || say("inside.compare.same")),
      make("div", { class: "inside-three" }, figure(say("inside.compare.first"), pictures[0]), figure(say("inside.compare.second"), pictures[1]), figure(say("inside.compare.difference"), pictures[2], scale)),
      make("div", { class: "inside-three" }, picture(run, say("inside.compare.first_final")), picture(other, say("inside.compare.second_final")), make("div", {}, curve, make("label", { class: "inside-toggle" }, make("span", {}, say("inside.compare.epsilon")), epsilon), parting)),
      make("div", { class: "inside-half" }, paths));
    node.update = (call) => {
      const pair = found.pairs[call];
      put(pictures[0], run.colours("x0", call));
      put(pictures[1], other.colours("x0", pair));
      paintPositive(pictures[2], difference(run, other, call, pair), run.shapes.w, run.shapes.h, largest);
      scale.set(largest);
      curve.mark(call);
      paths.mark(call);
    };
    part();
    return node;
  };

  // A Gradio component whose value is JSON: `build(root, data)` draws it and may return what follows the scrubber.
  const mountResult = (element, props, watch, build) => {
    const root = element.querySelector(".inside-root");
    let node = null;
    const draw = async () => {
      node = null;
      root.replaceChildren();
      if (!props.value || !shared.run) return;
      node = await build(JSON.parse(props.value));
      if (!node) return;
      root.replaceChildren(node);
      node.update?.(shared.call);
    };
    shared.onRun.add(draw);
    shared.onCall.add((call) => node?.update?.(call));
    watch(["value"], draw);
    draw();
  };

  let opened = { text: null, run: null };
  const mountCompare = (element, props, watch) => mountResult(element, props, watch, async (data) => {
    if (opened.text !== props.value) opened = { text: props.value, run: await Run.open(data.other) };
    return data.found.pairs.length === shared.run.calls ? comparison(shared.run, opened.run, data.found) : null;
  });

  const mountAblation = (element, props, watch) => mountResult(element, props, watch, async (data) => {
    const { h, w } = data;
    const tile = (caption, values) => {
      const top = greatest(values);
      const shown = canvas(caption), scale = legend("positive");
      paintPositive(shown, values, w, h, top);
      scale.set(top);
      return figure(caption, shown, scale);
    };
    const words = { word: data.word };
    return make("div", { class: "inside-body" },
      make("div", { class: "inside-four" }, tile(say("inside.ablation.attention", words), Float32Array.from(data.attention)), tile(say("inside.ablation.change", words), Float32Array.from(data.change)),
        data.with && figure(say("inside.ablation.with"), make("img", { src: data.with, class: "inside-pixels", alt: say("inside.ablation.with") })), data.without && figure(say("inside.ablation.without", words), make("img", { src: data.without, class: "inside-pixels", alt: say("inside.ablation.without", words) }))),
      make("p", { class: "inside-note", id: "inside-ablation-numbers" }, say("inside.ablation.numbers", { correlation: number(data.correlation), iou: number(data.iou), threshold: Math.round(data.threshold * 100) })));
  });

  const mountLockIn = (element, props, watch) => mountResult(element, props, watch, async (data) => {
    const curve = chart(data.texts.map((text, index) => ({ name: text, values: data.scores.map((row) => row[index]), dashed: index > 0 })), { label: sayOf(shared.run, "inside.lockin.chart"), count: data.scores.length });
    const table = make("tbody", {}, data.texts.map((text, index) => make("tr", {}, make("th", { scope: "row" }, text), make("td", {}, number(data.scores[0][index])), make("td", {}, number(data.scores.at(-1)[index])))));
    const node = make("div", { class: "inside-body" }, curve, make("p", { class: "inside-note" }, data.locked ? sayOf(shared.run, "inside.lockin.from", { call: data.locked }) : say("inside.lockin.never")),
      make("table", { class: "numbers-table" }, make("thead", {}, make("tr", {}, ["inside.lockin.text", "inside.lockin.first", "inside.lockin.last"].map((key) => make("th", { scope: "col" }, say(key))))), table));
    node.update = (call) => curve.mark(Math.min(call, data.scores.length - 1));
    return node;
  });

  Object.assign(inside, { mountCompare, mountAblation, mountLockIn });
})();
