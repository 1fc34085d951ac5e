// The page "Inside": unpacking a recorded run, colours, canvases and charts. The other inside_*.js build on it.
(() => {
  "use strict";

  // Cividis (Nunez, Anderton and Renslow 2018), as webui/views/colours.py; and orange - white - blue around zero.
  const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"];
  const DIVERGING = ["8f3b00", "d55e00", "f0a868", "f7f7f7", "7fb8dc", "0072b2", "00436b"];
  const table = (stops) => {
    const colours = stops.map((stop) => [0, 2, 4].map((at) => parseInt(stop.slice(at, at + 2), 16)));
    return Array.from({ length: 256 }, (_, code) => {
      const place = (code / 255) * (colours.length - 1);
      const low = Math.min(Math.floor(place), colours.length - 2);
      return colours[low].map((value, channel) => Math.round(value + (colours[low + 1][channel] - value) * (place - low)));
    });
  };
  const sequential = table(CIVIDIS);
  const diverging = table(DIVERGING);
  const gradient = (stops) => `linear-gradient(90deg, ${stops.map((stop) => `#${stop}`).join(", ")})`;

  // What a run is shipped as: differences modulo 256, deflated, in base64 (webui/views/inside_payload.py).
  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const codes = new Uint8Array(await new Response(stream).arrayBuffer());
    for (let place = 1; place < codes.length; place += 1) codes[place] += codes[place - 1];
    return codes;
  };

  class Run {
    static async open(payload) {
      const run = new Run();
      Object.assign(run, payload);
      const [xt, x0, maps, competing, guidance, atlas] = await Promise.all(
        [payload.xt, payload.x0, payload.maps, payload.competing, payload.guidance, payload.atlas].map((part) => (part ? unpack(part.data) : null)),
      );
      run.codes = { xt, x0, maps, competing, guidance, atlas };
      run.means = new Map();
      return run;
    }

    get calls() { return this.steps.length; }

    // One channel of "xt" or "x0" as numbers.
    channel(which, call, channel) {
      const size = this.shapes.h * this.shapes.w;
      const at = (call * this.shapes.channels + channel) * size;
      const unit = this[which].peaks[call] / 127;
      return Float32Array.from(this.codes[which].subarray(at, at + size), (code) => (code - 128) * unit);
    }

    // Latents as colours by the linear map fitted on the VAE; x_t of a sigma sampler is brought to unit variance first.
    colours(which, call) {
      const { h, w, channels } = this.shapes;
      const sigma = this.steps[call].sigma;
      const scale = which === "xt" && this.space === "sigma" ? 1 / Math.sqrt(sigma * sigma + 1) : 1;
      const values = Array.from({ length: channels }, (_, channel) => this.channel(which, call, channel));
      const pixels = new Uint8ClampedArray(h * w * 4);
      for (let place = 0; place < h * w; place += 1) {
        for (let colour = 0; colour < 3; colour += 1) {
          let value = this.rgb[channels][colour];
          for (let channel = 0; channel < channels; channel += 1) value += values[channel][place] * scale * this.rgb[channel][colour];
          pixels[place * 4 + colour] = value * 255;
        }
        pixels[place * 4 + 3] = 255;
      }
      return new ImageData(pixels, w, h);
    }

    // The attention of one chip at one call; of the whole run (their mean) where call is null.
    map(chip, call) {
      const size = this.maps.h * this.maps.w;
      if (call === null) {
        if (!this.means.has(chip)) {
          const mean = new Float32Array(size);
          for (let each = 0; each < this.calls; each += 1) {
            const one = this.map(chip, each);
            for (let place = 0; place < size; place += 1) mean[place] += one[place] / this.calls;
          }
          this.means.set(chip, mean);
        }
        return this.means.get(chip);
      }
      const frame = chip * this.calls + call;
      const unit = this.maps.peaks[frame] / 255;
      return Float32Array.from(this.codes.maps.subarray(frame * size, (frame + 1) * size), (code) => code * unit);
    }

    // A word's map when all words compete for each place; word chips come first, the whole run is the last frame.
    competingMap(chip, call) {
      const size = this.maps.h * this.maps.w;
      const frame = chip * (this.calls + 1) + (call === null ? this.calls : call);
      const unit = this.competing.peaks[frame] / 255;
      return Float32Array.from(this.codes.competing.subarray(frame * size, (frame + 1) * size), (code) => code * unit);
    }

    difference(call) {
      const size = this.shapes.h * this.shapes.w;
      const unit = this.guidance.peaks[call] / 255;
      return Float32Array.from(this.codes.guidance.subarray(call * size, (call + 1) * size), (code) => code * unit);
    }
  }

  // The whole page in one place: the run, the step that the scrubber shows, the words, and who wants to hear of changes.
  const shared = {
    run: null,
    call: 0,
    words: {},
    onRun: new Set(),
    onCall: new Set(),
    say(key, values = {}) {
      return (this.words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
    },
    open(run) {
      this.run = run;
      this.call = Math.max(0, run.calls - 1);
      for (const listener of this.onRun) listener();
      this.goTo(this.call);
    },
    again() {
      for (const listener of this.onRun) listener();
      this.goTo(this.call);
    },
    goTo(call) {
      if (!this.run) return;
      this.call = Math.min(Math.max(call, 0), this.run.calls - 1);
      for (const listener of this.onCall) listener(this.call);
    },
  };
  const say = (key, values) => shared.say(key, values);
  // Some things are called otherwise where a transformer predicts (Stable Diffusion 3, FLUX, PixArt), and where it is velocity.
  const OF_A_TRANSFORMER = {
    "inside.box.unet": "inside.box.transformer", "inside.fact.calls": "inside.fact.calls.transformer", "inside.fact.prediction": "inside.fact.prediction.transformer",
    "inside.guidance.about": "inside.guidance.about.transformer", "inside.encoder.about": "inside.encoder.about.transformer", "inside.stopped": "inside.stopped.transformer",
    "inside.compare.parts": "inside.compare.parts.transformer", "inside.lockin.chart": "inside.lockin.chart.transformer", "inside.lockin.from": "inside.lockin.from.transformer",
  };
  const OF_FLOW = { "inside.denoise.equation": "inside.denoise.equation.flow", "inside.denoise.schedule": "inside.denoise.schedule.flow" };
  const sayOf = (run, key, values) => say((run.denoiser === "transformer" && OF_A_TRANSFORMER[key]) || (run.space === "flow" && OF_FLOW[key]) || key, values);

  const make = (tag, properties = {}, ...children) => {
    const node = tag === "svg" || properties.svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name === "svg" || value === false || value == null) continue;
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child != null));
    return node;
  };

  const number = (value, digits = 3) => (Number.isFinite(value) ? Number(value.toPrecision(digits)).toString() : "-");

  const put = (canvas, image) => {
    if (canvas.width !== image.width || canvas.height !== image.height) Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  const shade = (canvas, values, w, h, colourOf, alphaOf) => {
    const image = new ImageData(w, h);
    for (let place = 0; place < w * h; place += 1) {
      const [red, green, blue] = colourOf(values[place]);
      image.data.set([red, green, blue, alphaOf ? alphaOf(values[place]) : 255], place * 4);
    }
    put(canvas, image);
  };
  const code = (share) => Math.min(255, Math.max(0, Math.round(share * 255)));
  const paintPositive = (canvas, values, w, h, top) => shade(canvas, values, w, h, (value) => sequential[code(value / (top || 1))]);
  const paintSigned = (canvas, values, w, h, top) => shade(canvas, values, w, h, (value) => diverging[code(0.5 + value / (2 * (top || 1)))]);
  const greatest = (values) => values.reduce((top, value) => Math.max(top, value), 0);
  const canvas = (label) => make("canvas", { class: "inside-pixels", role: "img", "aria-label": label });

  const legend = (kind) => {
    const low = make("span"), middle = make("span"), high = make("span");
    const scale = make("span", { class: "inside-scale", style: `background:${gradient(kind === "signed" ? DIVERGING : CIVIDIS)}`, "aria-hidden": "true" });
    const node = make("div", { class: "inside-legend" }, low, scale, high);
    node.set = (top) => {
      low.textContent = kind === "signed" ? `-${number(top)}` : "0";
      middle.textContent = "0";
      high.textContent = kind === "signed" ? `+${number(top)}` : number(top);
    };
    return node;
  };

  // A small line chart over the calls of a run: lines are { name, values, dashed }, `mark(call)` moves the marker.
  const COLOURS = ["var(--inside-blue)", "var(--inside-orange)", "var(--body-text-color)", "var(--inside-green)", "var(--inside-pink)"];
  const chart = (lines, { label, count, low, high }) => {
    const values = lines.flatMap((line) => line.values).filter((value) => value != null);
    const bottom = low ?? Math.min(...values), top = high ?? Math.max(...values);
    const x = (call) => 46 + (count > 1 ? call / (count - 1) : 0.5) * 420;
    const y = (value) => 12 + (1 - (value - bottom) / (top - bottom || 1)) * 130;
    const words = (text, at, anchor, height) => make("text", { svg: true, x: at, y: height, "text-anchor": anchor, class: "inside-tick" }, text);
    const marker = make("line", { svg: true, y1: 8, y2: 146, class: "inside-marker" });
    const drawn = lines.map((line, index) => make("polyline", {
      svg: true, fill: "none", stroke: COLOURS[index % COLOURS.length], "stroke-width": 2.2, "stroke-dasharray": line.dashed ? "6 4" : null,
      points: line.values.map((value, call) => (value == null ? null : `${x(call).toFixed(1)},${y(value).toFixed(1)}`)).filter(Boolean).join(" "),
    }));
    const svg = make("svg", { viewBox: "0 0 480 166", role: "img", "aria-label": label, class: "inside-chart" },
      make("line", { svg: true, x1: 46, x2: 466, y1: 142, y2: 142, class: "inside-axis" }), ...drawn, marker,
      words(number(top), 42, "end", 17), words(number(bottom), 42, "end", 145), words("1", x(0), "middle", 160), words(String(count), x(count - 1), "middle", 160));
    const key = make("ul", { class: "inside-key" }, lines.map((line, index) => make("li", {},
      make("span", { class: line.dashed ? "dashed" : "solid", style: `border-color:${COLOURS[index % COLOURS.length]}`, "aria-hidden": "true" }), line.name)));
    const node = make("figure", { class: "inside-figure" }, svg, key);
    node.mark = (call) => { for (const end of ["x1", "x2"]) marker.setAttribute(end, x(call)); };
    node.mark(0);
    return node;
  };

  const figure = (caption, ...content) => make("figure", { class: "inside-figure" }, ...content, make("figcaption", {}, caption));
  const panel = (name, title, open, ...content) => make("details", { class: "inside-panel", id: `inside-panel-${name}`, open },
    make("summary", {}, make("span", { role: "heading", "aria-level": "3" }, title)), make("div", { class: "inside-body" }, ...content));
  const toggle = (label, checked, change) => {
    const box = make("input", { type: "checkbox", checked, change: () => change(box.checked) });
    return make("label", { class: "inside-toggle" }, box, make("span", {}, label));
  };

  // Keeps `element` in step with a Gradio component's properties: once now, and whenever one of them changes.
  const follow = (element, props, watch, names, show) => {
    const refresh = () => {
      if (props.words) shared.words = JSON.parse(props.words);
      show(element.querySelector(".inside-root") ?? element);
    };
    watch(names, refresh);
    refresh();
  };

  window.diffuscopeInside = {
    Run, shared, say, sayOf, make, number, put, shade, code, sequential, paintPositive, paintSigned, greatest, canvas, legend, chart, figure, panel, toggle, follow, COLOURS,
  };
})();
