// The page "Inside": one scrubber for all panels, and the diagram on top of them. Nothing here asks the server.
(() => {
  "use strict";
  const { shared, say, sayOf, make, number, put } = window.diffuscopeInside;
  const FRAMES_A_SECOND = 6;
  const THUMBNAILS = 32;

  const describe = (run, call) => {
    const step = run.steps[call];
    const said = say("inside.scrubber.at", { call: call + 1, total: run.calls, timestep: number(step.timestep, 6), sigma: number(step.sigma) });
    return step.order > 1 ? `${said}, ${extra(run, step)}` : said;
  };
  // PLMS repeats its first step; Heun and DPM2 call the U-Net twice a step.
  const extra = (run, step) => say(run.request.sampler.startsWith("PLMS") ? "inside.scrubber.repeat" : "inside.scrubber.second", { step: step.step });

  const strip = (run) => {
    const canvas = make("canvas", { class: "inside-strip", "aria-hidden": "true" });
    const { h, w } = run.shapes;
    const count = THUMBNAILS; // a short run repeats its frames: fewer would be drawn out to ribbons
    Object.assign(canvas, { width: count * w, height: h });
    const one = document.createElement("canvas");
    for (let place = 0; place < count; place += 1) {
      put(one, run.colours("x0", Math.round((place / Math.max(1, count - 1)) * (run.calls - 1))));
      canvas.getContext("2d").drawImage(one, place * w, 0);
    }
    return canvas;
  };

  let timer = null;
  const mountScrubber = (element, props, watch) => {
    const draw = (root) => {
      clearInterval(timer);
      timer = null;
      const { run } = shared;
      root.replaceChildren();
      if (!run) return;
      const readout = make("output", { class: "inside-readout", for: "inside-scrub" });
      const range = make("input", { type: "range", id: "inside-scrub", min: 1, max: run.calls, step: 1, input: () => shared.goTo(Number(range.value) - 1) });
      const play = make("button", { type: "button", id: "inside-play", class: "inside-button", click: () => (timer ? stop() : start()) });
      const stop = () => { clearInterval(timer); timer = null; play.textContent = say("inside.scrubber.play"); };
      const start = () => {
        if (shared.call >= run.calls - 1) shared.goTo(0);
        play.textContent = say("inside.scrubber.pause");
        const pace = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : FRAMES_A_SECOND;
        timer = setInterval(() => { if (shared.call >= run.calls - 1) stop(); else shared.goTo(shared.call + 1); }, 1000 / pace);
      };
      const jump = (words, label, change) => make("button", { type: "button", class: "inside-button inside-jump", "aria-label": say(label), title: say(label), click: () => { stop(); shared.goTo(change()); } }, words);
      stop();
      root.append(
        make("div", { class: "inside-track" }, strip(run), range),
        make("div", { class: "inside-controls" },
          jump("⏮", "inside.scrubber.first", () => 0), jump("◀", "inside.scrubber.previous", () => shared.call - 1), play,
          jump("▶", "inside.scrubber.next", () => shared.call + 1), jump("⏭", "inside.scrubber.last", () => run.calls - 1),
          make("label", { for: "inside-scrub", class: "visually-hidden" }, say("inside.scrubber")), readout),
      );
      root.update = (call) => {
        range.value = call + 1;
        const words = describe(run, call);
        range.setAttribute("aria-valuetext", words);
        readout.textContent = words;
      };
      root.update(shared.call);
    };
    const root = element.querySelector(".inside-root");
    shared.onRun.add(() => draw(root));
    shared.onCall.add((call) => root.update?.(call));
    watch(["words"], () => { if (props.words) shared.words = JSON.parse(props.words); draw(root); });
    if (props.words) shared.words = JSON.parse(props.words);
    draw(root);
  };

  // prompt -> tokens -> text encoder -> U-Net x n -> VAE -> pixels; each box opens its panel.
  const diagram = (run) => {
    const { positions, embedding, h, w, channels, height, width } = run.shapes;
    const open = (name) => () => {
      const panel = document.getElementById(`inside-panel-${name}`);
      panel.open = true;
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      panel.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
      panel.querySelector("summary").focus({ preventScroll: true });
    };
    const used = run.tokens.filter((token) => token.kind !== "padding").length;
    const box = (name, title, detail) => make("button", { type: "button", class: "inside-box", "data-panel": name, click: open(name) }, make("strong", {}, title), make("small", {}, detail));
    const arrow = (shape) => make("span", { class: "inside-arrow" }, make("span", {}, shape), make("span", { "aria-hidden": "true" }, "⟶"));
    return make("nav", { class: "inside-diagram", "aria-label": say("inside.diagram") },
      box("run", say("inside.box.prompt"), run.request.prompt), arrow(say("inside.shape.letters", { count: [...run.request.prompt].length })),
      box("words", say("inside.box.tokens"), say("inside.box.tokens.detail", { used, positions })), arrow(`${positions}`),
      box("encoder", say("inside.box.encoder"), run.encoders.join(" + ")), arrow(`${positions} × ${embedding}`),
      box("denoise", sayOf(run, "inside.box.unet", { calls: run.calls }), run.request.sampler), arrow(`${h} × ${w} × ${channels}`),
      box("vae", say("inside.box.vae"), say("inside.box.vae.detail", { factor: Math.round(height / h) })), arrow(`${height} × ${width} × 3`),
      box("picture", say("inside.box.picture"), run.stopped ? say("inside.stopped.short") : `${width} × ${height}`));
  };

  Object.assign(window.diffuscopeInside, { mountScrubber, diagram, extra });
})();
