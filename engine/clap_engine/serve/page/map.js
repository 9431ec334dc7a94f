"use strict";
// The map: dots of a sample of clips, numbered hits on top, all reachable by keyboard.

class ClipMap {
  constructor(canvas, tip, onPick) {
    this.canvas = canvas;
    this.tip = tip;
    this.onPick = onPick;
    this.points = [];
    this.hits = [];
    this.lit = null; // the key of the clip that is pointed at
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.light(this.nearest(event)));
    canvas.addEventListener("pointerleave", () => this.light(null));
    canvas.addEventListener("blur", () => this.light(null));
    canvas.addEventListener("click", (event) => {
      const found = this.nearest(event);
      if (found) this.onPick(found.key);
    });
    canvas.addEventListener("keydown", (event) => this.walk(event));
  }

  show(points) { this.points = points; this.draw(); }

  mark(hits) {
    this.hits = hits.filter((hit) => hit.map).map((hit, i) => (
      { key: hit.key, x: hit.map[0], y: hit.map[1], rank: i + 1 }));
    const names = this.hits.slice(0, 5).map((hit) => `${hit.rank}: ${hit.key}`).join(", ");
    this.canvas.setAttribute("aria-label",
      `Map of ${this.points.length} clips` + (names ? `; hits ${names}` : ""));
    this.draw();
  }

  light(found) {
    const key = found ? found.key : null;
    if (key === this.lit) return;
    this.lit = key;
    for (const row of document.querySelectorAll(".hit")) {
      row.classList.toggle("lit", row.dataset.key === key);
    }
    this.tip.hidden = !found;
    if (found) {
      const [x, y] = this.place(found);
      this.tip.textContent = found.key;
      this.tip.style.left = `${Math.min(x + 10, this.canvas.clientWidth - 120)}px`;
      this.tip.style.top = `${Math.max(y - 28, 2)}px`;
    }
    this.draw();
  }

  all() { return [...this.points, ...this.hits]; }

  place(point) {
    const pad = 16, w = this.canvas.clientWidth - 2 * pad, h = this.canvas.clientHeight - 2 * pad;
    return [pad + (point.x + 1) / 2 * w, pad + (1 - point.y) / 2 * h];
  }

  nearest(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = 18 * 18;
    for (const point of this.all()) {
      const [px, py] = this.place(point), d = (px - x) ** 2 + (py - y) ** 2;
      if (d <= least) { best = point; least = d; }
    }
    return best;
  }

  walk(event) {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const now = this.all().find((point) => point.key === this.lit);
    if (event.key === "Enter" && now) this.onPick(now.key);
    if (event.key === "Escape") this.light(null);
    if (!way) return;
    event.preventDefault();
    if (!now) return this.light(this.hits[0] || this.points[0] || null);
    let best = null, least = Infinity;
    for (const point of this.all()) {
      const dx = point.x - now.x, dy = point.y - now.y;
      const along = dx * way[0] + dy * way[1], across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      if (point.key !== now.key && along > 1e-6 && along + 2 * across < least) {
        best = point;
        least = along + 2 * across;
      }
    }
    if (best) this.light(best);
  }

  draw() {
    const { canvas } = this, ratio = devicePixelRatio || 1;
    const w = canvas.clientWidth, h = canvas.clientHeight, style = getComputedStyle(document.documentElement);
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    const pen = canvas.getContext("2d"), ink = (name) => style.getPropertyValue(name).trim();
    pen.scale(ratio, ratio);
    pen.strokeStyle = ink("--line");
    pen.beginPath();
    for (const at of [0.25, 0.5, 0.75]) {
      pen.moveTo(Math.round(w * at) + .5, 0); pen.lineTo(Math.round(w * at) + .5, h);
      pen.moveTo(0, Math.round(h * at) + .5); pen.lineTo(w, Math.round(h * at) + .5);
    }
    pen.stroke();
    pen.fillStyle = ink("--dot");
    const size = this.points.length > 600 ? 1.7 : this.points.length > 200 ? 2.2 : 3;
    pen.globalAlpha = .75;
    for (const point of this.points) this.disc(pen, this.place(point), size);
    pen.globalAlpha = 1;
    for (const hit of [...this.hits].reverse()) {
      const at = this.place(hit), is = hit.key === this.lit;
      pen.fillStyle = ink("--hit");
      this.disc(pen, at, is ? 12 : hit.rank <= 10 ? 9 : 5);
      if (hit.rank > 10 && !is) continue;
      pen.fillStyle = ink("--panel");
      pen.font = "600 10px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(String(hit.rank), at[0], at[1] + .5);
    }
    const lit = this.all().find((point) => point.key === this.lit);
    if (lit) {
      pen.strokeStyle = ink("--focus");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...this.place(lit), 13, 0, 7);
      pen.stroke();
    }
  }

  disc(pen, [x, y], size) { pen.beginPath(); pen.arc(x, y, size, 0, 7); pen.fill(); }
}
