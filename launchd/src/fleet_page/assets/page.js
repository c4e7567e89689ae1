// Puts the page together: reads /status.json while the page is visible, and shows it.

/** Between two requests. What is shown changes at the interval of the program that serves the page. */
const EVERY = 5000;
const PATIENCE = 10000;
const COLOURS = { good: "#2f7a46", warn: "#9a5b13", bad: "#b3261e", unknown: "#8a8c86" };

let timer = 0;
/** When the last answer came, in milliseconds. */
let answered = null;

async function read() {
  clearTimeout(timer);
  try {
    const response = await fetch("/status.json", { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(PATIENCE) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
    answered = Date.now();
    setHidden(byId("gone"), true);
  } catch (error) {
    const last = answered === null ? "" : ` What follows is from ${clock(answered, Date.now())}.`;
    setHidden(byId("gone"), false);
    setText(byId("gone"), `The program that serves this page does not answer (${error.message}).${last}`);
    mark("unknown", "?");
  }
  timer = setTimeout(read, EVERY);
}

function show(page) {
  const now = Date.parse(page.time);
  setText(byId("fleet"), page.fleet === "sanctum" ? "Sanctum fleet" : `Sanctum fleet ${page.fleet}`);
  setText(byId("summary"), page.summary[0].toUpperCase() + page.summary.slice(1));
  const here = page.host === null ? "" : ` from ${page.host}`;
  setText(byId("detail"), `Observed${here} every ${duration(page.every_seconds)}, at ${clock(now, now)}`);
  const open = showAlerts(page, now);
  showServers(page, now);
  showHosts(page, now);
  showCertificates(page, now);
  const problems = page.hosts.reduce((sum, host) => sum + host.problems.length, 0);
  const warnings = page.hosts.reduce((sum, host) => sum + host.warnings.length, 0);
  const isKnown = page.hosts.some((host) => host.observed !== null);
  const state = problems > 0 ? "bad" : !isKnown ? "unknown" : warnings > 0 ? "warn" : "good";
  mark(state, problems > 0 ? String(problems) : "");
  setAttribute(byId("open"), "data-state", open > 0 ? "bad" : "good");
  const about = `Sanctum ${page.version}. Read-only. The same for programs: `;
  if (byId("about").firstChild.data !== about) byId("about").firstChild.data = about;
}

/** Shows the state where it is seen while another page is open: in the title and the icon. */
function mark(state, number) {
  setAttribute(byId("state"), "data-state", state);
  document.title = (number === "" ? "" : `(${number}) `) + "Sanctum fleet";
  const circle = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${COLOURS[state]}"/></svg>`;
  setAttribute(byId("icon"), "href", "data:image/svg+xml," + encodeURIComponent(circle));
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else read();
});

read();
