// Puts the page together: what is shown, and who asks for the token.

const chat = new Chat();
const status = new Status(() => {
  // What fails here fails in the status too, which shows it.
  chat.loadModels().catch(() => {});
});

/** Whether a token was entered since the page was opened. */
let hasAsked = false;

onUnauthorized = (problem) => {
  status.pause();
  byId("token-view").hidden = false;
  byId("console-view").hidden = true;
  byId("views").hidden = true;
  byId("state").dataset.state = "locked";
  setText(byId("state-word"), "Token needed");
  byId("token-use").disabled = false;
  setText(byId("token-problem"), hasAsked ? "The server does not accept this token: " + problem.message + "." : "");
  byId("token").focus();
};

async function enterToken() {
  const field = byId("token");
  const text = field.value.trim();
  if (text === "") {
    setText(byId("token-problem"), "Enter the token.");
    field.focus();
    return;
  }
  // A header can carry nothing else.
  if (!/^[\x21-\x7e]+$/.test(text)) {
    setText(byId("token-problem"), "A token is one line of visible ASCII characters.");
    field.focus();
    return;
  }
  field.value = "";
  hasAsked = true;
  useToken(text);
  byId("token-use").disabled = true;
  try {
    await send("/status");
  } catch (problem) {
    byId("token-use").disabled = false;
    if (problem.status !== 401) setText(byId("token-problem"), problem.message);
    return;
  }
  byId("token-use").disabled = false;
  byId("token-problem").textContent = "";
  byId("token-view").hidden = true;
  byId("console-view").hidden = false;
  byId("views").hidden = false;
  status.run();
  chat.prompt.focus();
}

byId("token-use").addEventListener("click", enterToken);
byId("token").addEventListener("keydown", (event) => {
  if (event.key === "Enter") enterToken();
});

// On a narrow screen one of the two halves is shown.
for (const button of document.querySelectorAll(".views button")) {
  button.addEventListener("click", () => {
    document.body.dataset.view = button.dataset.view;
    for (const other of document.querySelectorAll(".views button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}

status.run();
// A keyboard on the screen would cover the page.
if (matchMedia("(hover: hover)").matches) chat.prompt.focus();
