// The history of a server: a strip of its availability, and its tokens a second, over the same time.

const STATES = { u: "up", g: "degraded", d: "down", "-": "unknown" };
/** The height of each state, so that the strip can be read without its colours. */
const HEIGHTS = { u: 20, g: 13, d: 6, "-": 2 };
const STRIP_HEIGHT = 20;
const RATES_HEIGHT = 40;
/** Outages that the text under a strip lists. */
const LISTED = 3;

function svg(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** The cells of equal state that follow one another: the letter, the first cell and the one behind the last. */
function runs(states) {
  const all = [];
  [...states].forEach((letter, index) => {
    if (all.at(-1)?.letter === letter) all.at(-1).end = index + 1;
    else all.push({ letter, begin: index, end: index + 1 });
  });
  return all;
}

class History {
  /** `title` is "24 hours" or "7 days". */
  constructor(title) {
    this.title = title;
    this.drawn = "";
    this.node = element("div", "history");
    const head = element("p", "history-head");
    this.available = element("span", "available");
    head.append(element("span", "span", title), " ", this.available);
    this.strip = svg("svg", { class: "strip", role: "img", preserveAspectRatio: "none" });
    this.rates = svg("svg", { class: "rates", role: "img", preserveAspectRatio: "none" });
    const box = element("div", "chart");
    this.top = element("span", "scale top");
    const ago = element("span", "scale ago", `${title} ago`);
    const now = element("span", "scale now", "now");
    for (const label of [this.top, ago, now]) label.setAttribute("aria-hidden", "true");
    box.append(this.rates, this.top, ago, now);
    this.note = element("p", "note");
    this.node.append(head, this.strip, box, this.note);
  }

  show(strip, now) {
    const drawn = JSON.stringify(strip);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const time = (cell) => Math.min((strip.begin + cell * strip.cell_seconds) * 1000, now);
    const described = runs(strip.states).map((run) => ({
      ...run,
      state: STATES[run.letter] ?? "unknown",
      between: run.end === strip.states.length ? `${clock(time(run.begin), now)} to now` : between(time(run.begin), time(run.end), now),
    }));
    setText(this.available, strip.availability === null ? "not observed" : `${percent(strip.availability)} available`);
    this.drawStrip(strip, described);
    this.drawRates(strip);
    const outages = described.filter((run) => run.letter === "d").reverse();
    const facts = outages.slice(0, LISTED).map((run) => `down ${run.between}`);
    if (outages.length > LISTED) facts.push(`${outages.length - LISTED} more times down`);
    if (strip.observed < 0.995) facts.push(`observed ${percent(strip.observed)} of the time`);
    const note = facts.join("; ");
    setText(this.note, note === "" ? "" : note[0].toUpperCase() + note.slice(1));
    setHidden(this.note, note === "");
  }

  drawStrip(strip, described) {
    const cells = strip.states.length;
    this.strip.setAttribute("viewBox", `0 0 ${cells} ${STRIP_HEIGHT}`);
    const bars = described.map((run) => {
      const height = HEIGHTS[run.letter] ?? 2;
      const bar = svg("rect", {
        class: run.state,
        x: run.begin,
        y: STRIP_HEIGHT - height,
        width: run.end - run.begin,
        height,
      });
      const title = svg("title", {});
      title.textContent = `${run.state}, ${run.between}`;
      bar.append(title);
      return bar;
    });
    this.strip.replaceChildren(...bars);
    const share = strip.availability === null ? "not observed" : `${percent(strip.availability)} available`;
    const worse = described.filter((run) => run.letter === "d" || run.letter === "g").reverse();
    const list = worse.slice(0, 10).map((run) => `${run.state} ${run.between}`);
    this.strip.setAttribute("aria-label", [`Availability, last ${this.title}: ${share}`, ...list].join("; "));
  }

  drawRates(strip) {
    const rates = strip.tokens_per_second;
    const known = rates.filter((value) => value !== null);
    const highest = Math.max(0, ...known);
    const top = scaleEnd(Math.max(highest, 1));
    const y = (value) => (RATES_HEIGHT - 1 - ((RATES_HEIGHT - 2) * value) / top).toFixed(2);
    this.rates.setAttribute("viewBox", `0 0 ${rates.length} ${RATES_HEIGHT}`);
    const lines = [];
    const areas = [];
    for (const run of runs(rates.map((value) => (value === null ? "-" : "u")))) {
      if (run.letter === "-") continue;
      // A cell is as wide as its time, so that a single one can be seen.
      let path = "";
      for (let cell = run.begin; cell < run.end; cell += 1) path += `L${cell} ${y(rates[cell])}L${cell + 1} ${y(rates[cell])}`;
      lines.push("M" + path.slice(1));
      areas.push(`M${run.begin} ${RATES_HEIGHT}${path}L${run.end} ${RATES_HEIGHT}Z`);
    }
    const area = svg("path", { class: "area", d: areas.join("") });
    const line = svg("path", { class: "line", d: lines.join("") });
    this.rates.replaceChildren(area, line);
    setText(this.top, known.length === 0 ? "" : `${count(top)} tokens/s`);
    const text = known.length === 0 ? "unknown" : `at most ${rate(highest)} in a cell, ${rate(known.at(-1))} at the end`;
    this.rates.setAttribute("aria-label", `Tokens a second, last ${this.title}: ${text}`);
  }
}

/** The end of a scale: a number with one digit, and a power of ten. */
function scaleEnd(highest) {
  const power = 10 ** Math.floor(Math.log10(highest));
  const step = [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= highest) ?? 10;
  return step * power;
}
