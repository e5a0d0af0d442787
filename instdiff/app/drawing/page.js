// The page: what a person lays out and chooses goes to the server, pictures come back.

import { Canvas, colour } from "./canvas.js";
import { Layout, NAMES, PLACES } from "./layout.js";

const at = (id) => document.getElementById(id);
const NUMBERS = ["seed", "steps", "guidance_scale", "width", "height", "alpha", "mis", "strength"];
const token = location.hash.slice(1);
let image = null; // the picture to start from, as an address that holds it
let masked = true; // or "finest": how instances see only their own place, where they do
let slots = Infinity;
let words = [];

const layout = new Layout(() => show());
const kind = () => document.querySelector("[name=kind]:checked").value;
const name = () => at("instances").querySelector("[aria-current] input").focus({ preventScroll: true });
const canvas = new Canvas(at("canvas"), layout, kind, (pointer) => pointer !== "touch" && name());

// ---- the server ----------------------------------------------------------------------------------------------------

const asked = async (path, body) => {
  const method = body === undefined ? "GET" : "POST";
  const answer = await fetch(path, { method, body, headers: { Authorization: `Bearer ${token}` } }).catch(() => {
    throw new Error("the server does not answer: does `instdiff page` still run?");
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
};

const say = (sentence) => {
  at("message").textContent = sentence ?? "";
  at("message").hidden = !sentence;
  if (sentence) at("message").scrollIntoView({ block: "nearest" });
};

// Whatever goes wrong is shown as a sentence; what was laid out stays.
const careful = (action) => async (...given) => {
  say(null);
  try {
    await action(...given);
  } catch (error) {
    say(error.message);
  }
};

// ---- values --------------------------------------------------------------------------------------------------------

const values = () => {
  const numbers = NUMBERS.map((name) => {
    const field = at(name);
    if (field.value === "" || !field.checkValidity()) {
      throw new Error(`${field.labels[0]?.firstChild.textContent ?? name}: ${field.validationMessage || "a number is missing"}`);
    }
    return [name, field.valueAsNumber];
  });
  const formats = [...document.querySelectorAll("#formats input:checked")].map((one) => one.value);
  return { ...Object.fromEntries(numbers), formats, masked_attention: at("masked_attention").checked && masked };
};

const setValues = (chosen) => {
  for (const name of NUMBERS) at(name).value = chosen[name];
  at("masked_attention").checked = Boolean(chosen.masked_attention);
  for (const one of document.querySelectorAll("#formats input")) one.checked = chosen.formats.includes(one.value);
  canvas.resize(chosen.width, chosen.height);
};

const sketch = () => ({ prompt: at("prompt").value, instances: layout.instances });
const drawing = () => JSON.stringify({ sketch: sketch(), values: values(), image });

const setImage = (uri) => {
  image = uri;
  at("image-shown").src = uri ?? "data:,";
  at("canvas").style.backgroundImage = uri === null ? "" : `url("${uri}")`;
  at("image-shown").hidden = at("no-image").hidden = uri === null;
  if (uri === null) at("image").value = "";
  else at("begun").open = true;
};

// ---- the list of instances -----------------------------------------------------------------------------------------

const button = (text, label, action) => {
  const made = Object.assign(document.createElement("button"), { textContent: text, title: label });
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
};

const row = (one, place) => {
  const item = document.createElement("li");
  const swatch = Object.assign(document.createElement("span"), { className: "colour" });
  const phrase = Object.assign(document.createElement("input"), { value: one.phrase, placeholder: "what it is" });
  const [tools, places] = ["tools", "places"].map((className) => Object.assign(document.createElement("div"), { className }));
  swatch.style.background = colour(place);
  phrase.setAttribute("aria-label", `Phrase of instance ${place + 1}`);
  phrase.setAttribute("list", "words");
  phrase.setAttribute("autocomplete", "off");
  phrase.addEventListener("focus", () => {
    if (layout.chosen !== place) layout.choose(place);
    hint(phrase.value);
  });
  phrase.addEventListener("input", () => {
    layout.edit(place, { phrase: phrase.value }, `phrase ${place}`);
    hint(phrase.value);
  });
  phrase.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // or it would press the button that has the focus next
    layout.choose(null);
    at("add").focus();
  });
  const swap = (other, number) => {
    layout.swap(place, other);
    rows[layout.chosen]?.item.querySelectorAll(".tools button")[number].focus();
  };
  tools.append(
    button("↑", `Move instance ${place + 1} up`, () => swap(place - 1, 0)),
    button("↓", `Move instance ${place + 1} down`, () => swap(place + 1, 1)),
    button("✕", `Delete instance ${place + 1}`, () => layout.remove(place)),
  );
  for (const kind of PLACES.filter((name) => one[name])) {
    const name = NAMES[kind] ?? kind;
    places.append(button(`${name} ✕`, `Remove the ${name} of instance ${place + 1}`, () => layout.edit(place, { [kind]: null })));
  }
  if (!places.children.length) {
    places.append(
      button("+ box", `Give instance ${place + 1} a box`, () => {
        layout.edit(place, { box: [0.25, 0.25, 0.75, 0.75] });
        layout.choose(place);
        at("canvas").focus();
      }),
    );
  }
  item.append(swatch, phrase, tools, places);
  item.addEventListener("click", (event) => {
    if (!event.target.closest("button") && layout.chosen !== place) layout.choose(place);
  });
  return item;
};

// Words that go on from what is typed: a list of whole phrases, as browsers match them.
const hint = (typed) => {
  const before = typed.slice(0, typed.lastIndexOf(" ") + 1);
  at("words").replaceChildren(...words.map((word) => Object.assign(document.createElement("option"), { value: before + word })));
};

