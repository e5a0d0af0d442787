// What is laid out, drawn and changed on the canvas: by mouse, pen, finger and keys.

import { bitmap, moved, said, sized } from "./layout.js";

const SIDE = 1024; // pixels of the longer side
const NEAR = 14; // CSS pixels within which a corner is taken
const COLOURS = ["#ff6b5e", "#4dabf7", "#51cf66", "#fcc419", "#da77f2", "#22d3c5", "#ff922b", "#f783ac"];
export const colour = (place) => COLOURS[place % COLOURS.length];

export class Canvas {
  #stroke = null; // what is drawn now: {kind, points}, or {kind: "move", from, corner}
  #bitmaps = new WeakMap();
  #drags = 0;

  // `kind` tells the chosen tool; `begun` is called when a stroke has begun an instance.
  constructor(element, layout, kind, begun) {
    Object.assign(this, { element, layout, kind, begun, pen: element.getContext("2d") });
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event.pointerType));
    element.addEventListener("pointercancel", () => {
      this.#stroke = null;
      this.show();
    });
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  resize(width, height) {
    const share = SIDE / Math.max(width, height);
    this.element.width = Math.round(width * share);
    this.element.height = Math.round(height * share);
    this.show();
  }

  show() {
    const { element, pen, layout } = this;
    pen.clearRect(0, 0, element.width, element.height);
    layout.instances.forEach((one, place) => this.#instance(one, place));
    if (this.#stroke?.points) this.#line(this.#stroke.kind, this.#stroke.points, "white", true);
    const names = layout.instances.map((one) => one.phrase || "an instance without a phrase");
    element.setAttribute("aria-label", names.length ? `Layout: ${names.join(", ")}` : "An empty layout");
  }

  // As many CSS pixels in pixels of the canvas.
  #px(number) {
    return (number * this.element.width) / (this.element.clientWidth || 512);
  }

  #instance(one, place) {
    const { element, pen, layout } = this;
    const [shade, chosen] = [colour(place), place === layout.chosen];
    if (one.mask) {
      if (!this.#bitmaps.has(one.mask)) this.#bitmaps.set(one.mask, bitmap(one.mask, shade));
      const [dx, dy] = one.shift ?? [0, 0];
      pen.globalAlpha = 0.4;
      const [x, y] = [dx * element.width, dy * element.height];
      pen.drawImage(this.#bitmaps.get(one.mask), x, y, element.width, element.height);
      pen.globalAlpha = 1;
    }
    for (const kind of ["ring", "scribble", "outline"]) if (one[kind]) this.#line(kind, one[kind], shade, chosen);
    if (one.point) this.#line("point", [one.point], shade, chosen);
    if (one.box) {
      const [left, top, right, bottom] = one.box;
      this.#line("box", [[left, top], [right, bottom]], shade, chosen);
      if (chosen) for (const [x, y] of corners(one.box)) this.#dot(x, y, shade);
    }
    const at = anchor(one);
    if (at && one.phrase) this.#label(one.phrase, at, shade);
  }

  #line(kind, points, shade, chosen) {
    const { element, pen } = this;
    const path = new Path2D();
    const at = points.map(([x, y]) => [x * element.width, y * element.height]);
    const [[x, y], [right, bottom]] = [at[0], at.at(-1)];
    if (kind === "box") path.rect(x, y, right - x, bottom - y);
    else if (kind === "point") path.arc(right, bottom, this.#px(5), 0, 7);
    else at.forEach((one) => path.lineTo(...one));
    if (kind === "ring" || kind === "outline") path.closePath();
    pen.fillStyle = shade;
    pen.globalAlpha = kind === "ring" ? 0.35 : 1;
    if (kind === "ring" || kind === "point") pen.fill(path);
    pen.globalAlpha = 1;
    for (const [ink, width] of [["#0009", chosen ? 4.5 : 3], [shade, chosen ? 2.5 : 1.5]]) {
      pen.strokeStyle = ink;
      pen.lineWidth = this.#px(width);
      pen.stroke(path);
    }
  }

  #dot(x, y, shade) {
    const { element, pen } = this;
    pen.fillStyle = shade;
    pen.strokeStyle = "#000";
    pen.lineWidth = this.#px(1);
    pen.beginPath();
    pen.arc(x * element.width, y * element.height, this.#px(6), 0, 7);
    pen.fill();
    pen.stroke();
  }

  #label(text, [x, y], shade) {
    const { element, pen } = this;
    pen.font = `600 ${this.#px(12)}px system-ui, sans-serif`;
    const [width, height] = [pen.measureText(text).width + this.#px(8), this.#px(17)];
    const left = Math.max(0, Math.min(element.width - width, x * element.width));
    const top = Math.max(0, y * element.height - height);
    pen.fillStyle = shade;
    pen.fillRect(left, top, width, height);
    pen.fillStyle = "#000";
    pen.fillText(text, left + this.#px(4), top + height * 0.75);
  }

  #place(event) {
    const frame = this.element.getBoundingClientRect();
    const share = (distance, length) => Math.min(1, Math.max(0, distance / length));
    return [share(event.clientX - frame.left, frame.width), share(event.clientY - frame.top, frame.height)];
  }

  #down(event) {
    if (event.button > 0) return;
    const at = this.#place(event);
    this.element.setPointerCapture(event.pointerId);
    if (this.kind() !== "move") {
      this.#stroke = { kind: this.kind(), points: [at] };
      this.show();
      return;
    }
    const corner = this.#corner(at);
    if (corner === null) this.layout.choose(this.#under(at));
    this.#drags += 1;
    if (this.layout.instance) this.#stroke = { kind: "move", from: at, corner, name: `drag ${this.#drags}` };
  }

  #move(event) {
    if (!this.#stroke) return;
    const at = this.#place(event);
    const { kind, points, from, corner, name } = this.#stroke;
    if (kind === "move") {
      const [dx, dy] = [at[0] - from[0], at[1] - from[1]];
      const { instance, chosen } = this.layout;
      const fields = corner === null ? moved(instance, dx, dy) : { box: cornered(instance.box, corner, dx, dy) };
      this.#stroke.from = at;
      this.layout.edit(chosen, fields, name);
      return;
    }
    const kept = { box: points.slice(0, 1), point: [] }[kind] ?? points;
    this.#stroke.points = [...kept, at];
    this.show();
  }

  #up(pointer) {
    const stroke = this.#stroke;
    this.#stroke = null;
    if (stroke && stroke.kind !== "move") {
      const fields = said(stroke.kind, stroke.points);
      if (fields && this.layout.instance) this.layout.edit(this.layout.chosen, fields);
      else if (fields) {
        this.layout.add(fields);
        this.begun(pointer);
      }
    }
    this.show();
  }

  #key(event) {
    const { layout } = this;
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    const instance = layout.instance;
    if ((dx || dy) && instance) {
      const [x, y] = [dx / 64, dy / 64];
      if (!event.shiftKey) layout.edit(layout.chosen, moved(instance, x, y), "arrows");
      else if (instance.box) layout.edit(layout.chosen, { box: sized(instance.box, x, y) }, "sizes");
    } else if (event.key === "Delete" && instance) layout.remove(layout.chosen);
    else if (event.key === "Escape") layout.choose(null);
    else return;
    event.preventDefault();
  }

  // The corner of the chosen box that is near, or null.
  #corner([x, y]) {
    const box = this.layout.instance?.box;
    if (!box) return null;
    const { clientWidth, clientHeight } = this.element;
    const near = corners(box).findIndex(
      ([cx, cy]) => Math.hypot((x - cx) * clientWidth, (y - cy) * clientHeight) < NEAR,
    );
    return near < 0 ? null : near;
  }

  // The smallest instance whose places lie around there, or null.
  #under([x, y]) {
    const around = this.layout.instances
      .map((one, place) => ({ place, frame: frame(one) }))
      .filter(({ frame: [left, top, right, bottom] }) => x >= left && x <= right && y >= top && y <= bottom);
    const area = ({ frame: [left, top, right, bottom] }) => (right - left) * (bottom - top);
    return around.sort((one, other) => area(one) - area(other))[0]?.place ?? null;
  }
}

