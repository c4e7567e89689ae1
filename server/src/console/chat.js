// The chat: one conversation, which only this page has.

/** The id of the model that is built into the server, and questions that it can answer. */
const BUILT_IN = "sanctum-tiny";
const EXAMPLES = ["What is 23 minus 61?", "What is the capital of Kenya?", "Reverse the word lantern."];

class Chat {
  constructor() {
    /** What is sent with the next message. */
    this.messages = [];
    /** The running request's AbortController, or null. */
    this.running = null;
    /** The turns of a message that has no answer because of an error; the next message replaces it. */
    this.unanswered = null;
    this.model = byId("model");
    this.prompt = byId("prompt");
    this.transcript = byId("transcript");
    byId("send").addEventListener("click", () => this.submit());
    byId("stop").addEventListener("click", () => this.stop());
    byId("new").addEventListener("click", () => this.restart());
    this.model.addEventListener("change", () => this.describe());
    this.prompt.addEventListener("input", () => this.resize());
    this.prompt.addEventListener("keydown", (event) => {
      // Enter may also choose a word of an input method.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.submit();
      }
      if (event.key === "Escape") this.stop();
    });
    for (const example of EXAMPLES) {
      const button = element("button", "", example);
      button.type = "button";
      button.addEventListener("click", () => {
        this.prompt.value = example;
        this.prompt.focus();
        this.submit();
      });
      byId("examples").append(button);
    }
  }

  /** Lists the models that can be asked. */
  async loadModels() {
    const list = await (await send("/v1/models")).json();
    const ids = list.data.map((model) => String(model.id));
    const chosen = this.model.value;
    const options = ids.map((id) => {
      const option = element("option", "", visible(id));
      option.value = id;
      return option;
    });
    this.model.disabled = ids.length === 0;
    this.model.replaceChildren(...(ids.length === 0 ? [element("option", "", "none yet")] : options));
    if (ids.includes(chosen)) this.model.value = chosen;
    this.describe();
  }

  describe() {
    const isBuiltIn = this.model.value === BUILT_IN;
    byId("examples").hidden = !isBuiltIn;
    setText(byId("empty-lead"), this.model.disabled ? "No model is loaded yet." : `Ask ${this.model.value} something.`);
    setText(
      byId("empty-about"),
      isBuiltIn
        ? "This is the small model that is built into the server. It knows arithmetic, capitals, opposites and little else."
        : "Nothing of the conversation is stored: it ends when you close or reload this page.",
    );
  }

  submit() {
    const text = this.prompt.value.trim();
    if (text === "" || this.running !== null) return;
    if (this.unanswered !== null) {
      this.unanswered.forEach((turn) => turn.remove());
      this.messages.pop();
    }
    this.prompt.value = "";
    this.resize();
    byId("empty").hidden = true;
    const turn = this.addTurn("You", "user");
    appendText(turn.body, text);
    this.messages.push({ role: "user", content: text });
    this.answer([turn.root]);
  }

  stop() {
    this.running?.abort();
  }

  restart() {
    this.stop();
    this.messages = [];
    this.unanswered = null;
    byId("turns").replaceChildren(byId("empty"));
    byId("empty").hidden = false;
    byId("announce").textContent = "New conversation.";
    this.prompt.focus();
  }

  addTurn(name, kind) {
    const root = element("article", "turn " + kind);
    const title = element("h3", "", visible(name));
    const body = element("div", "text");
    body.dir = "auto";
    root.append(title, body);
    byId("turns").append(root);
    this.scroll(true);
    return { root, title, body };
  }

  /** Asks for the answer to the last message. `turns` are the elements of that message. */
  async answer(turns) {
    const controller = new AbortController();
    const messages = this.messages;
    this.running = controller;
    this.unanswered = null;
    this.showRunning(true);
    const turn = this.addTurn(this.model.value, "assistant");
    turn.root.setAttribute("aria-busy", "true");
    turn.root.classList.add("waiting");
    const answer = new Answer(turn);
    try {
      const body = {
        model: this.model.value,
        messages,
        stream: true,
        stream_options: { include_usage: true },
      };
      if (byId("reasoning").checked) body.reasoning_effort = "medium";
      const response = await send("/v1/chat/completions", { body, signal: controller.signal });
      answer.servedBy = response.headers.get("sanctum-served-by");
      for await (const data of events(response)) {
        if (data === "[DONE]") {
          answer.isWhole = true;
          break;
        }
        answer.take(JSON.parse(data));
        turn.root.classList.remove("waiting");
        this.scroll();
      }
      if (!answer.isWhole) throw new Problem("The connection ended before the answer was complete.");
      answer.close();
    } catch (error) {
      const isCurrent = messages === this.messages;
      if (controller.signal.aborted) {
        answer.close("Stopped");
      } else if (isCurrent) {
        const problem = error instanceof Problem ? error : new Problem("The connection ended before the answer was complete.");
        this.showProblem(answer, problem, [...turns, turn.root]);
      }
    }
    turn.root.classList.remove("waiting");
    turn.root.removeAttribute("aria-busy");
    // A new conversation may have begun meanwhile.
    if (messages === this.messages) {
      if (this.unanswered === null) messages.push({ role: "assistant", content: answer.text });
      byId("announce").textContent = answer.spoken();
      this.scroll();
    }
    if (this.running === controller) {
      this.running = null;
      this.showRunning(false);
    }
  }

  showProblem(answer, problem, turns) {
    this.unanswered = turns;
    answer.close(answer.text === "" ? "" : "Incomplete");
    const shown = element("div", "problem");
    const said = element("div");
    const message = element("p");
    said.append(message);
    said.setAttribute("role", "alert");
    const again = element("button", "", "Send again");
    again.type = "button";
    shown.append(said, again);
    answer.turn.root.append(shown);
    appendText(message, sentence(problem.message));
    if (problem.status === 401) this.prompt.focus();
    again.addEventListener("click", () => {
      if (this.running !== null) return;
      answer.turn.root.remove();
      this.prompt.focus();
      this.answer(turns.slice(0, -1));
    });
    let seconds = problem.retryAfter ?? 0;
    if (seconds > 0) said.append(element("p", "wait", `The server asks you to wait ${seconds} s.`));
    const tick = () => {
      again.disabled = seconds > 0;
      again.textContent = seconds > 0 ? `Send again in ${seconds} s` : "Send again";
      seconds -= 1;
      if (seconds >= 0 && again.isConnected) setTimeout(tick, 1000);
    };
    tick();
    this.scroll(true);
  }

  showRunning(isRunning) {
    const [send, stop] = [byId("send"), byId("stop")];
    const [shown, other] = isRunning ? [stop, send] : [send, stop];
    const hadFocus = document.activeElement === other;
    shown.hidden = false;
    other.hidden = true;
    if (hadFocus) (isRunning ? stop : this.prompt).focus();
    if (isRunning) byId("announce").textContent = "Answering.";
  }

  /** Follows the end of the conversation, unless the reader has scrolled up. */
  scroll(always = false) {
    const box = this.transcript;
    const isNear = box.scrollHeight - box.scrollTop - box.clientHeight < 120;
    if (always || isNear) box.scrollTop = box.scrollHeight;
  }

  resize() {
    this.prompt.style.height = "auto";
    this.prompt.style.height = this.prompt.scrollHeight + "px";
  }
}

