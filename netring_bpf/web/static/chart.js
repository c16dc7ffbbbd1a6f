// Throughput as stacked areas, and below it a strip of loss.

import { bits, clock, count, element, show } from "./format.js";

const LEFT = 64, RIGHT = 8, TOP = 8, AXIS = 22, STRIP = 10, GAP = 12;

const NICE = [1, 1.5, 2, 3, 4, 6, 8, 10];

function nice(most) {
  const size = 10 ** Math.floor(Math.log10(Math.max(most, 1)));
  return NICE.find((step) => step * size >= most) * size;
}

// Whole steps of time for about as many labels as there is room for.
function timeStep(span, labels) {
  const wanted = span / Math.max(labels, 1);
  return [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400]
    .find((step) => step >= wanted) ?? 86400 * Math.ceil(wanted / 86400);
}

export class Chart {
  #points = [];
  #shown = [];
  #span = 300;
  #cursor = null;
  #colours = {};
  #pending = false;

  constructor(box) {
    this.box = box;
    this.canvas = box.querySelector("canvas");
    this.range = box.querySelector("input");
    this.readout = box.querySelector(".readout");
    this.empty = box.querySelector(".empty");
    this.range.addEventListener("input", () => this.#point(Number(this.range.value)));
    this.range.addEventListener("focus", () => {
      if (!this.range.matches(":focus-visible")) return;
      this.#point(this.#shown.length - 1);
    });
    this.range.addEventListener("blur", () => this.#point(null));
    box.addEventListener("pointermove", (event) => this.#hover(event));
    box.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.#later()).observe(box);
    document.addEventListener("themechange", () => this.recolour());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
    this.recolour();
  }

  recolour() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["in", "out", "other", "bad", "grid", "muted", "text", "surface"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.font = `12px ${style.getPropertyValue("--sans")}`;
    this.#later();
  }

  set points(points) {
    this.#points = points;
    this.#later();
  }

  set span(seconds) {
    this.#span = seconds;
    this.#point(null);
  }

  #later() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      this.#draw();
    });
  }

