// The page "Inside": the panels of one run, each following the scrubber.
(() => {
  "use strict";
  const inside = window.diffuscopeInside;
  const { shared, say, sayOf, make, number, put, paintPositive, paintSigned, greatest, canvas, legend, chart, figure, panel, Run } = inside;

  const entries = (rows) => make("dl", { class: "inside-facts" }, rows.filter(([, value]) => value !== "" && value != null).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));

  const runPanel = (run) => {
    const { request } = run;
    return panel("run", say("inside.panel.run"), false, entries([
      [say("inside.fact.prompt"), request.prompt], [say("inside.fact.negative"), request.negative], [say("inside.fact.model"), request.model],
      [say("inside.fact.sampler"), request.sampler], [say("inside.fact.steps"), request.steps], [sayOf(run, "inside.fact.calls"), run.calls],
      [say("inside.fact.cfg"), request.cfg], [say("inside.fact.seed"), request.seed], [sayOf(run, "inside.fact.prediction"), run.prediction === "flow" ? say("inside.fact.velocity") : run.prediction],
      [say("inside.fact.space"), run.space === "flow" ? say("inside.fact.space.flow") : run.space], [say("inside.fact.cut"), run.cut],
      [say("inside.fact.versions"), Object.entries(run.versions).map(([name, version]) => `${name} ${version}`).join(", ")],
    ]));
  };

  const encoderPanel = (run) => {
    const top = Math.max(...run.tokens.map((token) => token.norm));
    const kinds = { start: say("inside.token.start"), end: say("inside.token.end"), padding: say("inside.token.padding"), word: "" };
    const rows = run.tokens.map((token) => make("tr", {},
      make("td", {}, token.positions > 1 ? `${token.first}–${token.first + token.positions - 1}` : String(token.first)),
      make("th", { scope: "row" }, token.text || kinds[token.kind]), make("td", {}, number(token.norm, 4)),
      make("td", { class: "inside-wide" }, make("span", { class: "inside-bar", "aria-hidden": "true" }, make("span", { style: `width:${((token.norm / top) * 100).toFixed(1)}%` })))));
    return panel("encoder", say("inside.panel.encoder"), false, make("p", { class: "inside-note" }, sayOf(run, "inside.encoder.about", { encoders: run.encoders.join(" + "), positions: run.shapes.positions, embedding: run.shapes.embedding })),
      make("div", { class: "heatmap-scroll" }, make("table", { class: "numbers-table" }, make("thead", {}, make("tr", {},
        ["inside.encoder.position", "inside.encoder.piece", "inside.encoder.norm"].map((key) => make("th", { scope: "col" }, say(key))), make("td", {}))), make("tbody", {}, rows))));
  };

  const histogram = (element, values, top) => {
    const bins = new Array(41).fill(0);
    for (const value of values) bins[Math.min(40, Math.max(0, Math.round((value / (top || 1)) * 20 + 20)))] += 1;
    const most = Math.max(...bins);
    element.replaceChildren(...bins.map((count, bin) => make("rect", { svg: true, x: bin * 6, width: 5, y: 60 - (count / most) * 58, height: (count / most) * 58 })),
      make("line", { svg: true, x1: 122.5, x2: 122.5, y1: 0, y2: 60, class: "inside-marker" }));
  };

  const denoisePanel = (run, resume) => {
    const { channels } = run.shapes;
    const noisy = canvas(say("inside.denoise.xt")), clean = canvas(say("inside.denoise.x0"));
    noisy.id = "inside-xt";
    clean.id = "inside-x0";
    const map = say("inside.denoise.linear", { r2: number(run.r2) });
    let which = "xt";
    const picked = make("div", { class: "inside-switches", role: "radiogroup", "aria-label": say("inside.denoise.channels_of") }, ["xt", "x0"].map((name) => make("label", { class: "inside-toggle" },
      make("input", { type: "radio", name: "inside-channels", value: name, checked: name === which, change: () => { which = name; update(shared.call); } }), make("span", {}, say(name === "xt" ? "inside.denoise.xt" : "inside.denoise.x0")))));
    const tiles = Array.from({ length: channels }, (_, channel) => canvas(say("inside.denoise.channel", { channel: channel + 1 })));
    const scale = legend("signed");
    const bars = make("svg", { viewBox: "0 0 246 60", class: "inside-histogram", role: "img", "aria-label": say("inside.denoise.histogram") });
    const numbers = make("p", { class: "inside-note inside-numbers", id: "inside-norms" });
    const scheduleChart = schedule(run);
    const norms = chart([{ name: say("inside.denoise.norm_xt"), values: run.steps.map((step) => step.xn) }, { name: say("inside.denoise.norm_x0"), values: run.steps.map((step) => step.cn), dashed: true }],
      { label: say("inside.denoise.norms"), count: run.calls, low: 0 });
    const final = run.picture ? make("img", { src: run.picture, class: "inside-pixels", alt: say("inside.denoise.final_alt", { prompt: run.request.prompt }) }) : make("p", { class: "inside-missing" }, sayOf(run, "inside.stopped", { calls: run.calls, planned: run.planned }));
    const update = (call) => {
      const step = run.steps[call];
      put(noisy, run.colours("xt", call));
      put(clean, run.colours("x0", call));
      const top = run[which].peaks[call];
      const all = [];
      tiles.forEach((tile, channel) => {
        const values = run.channel(which, call, channel);
        all.push(...values);
        paintSigned(tile, values, run.shapes.w, run.shapes.h, top);
      });
      scale.set(top);
      histogram(bars, all, top);
      numbers.textContent = say("inside.denoise.numbers", which === "xt" ? { norm: number(step.xn, 4), std: number(step.xs) } : { norm: number(step.cn, 4), std: number(step.cs) });
      if (step.order > 1) numbers.textContent += ` ${inside.extra(run, step)}`;
      scheduleChart.mark(call);
      norms.mark(call);
    };
    const scaled = run.space === "sigma" ? ` ${say("inside.denoise.scaled")}` : "";
    const node = panel("denoise", say("inside.panel.denoise"), true,
      make("div", { class: "inside-three" }, figure(`${say("inside.denoise.xt")}: ${map}${scaled}`, noisy), figure(`${say("inside.denoise.x0")}: ${map}`, clean), figure(say("inside.denoise.final"), final)),
      picked, make("div", { class: "inside-four" }, tiles.map((tile, channel) => figure(say("inside.denoise.channel", { channel: channel + 1 }), tile))), scale, numbers,
      make("div", { class: "inside-three" }, figure(say("inside.denoise.histogram"), bars), make("div", {}, make("h4", {}, say("inside.denoise.norms")), norms), make("div", {}, make("h4", {}, sayOf(run, "inside.denoise.schedule")), scheduleChart)),
      make("p", { class: "inside-note" }, sayOf(run, "inside.denoise.equation")),
      // A stopped run has no picture to compare with; the tools for latents run the sampler with a U-Net only.
      run.picture && run.denoiser === "unet" ? make("div", { class: "inside-switches" }, make("button", { type: "button", class: "inside-button", id: "inside-resume", click: () => resume({ call: shared.call }) }, say("inside.denoise.resume"))) : null);
    node.update = update;
    return node;
  };

  // How much of the picture is in x_t, sqrt(alpha_cumprod), over the timesteps of the training; a dot for each call.
  const schedule = (run) => {
    const values = run.schedule.slice(0, -1), length = run.schedule.at(-1);
    const x = (timestep) => 40 + (1 - timestep / length) * 424, y = (value) => 12 + (1 - value) * 130;
    const path = values.map((value, place) => `${x((place / (values.length - 1)) * length).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const level = (step) => (run.space === "flow" ? 1 - step.sigma : 1 / Math.sqrt(step.sigma * step.sigma + 1));
    const dot = make("circle", { svg: true, r: 6, class: "inside-now" });
    const text = (words, at, anchor, height) => make("text", { svg: true, x: at, y: height, "text-anchor": anchor, class: "inside-tick" }, words);
    const svg = make("svg", { viewBox: "0 0 480 166", role: "img", "aria-label": sayOf(run, "inside.denoise.schedule"), class: "inside-chart" },
      make("polyline", { svg: true, points: path, fill: "none", stroke: inside.COLOURS[0], "stroke-width": 2 }), run.steps.map((step) => make("circle", { svg: true, cx: x(step.timestep), cy: y(level(step)), r: 2, class: "inside-dot" })), dot,
      text("1", 34, "end", 17), text("0", 34, "end", 146), text(`t = ${length}`, 40, "start", 160), text("t = 0", 464, "end", 160));
    const node = make("figure", { class: "inside-figure" }, svg);
    node.mark = (call) => {
      dot.setAttribute("cx", x(run.steps[call].timestep));
      dot.setAttribute("cy", y(level(run.steps[call])));
    };
    return node;
  };

  const guidancePanel = (run, askAgain) => {
    const title = say("inside.panel.guidance");
    if (!run.guidance) return panel("guidance", title, false, make("p", { class: "inside-note" }, say(run.embedded ? "inside.guidance.embedded" : "inside.guidance.off", { cfg: run.request.cfg })));
    const lines = (name) => run.steps.map((step) => step[name]);
    const ratio = chart([{ name: say("inside.guidance.ratio"), values: lines("ratio") }], { label: say("inside.guidance.ratio"), count: run.calls, low: 0 });
    const cosine = chart([{ name: say("inside.guidance.cosine"), values: lines("cosine") }], { label: say("inside.guidance.cosine"), count: run.calls, high: 1 });
    const guided = chart([{ name: say("inside.guidance.guided"), values: lines("guided") }], { label: say("inside.guidance.guided"), count: run.calls });
    const map = canvas(say("inside.guidance.map"));
    map.id = "inside-guidance-map";
    const scale = legend("positive"), words = make("p", { class: "inside-note inside-numbers" });
    const other = make("input", { type: "number", min: 1, max: 30, step: 0.5, value: run.request.cfg > 1.5 ? 1 : 7.5, id: "inside-other-cfg", "aria-label": say("inside.guidance.other") });
    const node = panel("guidance", title, true, make("p", { class: "inside-note" }, sayOf(run, "inside.guidance.about", { cfg: run.request.cfg })),
      make("div", { class: "inside-split" }, make("div", {}, figure(say("inside.guidance.map"), map), scale, words), make("div", {}, ratio, cosine, guided)),
      make("div", { class: "inside-switches" }, make("label", { class: "inside-toggle" }, make("span", {}, say("inside.guidance.other")), other),
        make("button", { type: "button", class: "inside-button", id: "inside-again", click: () => askAgain({ cfg: Number(other.value) }) }, say("inside.guidance.again"))));
    node.update = (call) => {
      const step = run.steps[call];
      paintPositive(map, run.difference(call), run.shapes.w, run.shapes.h, run.guidance.peaks[call]);
      scale.set(run.guidance.peaks[call]);
      words.textContent = say("inside.guidance.numbers", { ratio: number(step.ratio), cosine: number(step.cosine, 4), guided: number(step.guided) });
      for (const each of [ratio, cosine, guided]) each.mark(call);
    };
    return node;
  };

  const vaePanel = (run) => {
    const linear = canvas(say("inside.vae.linear"));
    put(linear, run.colours("x0", run.calls - 1));
    const decoded = run.picture ? make("img", { src: run.picture, class: "inside-pixels", alt: say("inside.denoise.final_alt", { prompt: run.request.prompt }) }) : make("p", { class: "inside-missing" }, sayOf(run, "inside.stopped", { calls: run.calls, planned: run.planned }));
    const { h, w, channels, height, width } = run.shapes;
    return panel("vae", say("inside.panel.vae"), false, make("p", { class: "inside-note" }, say("inside.vae.about", { latent: `${h} × ${w} × ${channels}`, pixels: `${height} × ${width} × 3`, channels, ratio: number((height * width * 3) / (h * w * channels)), r2: number(run.r2) })),
      make("div", { class: "inside-three", id: "inside-panel-picture-content" }, figure(say("inside.vae.linear"), linear), figure(say("inside.vae.decoded"), decoded)));
  };

  const picturePanel = (run) => panel("picture", say("inside.panel.picture"), false, run.picture
    ? make("img", { src: run.picture, class: "inside-pixels inside-large", alt: say("inside.denoise.final_alt", { prompt: run.request.prompt }) })
    : make("p", { class: "inside-missing" }, sayOf(run, "inside.stopped", { calls: run.calls, planned: run.planned })));

  let loaded = "";
  const mountViewer = (element, props, watch, askAgain, resume) => {
    let panels = [];
    const root = element.querySelector(".inside-root");
    const rebuild = () => {
      const { run } = shared;
      if (!run) { root.replaceChildren(make("p", { class: "inside-missing" }, say("inside.empty"))); return; }
      const open = new Map(panels.map((each) => [each.id, each.open]));
      panels = [denoisePanel(run, resume), inside.wordsPanel(run), guidancePanel(run, askAgain), runPanel(run), encoderPanel(run), vaePanel(run), picturePanel(run)];
      for (const each of panels) if (open.has(each.id)) each.open = open.get(each.id);
      root.replaceChildren(...panels);
      root.dataset.calls = run.calls;
    };
    const load = async () => {
      if (!props.value || props.value === loaded) return;
      loaded = props.value;
      shared.open(await Run.open(JSON.parse(props.value)));
    };
    shared.onRun.add(rebuild);
    shared.onCall.add((call) => { for (const each of panels) each.update?.(call); });
    watch(["value"], load);
    watch(["words"], () => { if (props.words) shared.words = JSON.parse(props.words); shared.again(); });
    if (props.words) shared.words = JSON.parse(props.words);
    rebuild();
    load();
  };

  const mountDiagram = (element, props, watch) => {
    const root = element.querySelector(".inside-root");
    const draw = () => { if (shared.run) root.replaceChildren(inside.diagram(shared.run)); };
    shared.onRun.add(draw);
    draw();
  };

  Object.assign(inside, { mountViewer, mountDiagram, entries });
})();
