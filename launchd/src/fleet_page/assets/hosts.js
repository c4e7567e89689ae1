// Servers with their history, and hosts with their agents.

const AGENT_STATES = {
  running: ["running", "good"],
  standby: ["on standby", "quiet"],
  "not-running": ["does not run", "bad"],
  "not-loaded": ["not loaded", "bad"],
  "loaded-standby": ["on standby and loaded", "bad"],
  "not-installed": ["not installed", "warn"],
  stopped: ["stopped on purpose", "warn"],
};
const VERDICTS = { ok: "good", miss: "bad" };
/** Problems of a host that are listed at first. */
const PROBLEMS = 5;

class ServerCard {
  constructor() {
    this.node = element("article", "card server");
    this.name = element("h3");
    this.state = element("span", "word");
    const head = element("div", "head");
    const state = element("p", "state");
    state.append(element("span", "dot"), " ", this.state);
    head.append(this.name, state);
    this.holder = state;
    this.facts = element("p", "facts");
    this.day = new History("24 hours");
    this.week = new History("7 days");
    const histories = element("div", "histories");
    histories.append(this.day.node, this.week.node);
    this.node.append(head, this.facts, histories);
    this.node.card = this;
  }

  show(server, status, now) {
    setText(this.name, `${server.server} on ${server.host}`);
    const state = server.availability ?? "unknown";
    setAttribute(this.holder, "data-state", state);
    // "ready" says no more than "up".
    const detail = status && status.state !== "ready" ? `: ${status.state}` : "";
    setText(this.state, state[0].toUpperCase() + state.slice(1) + (state === "unknown" ? "" : detail));
    setText(this.facts, status ? serverFacts(status).join(" · ") : "Nothing is known about it now.");
    this.day.show(server.day, now);
    this.week.show(server.week, now);
  }
}

function serverFacts(status) {
  const facts = [];
  if (status.served_by !== status.name) facts.push(`served by ${status.served_by}`);
  if (status.in_flight !== null) facts.push(`${status.in_flight} running, ${status.queued} queued`);
  if (status.tokens_per_second !== null) facts.push(`${rate(status.tokens_per_second)} tokens a second`);
  if (status.mlx_memory_bytes !== null) facts.push(`MLX uses ${bytes(status.mlx_memory_bytes)}`);
  for (const [method, number] of Object.entries(status.auth ?? {})) {
    if (number.granted + number.refused === 0) continue;
    const refused = number.refused > 0 ? ` (${count(number.refused)} refused)` : "";
    facts.push(`${method} ${count(number.granted)}${refused}`);
  }
  if (facts.length === 0) facts.push(status.state);
  return facts;
}

function showServers(page, now) {
  const statuses = new Map();
  for (const host of page.hosts) {
    for (const status of host.status?.servers ?? []) statuses.set(status.name, status);
  }
  keyed(
    byId("server-cards"),
    page.servers,
    (server) => server.server,
    () => new ServerCard().node,
    (node, server) => node.card.show(server, statuses.get(server.server), now),
  );
  setText(byId("servers-number"), page.servers.length);
  setHidden(byId("history-problem"), page.history_problem === null);
  setText(byId("history-problem"), page.history_problem === null ? "" : `The history is kept in memory only: ${page.history_problem}`);
}

class HostCard {
  constructor() {
    this.node = element("article", "card host");
    const head = element("div", "head");
    this.name = element("h3");
    this.observed = element("p", "observed");
    head.append(this.name, this.observed);
    this.error = element("p", "problem");
    this.facts = element("p", "facts");
    this.disk = element("div", "disk");
    this.meter = element("meter");
    this.meter.setAttribute("aria-label", "Disk in use");
    this.diskText = element("span");
    this.disk.append(this.meter, this.diskText);
    this.notes = element("ul", "lines notes");
    this.problems = element("ul", "lines problems");
    this.problems.setAttribute("aria-label", "Problems");
    this.more = element("button", "more");
    this.more.type = "button";
    this.isWhole = false;
    this.more.addEventListener("click", () => {
      this.isWhole = true;
      this.showProblems();
    });
    this.table = agentTable();
    this.rows = this.table.querySelector("tbody");
    this.node.append(head, this.error, this.facts, this.disk, this.notes, this.problems, this.more, this.table);
    this.node.card = this;
  }

