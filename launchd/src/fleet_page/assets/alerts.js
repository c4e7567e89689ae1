// Lists of alerts: the most urgent first, with a filter and a button for the rest where there are many.

const SEVERITIES = ["critical", "warning", "info"];
/** Alerts that are shown at first. */
const FIRST = 10;

class AlertList {
  /** `name` is "open" or "past". */
  constructor(name) {
    this.name = name;
    this.alerts = [];
    this.isWhole = false;
    this.text = "";
    this.severity = "";
    this.now = 0;
    byId(`${name}-more`).addEventListener("click", () => {
      const next = byId(`${name}-list`).children.length;
      this.isWhole = true;
      this.draw();
      // The button is gone: continue where the list was cut.
      byId(`${name}-list`).children[next]?.querySelector("summary").focus();
    });
    this.makeFilter();
  }

  makeFilter() {
    const label = element("label", "", "Contains ");
    const field = element("input");
    field.type = "search";
    field.autocomplete = "off";
    field.addEventListener("input", () => {
      this.text = field.value.trim().toLowerCase();
      this.draw();
    });
    label.append(field);
    const choice = element("label", "", "Severity ");
    const select = element("select");
    for (const severity of ["", ...SEVERITIES]) {
      const option = element("option", "", severity === "" ? "all" : severity);
      option.value = severity;
      select.append(option);
    }
    select.addEventListener("change", () => {
      this.severity = select.value;
      this.draw();
    });
    choice.append(select);
    this.matches = element("span", "quiet");
    this.matches.setAttribute("role", "status");
    byId(`${this.name}-filter`).append(label, choice, this.matches);
  }

  show(alerts, none, now) {
    this.alerts = alerts;
    this.now = now;
    setText(byId(`${this.name}-number`), alerts.length);
    setHidden(byId(`${this.name}-none`), alerts.length > 0);
    setText(byId(`${this.name}-none`), none);
    setHidden(byId(`${this.name}-filter`), alerts.length <= FIRST);
    this.draw();
  }

  draw() {
    const found = this.alerts.filter((alert) => this.isWanted(alert));
    const shown = this.isWhole ? found : found.slice(0, FIRST);
    keyed(
      byId(`${this.name}-list`),
      shown,
      (alert) => `${alert.host} ${alert.id}`,
      () => new AlertItem().node,
      (node, alert) => node.item.show(alert, this.now),
    );
    const more = byId(`${this.name}-more`);
    setHidden(more, shown.length === found.length);
    setText(more, `Show all ${found.length}`);
    const isFiltered = this.text !== "" || this.severity !== "";
    setText(this.matches, isFiltered ? `${found.length} of ${this.alerts.length}` : "");
  }

  isWanted(alert) {
    if (this.severity !== "" && alert.severity !== this.severity) return false;
    if (this.text === "") return true;
    const texts = [alert.id, alert.title, alert.body, alert.condition, alert.host];
    return texts.some((text) => text.toLowerCase().includes(this.text));
  }
}

class AlertItem {
  constructor() {
    this.node = element("li");
    this.details = element("details");
    const summary = element("summary");
    this.severity = element("span", "severity");
    this.title = element("span", "title");
    this.where = element("span", "where");
    summary.append(this.severity, " ", this.title, " ", this.where);
    this.body = element("div", "text");
    this.facts = element("div", "quiet");
    this.commands = element("div", "commands");
    const body = element("div", "body");
    body.append(this.body, this.facts, this.commands);
    this.details.append(summary, body);
    this.node.append(this.details);
    this.node.item = this;
    // The text of a hundred alerts is only made when it is read.
    this.details.addEventListener("toggle", () => this.showBody());
  }

  show(alert, now) {
    this.alert = alert;
    this.now = now;
    const severity = alert.severity ?? "info";
    setAttribute(this.node, "data-severity", severity);
    setText(this.severity, severity);
    setText(this.title, alert.title);
    const muted = alert.muted === null ? "" : ", muted";
    setText(this.where, `${alert.watchdog} on ${alert.host}, ${since(alert.since, now)}${muted}`);
    this.showBody();
  }

  showBody() {
    if (!this.details.open) return;
    // Line breaks arrive escaped, as every control character does.
    const text = this.alert.body.split("\\n").filter((line) => line !== "");
    lines(this.body, text, "p");
    lines(this.facts, [...deliveries(this.alert, this.now), `Id ${this.alert.id}, condition ${this.alert.condition}`], "p");
    lines(this.commands, commands(this.alert), "code");
  }
}

/** What happened to an alert, one line each. */
function deliveries(alert, now) {
  const facts = [];
  if (alert.alerts > 1) facts.push(`${alert.alerts} alerts so far; about the last one:`);
  if (alert.delivered.length > 0) facts.push(`Delivered to ${words(alert.delivered)}`);
  for (const waiting of alert.waiting) {
    const what = waiting.is_refused ? "Rejected by" : "Not delivered to";
    facts.push(`${what} ${waiting.channel}: ${waiting.error ?? "not tried yet"}`);
  }
  if (alert.silent.length > 0) facts.push(`Muted: not sent to ${words(alert.silent)}`);
  if (alert.delivered.length + alert.waiting.length + alert.silent.length === 0) facts.push("In the log only");
  if (alert.muted !== null) {
    const why = alert.muted.why === "" ? "" : `: ${alert.muted.why}`;
    facts.push(`Muted until ${clock(Date.parse(alert.muted.until), now)} by ${alert.muted.by}${why}`);
  }
  if (alert.is_closing) facts.push("An operator has asked to close it");
  for (const other of alert.covers) facts.push(`The same cause: ${other.watchdog} since ${since(other.since, now)}: ${other.message}`);
  return facts;
}

/** What an operator can do about it, on its host: the page changes nothing. */
function commands(alert) {
  if (!alert.is_open) return [];
  const mute = `sanctum-launchd alert mute ${alert.id} --for 2h`;
  const resolve = `sanctum-launchd alert resolve ${alert.id}`;
  return alert.muted === null ? [mute, resolve] : [resolve];
}

const openAlerts = new AlertList("open");
const pastAlerts = new AlertList("past");

function showAlerts(page, now) {
  const all = (list) => page.hosts.flatMap((host) => host.alerts?.[list] ?? []);
  const rank = (alert) => SEVERITIES.indexOf(alert.severity ?? "info");
  const latest = (a, b) => Date.parse(b.since) - Date.parse(a.since);
  const open = all("open").sort((a, b) => rank(a) - rank(b) || latest(a, b));
  openAlerts.show(open, "No alert is open.", now);
  pastAlerts.show(all("recent").sort(latest), "No past alerts.", now);
  const undelivered = page.hosts.flatMap((host) => {
    const watchdogs = (host.status?.agents ?? []).filter((agent) => agent.watch !== null);
    const lines = watchdogs.flatMap((agent) => [
      ...agent.watch.undelivered.map((line) => `${agent.name} on ${host.host}: ${line}`),
      ...agent.watch.unnotified.map((title) => `${agent.name} on ${host.host}: no channel has accepted the alert: ${title}`),
    ]);
    return [...lines, ...(host.alerts?.problems ?? []).map((problem) => `${host.host}: ${problem}`)];
  });
  lines(byId("undelivered-list"), undelivered);
  setHidden(byId("undelivered"), undelivered.length === 0);
  return open.length;
}
