// The layout that is laid out, and its way back. Places are fractions of the picture. A mask is `ring`, what was gone
// round, or `mask`, run lengths of a file, moved by `shift`.

export const PLACES = ["box", "ring", "mask", "scribble", "point", "outline"];
export const NAMES = { ring: "mask" };
const LINES = ["ring", "scribble", "outline"];
const MOST = 200; // states to go back to

export class Layout {
  instances = []; // replaced when it changes, and so is an instance of it
  chosen = null; // the instance that strokes belong to
  #before = [];
  #after = [];

  constructor(changed) {
    this.changed = changed;
  }

  get instance() {
    return this.chosen === null ? null : this.instances[this.chosen];
  }

  // Everything that changes goes through here: what was before can be come back to. Steps of one drag share a name.
  change(how, name = null) {
    const before = { instances: this.instances, chosen: this.chosen };
    how();
    if (name === null || this.name !== name) this.#before = [...this.#before, before].slice(-MOST);
    this.name = name;
    this.#after = [];
    this.changed();
  }

  choose(place) {
    this.chosen = place;
    this.name = null;
    this.changed();
  }

  add(instance) {
    this.change(() => {
      this.instances = [...this.instances, { phrase: "", ...instance }];
      this.chosen = this.instances.length - 1;
    });
  }

  edit(place, fields, name = null) {
    this.change(() => {
      this.instances = this.instances.map((one, at) => (at === place ? without({ ...one, ...fields }) : one));
    }, name);
  }

  remove(place) {
    this.change(() => {
      this.instances = this.instances.filter((_, at) => at !== place);
      this.chosen = null;
    });
  }

  swap(place, other) {
    if (other < 0 || other >= this.instances.length) return;
    this.change(() => {
      const swapped = [...this.instances];
      [swapped[place], swapped[other]] = [swapped[other], swapped[place]];
      this.instances = swapped;
      this.chosen = other;
    });
  }

  replace(instances) {
    this.change(() => {
      this.instances = instances;
      this.chosen = null;
    });
  }

  undo() {
    this.#go(this.#before, this.#after);
  }

  redo() {
    this.#go(this.#after, this.#before);
  }

  get canUndo() {
    return this.#before.length > 0;
  }

  get canRedo() {
    return this.#after.length > 0;
  }

  #go(from, to) {
    if (!from.length) return;
    to.push({ instances: this.instances, chosen: this.chosen });
    ({ instances: this.instances, chosen: this.chosen } = from.pop());
    this.name = null;
    this.changed();
  }
}

const without = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
const within = (number) => Math.min(1, Math.max(0, number));

// The places of an instance, this far to the right and down; a box keeps its size within the picture.
export const moved = (one, dx, dy) => {
  const there = {};
  if (one.box) {
    const [left, top, right, bottom] = one.box;
    const [x, y] = [Math.max(-left, Math.min(1 - right, dx)), Math.max(-top, Math.min(1 - bottom, dy))];
    there.box = [left + x, top + y, right + x, bottom + y];
  }
  if (one.point) there.point = [within(one.point[0] + dx), within(one.point[1] + dy)];
  for (const kind of LINES) if (one[kind]) there[kind] = one[kind].map(([x, y]) => [within(x + dx), within(y + dy)]);
  if (one.mask) there.shift = [(one.shift?.[0] ?? 0) + dx, (one.shift?.[1] ?? 0) + dy];
  return there;
};

// A box with its right and bottom edges moved.
export const sized = ([left, top, right, bottom], dx, dy) => [
  left,
  top,
  within(Math.max(left + 0.01, right + dx)),
  within(Math.max(top + 0.01, bottom + dy)),
];

// What a stroke says, in the field of its kind; null where it says nothing.
export const said = (kind, stroke) => {
  const [xs, ys] = [stroke.map((at) => at[0]), stroke.map((at) => at[1])];
  if (kind === "box") {
    const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    return box[2] - box[0] > 0.005 && box[3] - box[1] > 0.005 ? { box } : null;
  }
  if (kind === "ring") return stroke.length > 2 ? { ring: stroke, mask: null, shift: null } : null;
  return kind === "point" ? { point: stroke.at(-1) } : { [kind]: stroke };
};

// Pixels of COCO's compressed run lengths, as a canvas of this colour.
export const bitmap = ({ size: [height, width], counts }, colour) => {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let [run, bits, more] = [0, 0, true];
    while (more) {
      const code = counts.charCodeAt(at++) - 48;
      run |= (code & 31) << bits;
      bits += 5;
      more = (code & 32) > 0;
      if (!more && code & 16) run |= -1 << bits;
    }
    runs.push(runs.length > 2 ? run + runs.at(-2) : run);
  }
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = colour;
  let place = 0;
  runs.forEach((run, number) => {
    for (let left = number % 2 ? run : 0, from = place; left > 0; ) {
      const length = Math.min(left, height - (from % height));
      pen.fillRect(Math.floor(from / height), from % height, 1, length);
      from += length;
      left -= length;
    }
    place += run;
  });
  return canvas;
};
