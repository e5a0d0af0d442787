// The canvas of the page, run by gradio with `element`, `props` and `watch`.
// props.value holds the strokes of one instance, {kind: [[x, y], ...]} in fractions of the picture; a new stroke of a
// kind takes the place of the last one. A box is its two corners, a point is one place.

const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d");
let stroke = null; // the one under the mouse

const chosen = () => element.querySelector("input:checked").value;

const place = (event) => {
  const frame = canvas.getBoundingClientRect();
  const share = (distance, length) => Math.min(1, Math.max(0, distance / length));
  return [share(event.clientX - frame.left, frame.width), share(event.clientY - frame.top, frame.height)];
};

const outline = (kind, points) => {
  const path = new Path2D();
  const [[x, y], [right, bottom]] = [points[0], points.at(-1)];
  if (kind === "box") path.rect(x, y, right - x, bottom - y);
  else if (kind === "point") path.arc(x, y, 5, 0, 7);
  else points.forEach((at) => path.lineTo(...at));
  if (kind === "mask") path.closePath();
  return path;
};

const show = () => {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const strokes = { ...props.value, ...(stroke && { [chosen()]: stroke }) };
  for (const [kind, points] of Object.entries(strokes)) {
    const path = outline(kind, points.map(([x, y]) => [x * canvas.width, y * canvas.height]));
    pen.fillStyle = kind === "mask" ? "rgba(255, 255, 255, 0.35)" : "white";
    if (kind === "mask" || kind === "point") pen.fill(path);
    for (const [colour, width] of [["black", 4], ["white", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke(path);
    }
  }
};

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  stroke = [place(event)];
  show();
});

canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const kept = { box: stroke.slice(0, 1), point: [] }[chosen()] ?? stroke;
  stroke = [...kept, place(event)];
  show();
});

canvas.addEventListener("pointerup", () => {
  if (!stroke) return;
  props.value = { ...props.value, [chosen()]: stroke };
  stroke = null;
  show();
});

canvas.addEventListener("pointercancel", () => {
  stroke = null;
  show();
});

element.querySelector("button").addEventListener("click", () => {
  props.value = {};
  show();
});

watch("value", show);

element.dataset.ready = ""; // strokes count from now on
