// Numbers, times and elements. Text from traffic only ever becomes text of an element.

const STEPS = ["", "k", "M", "G", "T", "P"];

// Returns a number as three digits, and its unit.
function scaled(value, unit) {
  let step = 0;
  while (value >= 999.5 && step < STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  const digits = step === 0 && Number.isInteger(value) ? 0 : value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return [value.toFixed(digits), `${STEPS[step]}${unit}`];
}

export const bits = (value) => scaled(Math.max(0, value), "bit/s");
export const bytes = (value) => scaled(value, "B");
export const amount = (value, unit) => scaled(value, unit);

export function count(value) {
  return value < 100000 ? [value.toLocaleString("en").replaceAll(",", " "), ""] : scaled(value, "");
}

export function share(value) {
  const percent = value * 100;
  if (percent === 0) return ["0", "%"];
  if (percent < 0.01) return ["<0.01", "%"];
  return [percent.toFixed(percent < 1 ? 2 : percent < 10 ? 1 : 0), "%"];
}

export function span(seconds) {
  if (seconds < 0.001) return [(seconds * 1e6).toFixed(0), "µs"];
  if (seconds < 1) return [(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0), "ms"];
  if (seconds < 100) return [seconds.toFixed(seconds < 10 ? 1 : 0), "s"];
  if (seconds < 6000) return [(seconds / 60).toFixed(0), "min"];
  if (seconds < 172800) return [(seconds / 3600).toFixed(0), "h"];
  return [(seconds / 86400).toFixed(0), "d"];
}

const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
export const clock = (ms) => CLOCK.format(ms);

// Times come with nanoseconds, which a browser need not read.
export const time = (text) => Date.parse(`${text.slice(0, 23)}Z`);

export function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

// Text in any direction, kept apart from what is around it.
export function isolated(text, classes) {
  const made = element("bdi", classes);
  made.textContent = text;
  return made;
}

// Shows a number and its unit, which is thinner. Changes nothing that is so already.
export function show(target, [value, unit]) {
  const shown = unit ? `${value}\u202f${unit}` : value;
  if (target.dataset.shown === shown) return;
  target.dataset.shown = shown;
  target.replaceChildren(value);
  if (unit) target.append(element("span", "unit", `\u202f${unit}`));
}

// A whole number with all its digits.
export const whole = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 72, HEIGHT = 20;

export function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

export function draw(svg, values) {
  const points = values.length > 1 ? values : [0, ...values, 0].slice(0, 2);
  const most = Math.max(...points, 1);
  const step = WIDTH / (points.length - 1);
  const line = points
    .map((value, n) => `${n ? "L" : "M"}${(n * step).toFixed(1)} ${(HEIGHT - 1.5 - (value / most) * (HEIGHT - 3)).toFixed(1)}`)
    .join("");
  const [area, stroke] = svg.children;
  area.setAttribute("d", `${line}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
  stroke.setAttribute("d", line);
}

// Makes the rows of a table's body those of the records, in their order; keeps rows by key.
export function rows(body, records, keyOf, make, update) {
  const kept = new Map();
  for (const row of [...body.children]) {
    // Names that differ may look alike once they are cleaned: the second row is made anew.
    if (kept.has(row.dataset.key)) row.remove();
    else kept.set(row.dataset.key, row);
  }
  let place = body.firstElementChild;
  for (const record of records) {
    const key = String(keyOf(record));
    let row = kept.get(key);
    if (row === undefined) {
      row = make(record);
      row.dataset.key = key;
    } else {
      kept.delete(key);
    }
    update(row, record);
    if (row === place) {
      place = place.nextElementSibling;
    } else {
      body.insertBefore(row, place);
    }
  }
  for (const row of kept.values()) row.remove();
}
