// Requests to this server. The token is in this variable and nowhere else: it is gone when the page is.

let token = null;
/** Is called with a problem whose status is 401. */
let onUnauthorized = () => {};

/** Why a request has no answer. */
class Problem extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    /** Seconds, or null. */
    this.retryAfter = retryAfter;
  }
}

function useToken(text) {
  token = text;
}

/** Sends a request and returns the response. Throws a Problem, or the AbortError of the signal. */
async function send(path, { body, signal } = {}) {
  const headers = {};
  if (token !== null) headers.authorization = "Bearer " + token;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. It may be stopped, or restarting.");
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status === 401) onUnauthorized(problem);
  throw problem;
}

async function problemOf(response) {
  let message = "";
  try {
    const body = await response.json();
    message = String(body.error?.message ?? body.message ?? "");
  } catch {
    // A proxy between this page and the server may answer with something else.
  }
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new Problem(message.slice(0, 2000) || "The server answered with status " + response.status + ".", {
    status: response.status,
    retryAfter: Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, 3600) : null,
  });
}

/** The data of each server-sent event of a response. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } finally {
    // Closes the connection if the rest is not wanted.
    reader.cancel().catch(() => {});
  }
}
