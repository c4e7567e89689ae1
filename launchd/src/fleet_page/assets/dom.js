// Elements and texts. What comes from hosts becomes text nodes and attribute values, never markup.

function byId(id) {
  return document.getElementById(id);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Replaces the text of an element if it differs, so that a selection in it survives. */
function setText(node, text) {
  const shown = String(text);
  if (node.textContent !== shown) node.textContent = shown;
}

function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/**
 * Makes the children of `parent` those of a list, in its order. An item's child is found by its key and kept, with its focus
 * and what is open in it; `make` makes the child of a new item, `update` shows the item in it.
 */
function keyed(parent, list, keyOf, make, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  list.forEach((item, index) => {
    const key = keyOf(item);
    let child = before.get(key);
    before.delete(key);
    if (child === undefined) {
      child = make(item);
      child.dataset.key = key;
    }
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
    update(child, item);
  });
  for (const child of before.values()) child.remove();
}

/** The same for lines of text that have no other key. */
function lines(parent, texts, name = "li") {
  const numbered = texts.map((text, index) => ({ text, key: String(index) }));
  keyed(parent, numbered, (one) => one.key, () => element(name), (node, one) => setText(node, one.text));
}

const NUMBER = new Intl.NumberFormat("en");
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

function count(number) {
  return NUMBER.format(Math.round(number));
}

/** "1 request", "2 requests". */
function plural(number, one, many = one + "s") {
  return count(number) + " " + (number === 1 ? one : many);
}

/** A rate: with tenths while it is small. */
function rate(number) {
  return number > 0 && number < 100 ? TENTHS.format(number) : count(number);
}

/** A share as percent, rounded down, so that an outage never shows as 100%. */
function percent(share) {
  if (share === null || share === undefined) return "-";
  if (share >= 1) return "100%";
  return TENTHS.format(Math.floor(share * 1000) / 10) + "%";
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return (unit === 0 || number >= 100 ? count(number) : TENTHS.format(number)) + " " + units[unit];
}

/** As `sanctum-launchd status` shows it. */
function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 120) return whole + " s";
  if (whole < 7200) return Math.floor(whole / 60) + " min";
  if (whole < 172800) return Math.floor(whole / 3600) + " h";
  return Math.floor(whole / 86400) + " d";
}

/** A time of day, with the day if it is another one than that of `now`. Both are in milliseconds. */
function clock(time, now) {
  const isToday = new Date(time).toDateString() === new Date(now).toDateString();
  return isToday ? CLOCK.format(time) : `${DAY.format(time)}, ${CLOCK.format(time)}`;
}

/** A time between two others; the day is named once if both have it. */
function between(begin, end, now) {
  const isOneDay = new Date(begin).toDateString() === new Date(end).toDateString();
  return `${clock(begin, now)} to ${isOneDay ? CLOCK.format(end) : clock(end, now)}`;
}

/** Since when, and how long ago that is. */
function since(time, now) {
  const at = Date.parse(time);
  return `${clock(at, now)} (${duration((now - at) / 1000)} ago)`;
}

/** "a, b and c". */
function words(list) {
  return list.length < 2 ? list.join("") : `${list.slice(0, -1).join(", ")} and ${list.at(-1)}`;
}
