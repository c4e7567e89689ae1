// Text of others: answers of a model, errors, names of clients. It becomes text nodes and nothing else. Characters that
// are not visible, or that change how their neighbours are displayed, are shown by their code points.

const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]|[\\u{e0000}-\\u{e007f}]",
  "gu",
);

function codePoint(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

/** Appends a text to an element. */
function appendText(parent, text) {
  const plain = (piece) => {
    if (piece === "") return;
    const last = parent.lastChild;
    if (last instanceof Text) last.appendData(piece);
    else parent.append(document.createTextNode(piece));
  };
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    plain(text.slice(from, match.index));
    parent.append(element("span", "hidden-character", codePoint(match[0])));
    from = match.index + match[0].length;
  }
  plain(text.slice(from));
}

/** The same as one line, for attributes and option labels, which have no elements in them. */
function visible(text) {
  return String(text).replace(HIDDEN, codePoint).replace(/[\n\t]/g, " ");
}

/** Replaces the text of an element if it differs, so that a selection in it survives. */
function setText(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

function byId(id) {
  return document.getElementById(id);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const NUMBER = new Intl.NumberFormat("en");
const UP_TO_TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function count(number) {
  return NUMBER.format(Math.round(number));
}

/** A rate: with tenths while it is small. */
function rate(number) {
  return number > 0 && number < 100 ? TENTHS.format(number) : count(number);
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return (number >= 100 ? count(number) : UP_TO_TENTHS.format(number)) + " " + units[unit];
}

function duration(seconds) {
  if (seconds < 60) return Math.floor(seconds) + " s";
  if (seconds < 3600) return Math.floor(seconds / 60) + " min";
  if (seconds < 86400) return Math.floor(seconds / 3600) + " h " + Math.floor((seconds % 3600) / 60) + " min";
  return Math.floor(seconds / 86400) + " d " + Math.floor((seconds % 86400) / 3600) + " h";
}

/** "1 request", "2 requests". */
function plural(number, one, many = one + "s") {
  return count(number) + " " + (number === 1 ? one : many);
}