// Rows are made anew only where the places of their instance are others: whoever types goes on typing.
const rows = [];
const list = () => {
  layout.instances.forEach((one, place) => {
    const there = rows[place];
    if (there && PLACES.every((kind) => !there.one[kind] === !one[kind])) {
      const phrase = there.item.querySelector("input");
      if (phrase.value !== one.phrase) phrase.value = one.phrase;
      there.one = one;
      return;
    }
    const item = row(one, place);
    const focused = there?.item.contains(document.activeElement);
    if (there) there.item.replaceWith(item);
    else at("instances").append(item);
    rows[place] = { one, item };
    if (focused) item.querySelector("input").focus();
  });
  for (const { item } of rows.splice(layout.instances.length)) item.remove();
  rows.forEach(({ item }, place) => {
    if (place === layout.chosen) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  });
};

const show = () => {
  list();
  canvas.show();
  at("undo").disabled = !layout.canUndo;
  at("redo").disabled = !layout.canRedo;
  at("add").disabled = layout.instances.length >= slots;
};

// ---- drawing -------------------------------------------------------------------------------------------------------

const figure = (uri, what, name) => {
  const link = Object.assign(document.createElement("a"), { href: uri, download: name, title: "Save the picture" });
  link.append(Object.assign(document.createElement("img"), { src: uri, alt: what }));
  return link;
};

const showPictures = ({ pictures, folder, remarks }) => {
  at("pictures").replaceChildren(
    ...pictures.flatMap(([plain, laid]) => [
      figure(plain, "what was drawn", "picture.png"),
      figure(laid, "what was drawn, with its layout", "picture-layout.png"),
    ]),
  );
  at("remarks").textContent = [`kept in ${folder}`, ...remarks].join("; ");
};

const remember = (event, chosen) => {
  const held = structuredClone(sketch());
  const made = button("", `Back to seed ${chosen.seed}`, () => {
    at("prompt").value = held.prompt;
    layout.replace(held.instances);
    setValues(chosen);
    showPictures(event);
  });
  made.append(Object.assign(document.createElement("img"), { src: event.pictures[0][0], alt: "" }));
  at("history").prepend(made);
};

const busy = (is) => {
  at("draw").disabled = is;
  at("stop").hidden = at("progress").hidden = !is;
  at("progress").value = 0;
  at("step").value = is ? "begins" : "";
};

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.map((one) => JSON.parse(one));
  }
}

const draw = async () => {
  const [body, chosen] = [drawing(), values()];
  busy(true);
  try {
    for await (const event of lines((await asked("draw", body)).body)) {
      if (event.error) throw new Error(event.error);
      if (event.stopped) say("stopped: nothing was kept");
      if (event.step) {
        Object.assign(at("progress"), { max: event.of, value: event.step });
        at("step").value = event.step < event.of ? `step ${event.step} of ${event.of}` : "the picture is decoded";
      }
      if (event.pictures) {
        showPictures(event);
        remember(event, chosen);
      }
    }
  } finally {
    busy(false);
  }
};

// ---- files ---------------------------------------------------------------------------------------------------------

const showLayout = ({ prompt, instances }) => {
  at("prompt").value = prompt;
  layout.replace(instances);
};

const read = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });

const opened = async (file) => {
  const query = new URLSearchParams({ name: file.name, width: at("width").value, height: at("height").value });
  const { layout: found, remarks } = await (await asked(`open?${query}`, file)).json();
  showLayout(found);
  at("remarks").textContent = remarks.join("; ");
};

const saved = async () => {
  const { layout: written } = await (await asked("layout", drawing())).json();
  const uri = URL.createObjectURL(new Blob([JSON.stringify(written, null, 1), "\n"], { type: "application/json" }));
  Object.assign(document.createElement("a"), { href: uri, download: "layout.json" }).click();
  URL.revokeObjectURL(uri);
};

// ---- what a person does --------------------------------------------------------------------------------------------

at("add").addEventListener("click", () => {
  layout.add({});
  name();
});
at("undo").addEventListener("click", () => layout.undo());
at("redo").addEventListener("click", () => layout.redo());
at("open").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", careful(async () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file) await opened(file);
}));
at("save").addEventListener("click", careful(saved));
at("draw").addEventListener("click", careful(draw));
at("stop").addEventListener("click", careful(() => asked("stop", "")));
at("random").addEventListener("click", () => (at("seed").value = Math.floor(Math.random() * 2 ** 31)));
at("image").addEventListener("change", careful(async () => setImage(await read(at("image").files[0]))));
at("no-image").addEventListener("click", () => setImage(null));
for (const side of ["width", "height"]) {
  at(side).addEventListener("change", () => at(side).checkValidity() && canvas.resize(+at("width").value, +at("height").value));
}
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || event.target.id === "prompt") return;
  event.preventDefault();
  if (event.shiftKey) layout.redo();
  else layout.undo();
});

await careful(async () => {
  const begun = await (await asked("settings")).json();
  ({ slots, words } = begun);
  masked = begun.values.masked_attention || true;
  at("formats").append(
    ...begun.formats.map((name) => {
      const label = document.createElement("label");
      label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: name }), name);
      return label;
    }),
  );
  for (const side of ["width", "height"]) at(side).step = at(side).min = begun.scale;
  setValues(begun.values);
  if (begun.layout.instances.length || begun.layout.prompt) showLayout(begun.layout);
  if (begun.image) setImage(begun.image);
  show();
})();
document.body.dataset.ready = "";