  show(host, now) {
    const status = host.status;
    setText(this.name, host.host);
    const isStale = host.error !== null;
    setAttribute(this.node, "data-stale", String(isStale));
    setText(this.observed, observedText(host, now));
    setHidden(this.error, !isStale);
    setText(this.error, isStale ? host.error.message : "");
    const facts = status === null ? [] : hostFacts(status);
    setText(this.facts, facts.join(" · "));
    setHidden(this.facts, facts.length === 0);
    this.showDisk(status?.disk ?? null);
    const notes = status === null ? [] : hostNotes(status, now);
    lines(this.notes, [...notes, ...host.warnings.map((line) => without(line, host.host))]);
    setHidden(this.notes, this.notes.children.length === 0);
    // The error is above.
    const first = isStale ? 1 : 0;
    this.all = host.problems.slice(first).map((line) => without(line, host.host));
    this.showProblems();
    const observed = Date.parse(host.observed ?? "");
    keyed(this.rows, status?.agents ?? [], (agent) => agent.name, agentRow, (row, agent) => showAgent(row, agent, observed, now));
    setAttribute(this.table, "aria-label", `Agents of ${host.host}`);
    setHidden(this.table, status === null || status.agents.length === 0);
  }

  showProblems() {
    const shown = this.isWhole ? this.all : this.all.slice(0, PROBLEMS);
    lines(this.problems, shown);
    setHidden(this.problems, shown.length === 0);
    setHidden(this.more, shown.length === this.all.length);
    setText(this.more, `Show all ${this.all.length} problems`);
  }

  showDisk(disk) {
    setHidden(this.disk, disk === null);
    if (disk === null) return;
    this.meter.max = disk.total_bytes;
    this.meter.high = disk.total_bytes * 0.95;
    this.meter.value = disk.total_bytes - disk.free_bytes;
    setText(this.diskText, `${bytes(disk.free_bytes)} of ${bytes(disk.total_bytes)} free`);
  }
}

/** A line of `status` without the name of the host that it begins with. */
function without(line, host) {
  const begin = `${host}: `;
  return line.startsWith(begin) ? line.slice(begin.length) : line;
}

function observedText(host, now) {
  if (host.not_asked !== null) return host.not_asked;
  const known = host.observed === null ? null : since(host.observed, now);
  if (host.error !== null) return known === null ? "Never observed" : `Last known state: ${known}`;
  return known === null ? "Not observed yet" : `Observed ${known}`;
}

function hostFacts(status) {
  const facts = [];
  facts.push(status.release === null ? "Nothing is installed" : `Release ${status.release}`);
  if (status.installed !== null) facts.push(`installed ${DATE.format(Date.parse(status.installed))}`);
  const memory = status.agents.reduce((sum, agent) => sum + (agent.memory_bytes ?? 0), 0);
  if (memory > 0) facts.push(`agents use ${bytes(memory)} of memory`);
  return facts;
}

function hostNotes(status, now) {
  const notes = [];
  if (status.maintenance !== null) notes.push(status.maintenance);
  if (status.window !== null) {
    const reason = status.window.reason ? ` (${status.window.reason})` : "";
    notes.push(`Maintenance window until ${clock(Date.parse(status.window.until), now)}${reason}: no watchdog alerts or acts`);
  }
  for (const agent of status.agents) {
    if (agent.stopped === null) continue;
    const reason = agent.stopped.reason ? ` (${agent.stopped.reason})` : "";
    notes.push(`${agent.name} is stopped on purpose since ${since(agent.stopped.since, now)}${reason}`);
  }
  return notes;
}

const COLUMNS = ["Agent", "State", "Since", "Restarts", "Memory", "Verdict", "24 h", "7 d"];

// The roles are those that the elements have. With `display: block` on a narrow screen they would lose them.
function agentTable() {
  const table = element("table", "agents");
  table.setAttribute("role", "table");
  const head = element("thead");
  head.setAttribute("role", "rowgroup");
  const row = element("tr");
  row.setAttribute("role", "row");
  for (const title of COLUMNS) {
    const cell = element("th", "", title);
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    row.append(cell);
  }
  head.append(row);
  const body = element("tbody");
  body.setAttribute("role", "rowgroup");
  table.append(head, body);
  return table;
}