  #hover(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = this.#start + ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * (this.#end - this.#start);
    let best = null;
    this.#shown.forEach((point, n) => {
      if (best === null || Math.abs(point.at - at) < Math.abs(this.#shown[best].at - at)) best = n;
    });
    this.#point(best);
  }

  #start = 0;
  #end = 1;

  #point(n) {
    this.#cursor = n === null || this.#shown[n] === undefined ? null : this.#shown[n].at;
    this.#later();
  }

  #draw() {
    const points = this.#points;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width || !height) return;
    this.empty.hidden = points.length > 0;
    const ratio = Math.min(devicePixelRatio || 1, 3);
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!points.length) return;

    this.#end = points.at(-1).at;
    this.#start = this.#end - this.#span * 1000;
    this.#shown = points.filter((point) => point.at >= this.#start);
    const most = nice(Math.max(...this.#shown.map((point) => point.in + point.out + point.other), 1000));
    const bottom = height - AXIS - STRIP - GAP;
    const x = (at) => LEFT + ((at - this.#start) / (this.#end - this.#start)) * (width - LEFT - RIGHT);
    const y = (value) => bottom - (value / most) * (bottom - TOP);

    pen.font = this.font;
    this.#grid(pen, most, y, width);
    this.#axis(pen, x, width, height);
    this.#areas(pen, x, y);
    this.#strip(pen, x, bottom + GAP, width);
    this.#mark(pen, x, y, bottom, width);
    this.#range();
  }

  #grid(pen, most, y, width) {
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.strokeStyle = this.#colours.grid;
    pen.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(most * part)) + 0.5;
      pen.beginPath();
      pen.moveTo(LEFT, at);
      pen.lineTo(width - RIGHT, at);
      pen.stroke();
      const [value, unit] = part ? bits(most * part) : ["0", ""];
      pen.fillStyle = this.#colours.muted;
      pen.fillText(`${Number(value)}${unit ? ` ${unit.replace("bit/s", "b/s")}` : ""}`, LEFT - 8, at);
    }
  }

  #axis(pen, x, width, height) {
    const step = timeStep(this.#span, (width - LEFT) / 110) * 1000;
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillStyle = this.#colours.muted;
    const zone = new Date(this.#end).getTimezoneOffset() * 60000;
    for (let at = Math.ceil((this.#start - zone) / step) * step + zone; at <= this.#end; at += step) {
      const place = x(at);
      const label = clock(at);
      const half = pen.measureText(label).width / 2;
      if (place - half < LEFT - 8 || place + half > width) continue;
      pen.fillText(step % 60000 ? label : label.slice(0, 5), place, height - 6);
    }
  }

  #areas(pen, x, y) {
    const under = new Array(this.#shown.length).fill(0);
    const lines = [];
    for (const kind of ["in", "out", "other"]) {
      const low = under.slice();
      this.#shown.forEach((point, n) => { under[n] += point[kind]; });
      if (under.every((value, n) => value === low[n])) continue;
      const line = new Path2D();
      this.#shown.forEach((point, n) => line.lineTo(x(point.at), y(under[n])));
      const area = new Path2D(line);
      for (let n = this.#shown.length - 1; n >= 0; n -= 1) area.lineTo(x(this.#shown[n].at), y(low[n]));
      area.closePath();
      pen.fillStyle = this.#colours[kind];
      pen.globalAlpha = 0.24;
      pen.fill(area);
      pen.globalAlpha = 1;
      lines.unshift([kind, line]);
    }
    // The lowest is drawn last: where those above add nothing, its line is the one to see.
    pen.lineWidth = 1.6;
    pen.lineJoin = "round";
    for (const [kind, line] of lines) {
      pen.strokeStyle = this.#colours[kind];
      pen.stroke(line);
    }
  }

  // A bar where frames were lost, the higher the more; a quiet line where none were.
  #strip(pen, x, top, width) {
    pen.fillStyle = this.#colours.grid;
    pen.fillRect(LEFT, top + STRIP - 2, width - LEFT - RIGHT, 2);
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    pen.fillStyle = this.#colours.muted;
    pen.fillText("loss", LEFT - 8, top + STRIP / 2 + 1);
    pen.fillStyle = this.#colours.bad;
    this.#shown.forEach((point, n) => {
      if (!point.lost) return;
      const from = n ? x(this.#shown[n - 1].at) : x(point.at) - 2;
      const high = 3 + (STRIP - 3) * Math.min(1, point.lost / (point.lost + point.received) * 10);
      pen.fillRect(from, top + STRIP - high, Math.max(2, x(point.at) - from), high);
    });
  }

  #mark(pen, x, y, bottom, width) {
    const point = this.#cursor === null ? undefined : this.#shown.find((found) => found.at === this.#cursor);
    this.readout.hidden = point === undefined;
    if (point === undefined) return;
    const place = Math.round(x(point.at)) + 0.5;
    pen.strokeStyle = this.#colours.muted;
    pen.lineWidth = 1;
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(place, TOP);
    pen.lineTo(place, bottom + GAP + STRIP);
    pen.stroke();
    pen.setLineDash([]);
    let sum = 0;
    for (const kind of ["in", "out", "other"]) {
      if (!point[kind]) continue;
      sum += point[kind];
      pen.beginPath();
      pen.arc(place, y(sum), 3.5, 0, 7);
      pen.fillStyle = this.#colours[kind];
      pen.fill();
      pen.strokeStyle = this.#colours.surface;
      pen.stroke();
    }
    this.readout.replaceChildren(element("strong", "", clock(point.at)));
    for (const [kind, label] of [["in", "In"], ["out", "Out"], ["other", "Other"]]) {
      const value = element("span", "value");
      show(value, bits(point[kind]));
      this.readout.append(element("span", "", element("i", `swatch ${kind}`), label), value);
    }
    const lost = element("span", "value");
    show(lost, count(point.lost));
    this.readout.append(element("span", "", "Lost"), lost);
    const left = place > width / 2;
    this.readout.style.left = left ? "" : `${place + 12}px`;
    this.readout.style.right = left ? `${width - place + 12}px` : "";
  }

  #range() {
    const last = Math.max(0, this.#shown.length - 1);
    this.range.max = last;
    const n = this.#cursor === null ? last : this.#shown.findIndex((point) => point.at === this.#cursor);
    this.range.value = Math.max(0, n);
    const point = this.#shown[n < 0 ? last : n];
    if (point === undefined) return;
    const said = ["in", "out", "other"].map((kind) => `${kind} ${bits(point[kind]).join(" ")}`);
    this.range.setAttribute("aria-valuetext", `${clock(point.at)}: ${said.join(", ")}, ${point.lost} frames lost`);
    const peak = Math.max(...this.#shown.map((found) => found.in + found.out + found.other));
    const gone = this.#shown.reduce((sum, found) => sum + found.lost, 0);
    this.canvas.setAttribute(
      "aria-label",
      `Throughput of the last ${this.#span} seconds: at most ${bits(peak).join(" ")}; ${gone} frames lost`,
    );
  }
}
