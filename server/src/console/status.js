// What the server does now, from GET /status once a second while the page is visible.

const EVERY = 1000;
const PATIENCE = 5000;
const WORDS = { ok: "Ready", loading: "Loading", draining: "Stopping" };

class Status {
  /** `onModels` is called when the models that can be asked have changed. */
  constructor(onModels) {
    this.onModels = onModels;
    this.models = null;
    /** The page before, and when it came. */
    this.before = null;
    this.isPaused = false;
    this.timer = 0;
    const chart = (id, names, show, least, base) => new Chart(byId(id), { names, show, least, base });
    this.charts = {
      tokens: chart("chart-tokens", ["tokens generated a second"], count, 10),
      requests: chart("chart-requests", ["running", "queued"], count, 5),
      memory: chart("chart-memory", ["reserved memory"], bytes, 2 ** 20, 1024),
      cache: chart("chart-cache", ["reused tokens a second"], count, 10),
    };
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.isPaused) this.run();
    });
  }

  /** Reads until `pause`. */
  run() {
    this.isPaused = false;
    clearTimeout(this.timer);
    this.read().finally(() => {
      clearTimeout(this.timer);
      if (!this.isPaused && !document.hidden) this.timer = setTimeout(() => this.run(), EVERY);
    });
  }

  pause() {
    this.isPaused = true;
    clearTimeout(this.timer);
  }

  async read() {
    try {
      const page = await (await send("/status", { signal: AbortSignal.timeout(PATIENCE) })).json();
      byId("status-problem").hidden = true;
      this.show(page, performance.now());
    } catch (error) {
      if (error.status === 401) return;
      const problem = error instanceof Problem ? error.message : "The server does not answer.";
      this.before = null;
      byId("state").dataset.state = "gone";
      setText(byId("state-word"), "No answer");
      byId("status-problem").hidden = false;
      setText(byId("status-problem"), problem);
    }
  }

  show(page, time) {
    byId("state").dataset.state = page.status;
    setText(byId("state-word"), WORDS[page.status] ?? page.status);
    setText(byId("state-detail"), `Version ${page.version}, up ${duration(page.uptime_seconds)}, ${plural(page.connections, "connection")}`);
    const rates = this.rates(page);
    this.before = page;
    for (const id of ["card-tokens", "card-memory", "card-cache"]) byId(id).hidden = page.models.length === 0;
    this.showRequests(page, time);
    if (page.models.length > 0) this.showEngines(page, rates, time);
    this.showModels(page, rates);
    this.showUpstreams(page.fronts);
    this.showClients(page.clients);
    this.showRefusals(page.refusals);
    const models = JSON.stringify([page.models.map((model) => [model.id, model.phase]), page.fronts.map((front) => front.id)]);
    if (models !== this.models) {
      this.models = models;
      this.onModels();
    }
  }

  /** Tokens a second of each model since the page before, by its id. */
  rates(page) {
    const before = this.before;
    const seconds = before === null ? 0 : page.uptime_seconds - before.uptime_seconds;
    const rates = new Map();
    for (const model of page.models) {
      const old = before?.models.find((other) => other.id === model.id);
      // After a restart of the server the counters begin again.
      const grown = (read) => (old === undefined || seconds <= 0 ? 0 : Math.max(0, read(model) - read(old)) / seconds);
      rates.set(model.id, {
        generated: grown((model) => model.completion_tokens_total),
        prompt: grown((model) => model.prompt_tokens_total),
        reused: grown((model) => model.prefix_cache.hit_tokens_total),
      });
    }
    return rates;
  }

  showRequests(page, time) {
    const upstreams = page.fronts.flatMap((front) => front.upstreams);
    const isFront = page.models.length === 0;
    const running = isFront ? sum(upstreams, (one) => one.in_flight) : sum(page.models, (model) => model.in_flight);
    const queued = sum(page.models, (model) => model.queued) + page.preparing.requests;
    setText(byId("requests-now"), count(running));
    setText(byId("requests-unit"), isFront ? "at upstreams" : `in ${plural(sum(page.models, (model) => model.slots), "slot")}`);
    setText(byId("requests-first"), isFront ? "at upstreams" : "running");
    setText(byId("requests-second"), `${count(queued)} queued`);
    this.charts.requests.push(time, [running, queued]);
  }

  showEngines(page, rates, time) {
    const all = (read) => sum([...rates.values()], read);
    const generated = all((rates) => rates.generated);
    setText(byId("tokens-now"), rate(generated));
    setText(byId("tokens-note"), `prompts ${rate(all((rates) => rates.prompt))} a second`);
    this.charts.tokens.push(time, [generated]);

    const total = (read) => sum(page.models, read);
    const reserved = total((model) => model.memory.sequences_reserved_bytes);
    const limit = total((model) => model.memory.sequences_limit_bytes);
    setText(byId("memory-now"), bytes(reserved));
    const facts = [`limit ${bytes(limit)}`, `weights ${bytes(total((model) => model.memory.weights_bytes))}`];
    if (page.mlx_memory !== null) facts.push(`MLX ${bytes(page.mlx_memory.active_bytes)}, at most ${bytes(page.mlx_memory.peak_bytes)}`);
    setText(byId("memory-note"), facts.join(", "));
    this.charts.memory.push(time, [reserved]);

    const reused = all((rates) => rates.reused);
    setText(byId("cache-now"), rate(reused));
    const hits = total((model) => model.prefix_cache.hits_total);
    const tokens = total((model) => model.prefix_cache.hit_tokens_total);
    const held = total((model) => model.prefix_cache.memory_bytes);
    const isOn = page.models.some((model) => model.prefix_cache.enabled);
    setText(byId("cache-note"), isOn ? `${plural(hits, "hit")}, ${plural(tokens, "token")}; ${bytes(held)} kept` : "prefix reuse is off");
    this.charts.cache.push(time, [reused]);
  }

  showModels(page, rates) {
    byId("card-models").hidden = page.models.length < 2;
    rows(byId("models"), page.models, "tr", (model) => {
      const cells = [model.id, `${model.in_flight} of ${model.slots}`, model.queued, rate(rates.get(model.id).generated)];
      return model.phase === "ready" ? cells : [model.id, model.phase, "", ""];
    });
  }

  showUpstreams(fronts) {
    const all = fronts.flatMap((front) => front.upstreams.map((upstream) => ({ model: front.id, ...upstream })));
    byId("card-upstreams").hidden = all.length === 0;
    const words = { closed: "up", open: "down", half_open: "on trial", trial: "on trial" };
    rows(byId("upstreams"), all, "li", (one) => {
      const since = `for ${duration(one.since_seconds)}`;
      const problem = one.problem ? `: ${one.problem}` : "";
      return [`${one.name}`, `${words[one.circuit] ?? one.circuit} ${since}`, `${one.model}, ${plural(one.in_flight, "request")}${problem}`];
    });
    [...byId("upstreams").children].forEach((row, index) => {
      row.dataset.state = all[index].circuit;
    });
  }

  showClients(clients) {
    rows(byId("clients"), clients, "tr", (one) => [
      one.client.startsWith("loopback") ? one.client : `${one.client} (${one.auth})`,
      one.running,
      one.waiting,
      one.idle_seconds < 1 ? "now" : `${duration(one.idle_seconds)} ago`,
    ]);
    setText(byId("clients-note"), `${plural(clients.length, "client")} in the last 15 minutes, with this page`);
  }

  showRefusals(refusals) {
    byId("refusals-note").hidden = refusals.length > 0;
    rows(byId("refusals"), refusals, "li", (one) => {
      const times = one.count > 1 ? `, ${count(one.count)} times` : "";
      const what = one.route === null ? "connection" : `${one.method} ${one.route === "none" ? "unknown route" : one.route}`;
      const where = one.address === null ? "" : ` at ${one.address}`;
      const code = one.status === null ? one.code : `${one.status} ${one.code}`;
      return [code + times, `${duration(one.age_seconds)} ago`, `${what}, ${one.client}${where}`];
    });
  }
}

function sum(list, read) {
  return list.reduce((total, one) => total + read(one), 0);
}

/** Makes the rows of a table or a list from the texts of their cells. Rows that exist are kept. */
function rows(parent, list, name, texts) {
  while (parent.children.length > list.length) parent.lastElementChild.remove();
  list.forEach((one, index) => {
    const row = parent.children[index] ?? parent.appendChild(document.createElement(name));
    texts(one).forEach((text, cell) => {
      const kind = name === "li" ? "span" : cell === 0 ? "th" : "td";
      const shown = row.children[cell] ?? row.appendChild(document.createElement(kind));
      if (kind === "th") shown.scope = "row";
      setText(shown, text);
    });
  });
}