/** A message of the server as a sentence. */
function sentence(text) {
  const begins = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begins) ? begins : begins + ".";
}

function wait(milliseconds) {
  return milliseconds < 1000 ? `${count(milliseconds)} ms` : `${TENTHS.format(milliseconds / 1000)} s`;
}

/** An answer that is being received. */
class Answer {
  constructor(turn) {
    this.turn = turn;
    this.text = "";
    this.thought = null;
    this.isWhole = false;
    this.servedBy = null;
    this.usage = null;
    this.finish = null;
    this.began = performance.now();
    this.first = null;
  }

  /** Takes one chunk of the stream. */
  take(chunk) {
    if (chunk.error) throw new Problem(String(chunk.error.message ?? "The server has failed.").slice(0, 2000));
    this.usage = chunk.usage ?? this.usage;
    const choice = chunk.choices?.[0];
    if (choice === undefined) return;
    this.finish = choice.finish_reason ?? this.finish;
    const delta = choice.delta ?? {};
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (typeof thought === "string" && thought !== "") {
      this.hasBegun();
      appendText(this.reasoning(), thought);
    }
    if (typeof delta.content === "string" && delta.content !== "") {
      this.hasBegun();
      this.text += delta.content;
      appendText(this.turn.body, delta.content);
    }
  }

  hasBegun() {
    this.first ??= performance.now();
  }

  /** The folded element of the reasoning. */
  reasoning() {
    if (this.thought === null) {
      const folded = element("details");
      this.thought = element("div", "text");
      this.thought.dir = "auto";
      folded.append(element("summary", "", "Reasoning"), this.thought);
      this.turn.body.before(folded);
    }
    return this.thought;
  }

  /** Shows how the answer ended and what it took. */
  close(how = "") {
    const facts = how === "" ? [] : [how];
    if (this.isWhole && this.finish === "length") facts.push("Cut off at the longest length");
    if (this.isWhole && this.text === "") facts.push("Empty answer");
    const tokens = this.usage?.completion_tokens;
    if (Number.isFinite(tokens)) {
      facts.push(plural(tokens, "token"));
      const seconds = (performance.now() - (this.first ?? this.began)) / 1000;
      // What arrives all at once says nothing of the rate.
      if (tokens > 1 && seconds > 0.1) facts.push(`${rate((tokens - 1) / seconds)} tokens/s`);
    }
    if (this.first !== null) facts.push(`first after ${wait(this.first - this.began)}`);
    if (this.servedBy !== null) facts.push(`answered by ${this.servedBy}`);
    this.turn.root.append(element("p", "facts", visible(facts.join(" · "))));
  }

  /** What a screen reader says at the end. */
  spoken() {
    return visible(this.text === "" ? "No answer." : "Answer: " + this.text);
  }
}
