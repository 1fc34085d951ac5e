// Marking a rectangle of latent cells: drag with a pointer, or move it with the arrow keys and size it with Shift.
window.diffuscopeMarkCells = (root, trigger) => {
  let start = null;
  const canvasOf = (event) => event.target.closest?.(".latent-canvas");
  const number = (canvas, name) => Number(canvas.dataset[name]);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const cellAt = (canvas, event) => {
    const box = canvas.getBoundingClientRect();
    return [
      clamp(Math.floor(((event.clientX - box.left) / box.width) * number(canvas, "columns")), 0, number(canvas, "columns") - 1),
      clamp(Math.floor(((event.clientY - box.top) / box.height) * number(canvas, "rows")), 0, number(canvas, "rows") - 1),
    ];
  };
  const mark = (canvas, x, y, w, h) => {
    Object.assign(canvas.dataset, { x, y, w, h });
    const [columns, rows] = [number(canvas, "columns"), number(canvas, "rows")];
    const style = canvas.querySelector(".marked").style;
    style.left = `${(100 * x) / columns}%`;
    style.top = `${(100 * y) / rows}%`;
    style.width = `${(100 * w) / columns}%`;
    style.height = `${(100 * h) / rows}%`;
  };
  // Once the keys rest: answers to a burst of events would overtake each other.
  let telling = 0;
  const tell = (canvas) => {
    clearTimeout(telling);
    telling = setTimeout(() => say(canvas), 120);
  };
  const say = (canvas) => trigger("click", Object.fromEntries(["x", "y", "w", "h"].map((name) => [name, number(canvas, name)])));
  root.addEventListener("pointerdown", (event) => {
    const canvas = canvasOf(event);
    if (!canvas) return;
    start = cellAt(canvas, event);
    canvas.setPointerCapture(event.pointerId);
    mark(canvas, ...start, 1, 1);
  });
  root.addEventListener("pointermove", (event) => {
    const canvas = canvasOf(event);
    if (!canvas || !start) return;
    const [x, y] = cellAt(canvas, event);
    mark(canvas, Math.min(x, start[0]), Math.min(y, start[1]), Math.abs(x - start[0]) + 1, Math.abs(y - start[1]) + 1);
  });
  root.addEventListener("pointerup", (event) => {
    const canvas = canvasOf(event);
    if (canvas && start) tell(canvas);
    start = null;
  });
  root.addEventListener("keydown", (event) => {
    const canvas = canvasOf(event);
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!canvas || !move) return;
    event.preventDefault();
    let [x, y, w, h] = ["x", "y", "w", "h"].map((name) => number(canvas, name));
    const [columns, rows] = [number(canvas, "columns"), number(canvas, "rows")];
    if (event.shiftKey) {
      w = clamp(w + move[0], 1, columns - x);
      h = clamp(h + move[1], 1, rows - y);
    } else {
      x = clamp(x + move[0], 0, columns - w);
      y = clamp(y + move[1], 0, rows - h);
    }
    mark(canvas, x, y, w, h);
    tell(canvas);
  });
};
