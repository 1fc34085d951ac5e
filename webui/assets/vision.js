// The Vision page: one station at a time, and attention that switches layers, heads and queries without the server.
(() => {
  "use strict";
  const root = document.documentElement;
  const strip = () => document.querySelector("#vision-pipeline .pipeline");
  const show = (station) => {
    root.dataset.visionStation = station;
    for (const button of strip()?.querySelectorAll("[data-station]") ?? [])
      button.setAttribute("aria-pressed", String(button.dataset.station === station));
  };
  root.dataset.visionStation = "patches";
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#vision-pipeline button");
    if (!button) return;
    if (button.dataset.station) return show(button.dataset.station);
    const all = [...strip().querySelectorAll("[data-station]")];
    const place = all.findIndex((one) => one.dataset.station === root.dataset.visionStation) + Number(button.dataset.step);
    const next = all[Math.min(Math.max(place, 0), all.length - 1)];
    show(next.dataset.station);
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
  });

  // A picture dropped or pasted anywhere on the page is the one to look at.
  const take = (event, files) => {
    const input = document.querySelector("#vision-picture input[type=file]"), page = document.querySelector("#vision-page");
    if (!input || !page || page.offsetParent === null || !files?.length) return;
    root.classList.remove("dropping");
    event.preventDefault();
    event.stopImmediatePropagation();
    const chosen = new DataTransfer();
    chosen.items.add(files[0]);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("drop", (event) => take(event, event.dataTransfer?.files), true);
  document.addEventListener("paste", (event) => take(event, event.clipboardData?.files), true);

  const onChange = (element, redraw) => {
    new MutationObserver(redraw).observe(element, { childList: true, subtree: true });
    redraw();
  };
  window.diffuscopePipeline = (element) => onChange(element, () => {
    if (strip()?.querySelector("[aria-pressed=true]")) return;
    show(root.dataset.visionStation);
  });

  // A grid of patches that is a choice: by click, or with the arrow keys and Enter.
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const chooseWithKeys = (event, grid, chosen, choose) => {
    if (!(event.key in step)) return;
    event.preventDefault();
    const columns = Number(grid.dataset.columns), count = grid.querySelectorAll(".patch").length;
    const [down, across] = step[event.key];
    const row = Math.floor(chosen / columns) + down, column = (chosen % columns) + across;
    if (row >= 0 && column >= 0 && column < columns && row * columns + column < count) choose(row * columns + column);
  };
  window.diffuscopePatches = (element, trigger) => {
    const mark = (patch) => {
      for (const one of element.querySelectorAll(".patch")) one.classList.toggle("chosen", one.dataset.patch === String(patch));
      trigger("click", { patch });
    };
    element.addEventListener("click", (event) => {
      const patch = event.target.closest(".patch");
      if (patch) mark(Number(patch.dataset.patch));
    });
    element.addEventListener("keydown", (event) => {
      const grid = event.target.closest(".patch-grid");
      if (grid) chooseWithKeys(event, grid, Number(grid.querySelector(".chosen")?.dataset.patch ?? 0), mark);
    });
  };

  const colour = (stops, share) => {
    const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    const mix = (at) => {
      const [a, b] = [low, low + 1].map((i) => parseInt(stops[i].slice(at, at + 2), 16));
      return Math.round(a + (b - a) * (place - low));
    };
    return `rgb(${mix(1)},${mix(3)},${mix(5)})`;
  };

  window.diffuscopeAttention = (element, trigger) => {
    let box = null, data = null;
    const read = () => {
      const bytes = Uint8Array.from(atob(box.dataset.weights), (letter) => letter.charCodeAt(0));
      const json = (name) => JSON.parse(box.dataset[name]);
      const [layer, head, token] = json("state");
      data = { weights: new Uint16Array(bytes.buffer), queries: json("queries"), shape: json("shape"), grid: json("grid"), stops: json("scale"), layer, head, token };
      box.removeAttribute("data-weights");
    };
    const rowOf = (layer, head) => {
      const [, heads, queries, tokens] = data.shape, query = data.queries.indexOf(data.token);
      const one = (h) => data.weights.subarray(((layer * heads + h) * queries + query) * tokens, ((layer * heads + h) * queries + query + 1) * tokens);
      if (head >= 0) return Array.from(one(head), (value) => value / 65535);
      const mean = new Array(tokens).fill(0);
      for (let h = 0; h < heads; h++) one(h).forEach((value, i) => { mean[i] += value / 65535 / heads; });
      return mean;
    };
    const nameOf = (token) => token === 0 ? "[CLS]" : box.dataset.patchName.replace("{number}", token)
      .replace("{row}", Math.floor((token - 1) / data.grid[1]) + 1).replace("{column}", ((token - 1) % data.grid[1]) + 1);
    const cell = 26, gap = 4;
    const drawAtlas = () => {
      const [layers, heads] = data.shape, [rows, columns] = data.grid, canvas = box.querySelector(".attention-atlas");
      canvas.width = heads * (cell + gap);
      canvas.height = layers * (cell + gap);
      const pen = canvas.getContext("2d");
      for (let layer = 0; layer < layers; layer++) for (let head = 0; head < heads; head++) {
        const patches = rowOf(layer, head).slice(1), most = Math.max(...patches) || 1;
        const left = head * (cell + gap) + gap / 2, top = layer * (cell + gap) + gap / 2;
        patches.forEach((value, i) => {
          pen.fillStyle = colour(data.stops, value / most);
          pen.fillRect(left + (i % columns) * cell / columns, top + Math.floor(i / columns) * cell / rows, cell / columns + 0.5, cell / rows + 0.5);
        });
        if (layer === data.layer && head === data.head) { pen.strokeStyle = "#d55e00"; pen.lineWidth = 3; pen.strokeRect(left - 1, top - 1, cell + 2, cell + 2); }
      }
    };
    const draw = () => {
      const row = rowOf(data.layer, data.head), most = Math.max(...row.slice(1)) || 1;
      for (const patch of box.querySelectorAll(".patch")) {
        const number = Number(patch.dataset.patch), share = row[number + 1] / most;
        patch.style.fill = colour(data.stops, share);
        patch.style.fillOpacity = (0.2 + 0.6 * share).toFixed(2);
        patch.classList.toggle("chosen", number + 1 === data.token);
      }
      for (const name of ["layer", "head"]) box.querySelector(`[data-control=${name}]`).value = String(data[name]);
      const order = row.map((value, i) => [value, i]).sort((a, b) => b[0] - a[0]);
      const head = data.head < 0 ? box.dataset.mean : data.head + 1;
      const words = box.dataset.said.replace("{layer}", data.layer + 1).replace("{head}", head).replace("{query}", nameOf(data.token))
        .replace("{most}", nameOf(order[0][1])).replace("{share}", `${(100 * order[0][0]).toFixed(1)} %`).replace("{class_share}", `${(100 * row[0]).toFixed(1)} %`);
      box.querySelector(".attention-said").textContent = words;
      box.querySelector(".patch-grid").setAttribute("aria-label", words);
      box.querySelector(".attention-most").textContent = `${(100 * most).toFixed(2)} %`;
      const table = document.createElement("table");
      table.className = "numbers-table";
      for (const [value, token] of order.slice(0, 20)) {
        const line = table.insertRow();
        line.insertCell().textContent = nameOf(token);
        line.insertCell().textContent = value.toFixed(5);
      }
      box.querySelector("details > div").replaceChildren(table);
      box.querySelector("[data-work]").disabled = data.head < 0;
      drawAtlas();
    };
    const look = (token) => {
      data.token = token;
      if (data.queries.includes(token)) draw();
      else trigger("click", { action: "row", layer: data.layer, head: data.head, token });
    };
    onChange(element, () => {
      const found = element.querySelector(".attention[data-weights]");
      if (!found) return;
      box = found;
      read();
      draw();
    });
    element.addEventListener("change", (event) => {
      const control = event.target.dataset.control;
      if (!control) return;
      event.stopPropagation();
      data[control] = Number(event.target.value);
      draw();
    });
    element.addEventListener("click", (event) => {
      const patch = event.target.closest(".patch"), atlas = event.target.closest(".attention-atlas");
      if (patch) look(Number(patch.dataset.patch) + 1);
      else if (event.target.closest("[data-query]")) look(0);
      else if (event.target.closest("[data-work]")) trigger("click", { action: "work", layer: data.layer, head: data.head, token: data.token });
      else if (atlas) {
        const frame = atlas.getBoundingClientRect(), [layers, heads] = data.shape;
        data.head = Math.min(Math.floor((event.clientX - frame.left) / frame.width * heads), heads - 1);
        data.layer = Math.min(Math.floor((event.clientY - frame.top) / frame.height * layers), layers - 1);
        draw();
      }
    });
    element.addEventListener("keydown", (event) => {
      const [layers, heads] = data ? data.shape : [0, 0];
      if (event.target.closest(".patch-grid")) chooseWithKeys(event, event.target.closest(".patch-grid"), Math.max(data.token - 1, 0), (patch) => look(patch + 1));
      else if (event.target.closest(".attention-atlas") && event.key in step) {
        event.preventDefault();
        const [down, across] = step[event.key];
        data.layer = Math.min(Math.max(data.layer + down, 0), layers - 1);
        data.head = Math.min(Math.max(data.head + across, 0), heads - 1);
        draw();
      }
    });
  };
})();