function agentRow() {
  const row = element("tr");
  row.setAttribute("role", "row");
  COLUMNS.forEach((title, index) => {
    const cell = element(index === 0 ? "th" : "td");
    cell.setAttribute("role", index === 0 ? "rowheader" : "cell");
    if (index === 0) cell.scope = "row";
    cell.dataset.label = title;
    row.append(cell);
  });
  return row;
}

function showAgent(row, agent, observed, now) {
  const [state, tone] = AGENT_STATES[agent.state] ?? [agent.state, "warn"];
  const exit = agent.last_exit !== null && agent.pid === null ? ` (last: ${agent.last_exit})` : "";
  const begun = agent.uptime_seconds === null ? null : observed - agent.uptime_seconds * 1000;
  const watch = agent.watch;
  const verdict = watch?.verdict ?? (agent.role === "watchdog" ? "not yet" : "");
  const checked = watch?.checked ? `, ${duration((now - Date.parse(watch.checked)) / 1000)} ago` : "";
  const texts = [
    agent.name,
    state + exit,
    begun === null ? "" : `${clock(begun, now)} (${duration((now - begun) / 1000)})`,
    agent.runs === null || agent.pid === null ? "" : count(Math.max(0, agent.runs - 1)),
    agent.memory_bytes === null ? "" : bytes(agent.memory_bytes),
    verdict + checked,
    watch?.success_24h === undefined || watch.success_24h === null ? "" : percent(watch.success_24h),
    watch?.success_7d === undefined || watch.success_7d === null ? "" : percent(watch.success_7d),
  ];
  texts.forEach((text, index) => setText(row.children[index], text));
  setAttribute(row.children[1], "data-tone", tone);
  setAttribute(row.children[5], "data-tone", watch?.verdict ? (VERDICTS[watch.verdict] ?? "warn") : "quiet");
  const detail = watch?.detail ?? "";
  if (detail !== "") setAttribute(row.children[5], "title", detail);
  else row.children[5].removeAttribute("title");
}

function showHosts(page, now) {
  keyed(
    byId("host-cards"),
    page.hosts,
    (host) => host.host,
    () => new HostCard().node,
    (node, host) => node.card.show(host, now),
  );
  setText(byId("hosts-number"), page.hosts.length);
  const releases = page.hosts.filter((host) => host.status?.release);
  const differ = new Set(releases.map((host) => host.status.release)).size > 1;
  const list = releases.map((host) => `${host.host} has ${host.status.release}`);
  setHidden(byId("versions"), !differ);
  setText(byId("versions"), differ ? `The releases differ: ${words(list)}.` : "");
}

function showCertificates(page, now) {
  const all = page.hosts.flatMap((host) => (host.status?.certificates ?? []).map((one) => ({ ...one, host: host.host })));
  const ends = (one) => (one.ends === null ? (one.problem === null ? Infinity : -Infinity) : Date.parse(one.ends));
  all.sort((a, b) => (ends(a) === ends(b) ? 0 : ends(a) - ends(b)));
  keyed(byId("certificates-rows"), all, (one) => `${one.host} ${one.file}`, certificateRow, (row, one) => {
    const days = Math.floor((ends(one) - now) / 86400000);
    const left = one.ends !== null ? (days < 0 ? "expired" : count(days)) : one.problem === null ? "does not expire" : "unusable";
    setText(row.children[0], one.problem === null ? one.file : `${one.file}: ${one.problem}`);
    setText(row.children[1], one.host);
    setText(row.children[2], one.ends === null ? "" : DATE.format(Date.parse(one.ends)));
    setText(row.children[3], left);
    setAttribute(row, "data-tone", one.problem === null ? "quiet" : one.urgent ? "bad" : "warn");
  });
  setText(byId("certificates-number"), all.length);
  setHidden(byId("certificates-table"), all.length === 0);
  setHidden(byId("certificates-none"), all.length > 0);
  setText(byId("certificates-none"), "No host has certificates, or none has reported them yet.");
}

function certificateRow() {
  const row = element("tr");
  row.setAttribute("role", "row");
  for (const [index, title] of ["File", "Host", "Expires", "Days left"].entries()) {
    const cell = element(index === 0 ? "th" : "td");
    cell.setAttribute("role", index === 0 ? "rowheader" : "cell");
    if (index === 0) cell.scope = "row";
    cell.dataset.label = title;
    row.append(cell);
  }
  return row;
}