const corners = ([left, top, right, bottom]) => [[left, top], [right, top], [right, bottom], [left, bottom]];

const cornered = ([left, top, right, bottom], corner, dx, dy) => {
  const [x0, x1] = corner === 0 || corner === 3 ? [left + dx, right] : [left, right + dx];
  const [y0, y1] = corner < 2 ? [top + dy, bottom] : [top, bottom + dy];
  return [Math.min(x0, x1 - 0.01), Math.min(y0, y1 - 0.01), Math.max(x1, x0 + 0.01), Math.max(y1, y0 + 0.01)];
};

// The box around all places of an instance, a little wider than a point; a mask of a file counts as the whole picture.
const frame = (one) => {
  const lines = [...(one.ring ?? []), ...(one.scribble ?? []), ...(one.outline ?? []), ...(one.point ? [one.point] : [])];
  const box = one.box ? [one.box.slice(0, 2), one.box.slice(2)] : [];
  const places = [...lines, ...box];
  if (!places.length) return one.mask ? [0, 0, 1, 1] : [2, 2, 2, 2];
  const [xs, ys] = [places.map((at) => at[0]), places.map((at) => at[1])];
  return [Math.min(...xs) - 0.03, Math.min(...ys) - 0.03, Math.max(...xs) + 0.03, Math.max(...ys) + 0.03];
};

const anchor = (one) => one.box?.slice(0, 2) ?? one.point ?? one.ring?.[0] ?? one.scribble?.[0] ?? one.outline?.[0] ?? null;
