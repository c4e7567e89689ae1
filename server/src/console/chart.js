// Small line charts of the last minutes, drawn as SVG.

const MINUTE = 60 * 1000;
/** How far back a chart reaches: the shortest of these that has all samples. */
const SPANS = [MINUTE, 2 * MINUTE, 5 * MINUTE];
const SPAN = SPANS.at(-1);
/** Samples that are further apart are not connected: the page was hidden, or the server did not answer. */
const GAP = 5000;
const WIDTH = 300;
const HEIGHT = 56;

class Chart {
  /** `names` has one name for each line; `show` formats a value; the scale ends at `least` or higher, at a round number of
   * the powers of `base`. */
  constructor(parent, { names, show, least, base = 10 }) {
    this.names = names;
    this.show = show;
    this.least = least;
    this.base = base;
    this.samples = [];
    const svg = (name, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.area = svg("path", { class: "area" });
    this.lines = names.map((_, index) => svg("path", { class: index === 0 ? "line first" : "line second" }));
    this.svg.append(this.area, ...[...this.lines].reverse());
    this.top = element("span", "scale top");
    this.ago = element("span", "scale ago");
    const now = element("span", "scale now", "now");
    for (const label of [this.top, this.ago, now]) label.setAttribute("aria-hidden", "true");
    parent.append(this.svg, this.top, this.ago, now);
  }

  /** Adds a sample with one value for each line. */
  push(time, values) {
    this.samples.push({ time, values });
    while (this.samples.length > 0 && this.samples[0].time < time - SPAN) this.samples.shift();
    this.draw(time);
  }

  draw(now) {
    const highest = Math.max(0, ...this.samples.flatMap((sample) => sample.values));
    const top = scaleEnd(Math.max(highest, this.least), this.base);
    const span = SPANS.find((span) => now - this.samples[0].time <= span) ?? SPAN;
    const x = (sample) => (WIDTH * (1 - (now - sample.time) / span)).toFixed(1);
    const y = (value) => (HEIGHT - 1 - ((HEIGHT - 2) * value) / top).toFixed(1);
    const runs = [];
    let before = null;
    for (const sample of this.samples) {
      if (before === null || sample.time - before.time > GAP) runs.push([]);
      runs.at(-1).push(sample);
      before = sample;
    }
    const path = (index) => runs.map((run) => "M" + run.map((one) => `${x(one)} ${y(one.values[index])}`).join("L")).join("");
    this.lines.forEach((line, index) => line.setAttribute("d", path(index)));
    const filled = runs.map((run) => {
      const points = run.map((one) => `${x(one)} ${y(one.values[0])}`).join("L");
      return `M${x(run[0])} ${HEIGHT}L${points}L${x(run.at(-1))} ${HEIGHT}Z`;
    });
    this.area.setAttribute("d", filled.join(""));
    setText(this.top, this.show(top));
    setText(this.ago, `${span / MINUTE} min ago`);
    const last = this.samples.at(-1);
    const described = this.names.map((name, index) => {
      const most = Math.max(...this.samples.map((sample) => sample.values[index]));
      return `${name}: now ${this.show(last.values[index])}, at most ${this.show(most)}`;
    });
    this.svg.setAttribute("aria-label", `Last ${plural(span / MINUTE, "minute")}. ${described.join("; ")}.`);
  }
}

/** The end of a scale: 1, 2 or 5 times a power of ten, in the unit that is a power of `base`. */
function scaleEnd(highest, base) {
  const unit = base ** Math.floor(Math.log(highest) / Math.log(base));
  const inUnit = highest / unit;
  const power = 10 ** Math.floor(Math.log10(inUnit));
  const step = [1, 2, 5, 10].find((step) => step * power >= inUnit) ?? 10;
  return step * power * unit;
}
