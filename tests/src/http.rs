//! HTTP without judgement: sends any request and shows any response.

use std::time::Instant;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::within;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    base: String,
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

/// A streamed response; dropping it closes the connection.
#[derive(Debug)]
pub struct Chunks {
    response: Response,
    /// The start of an event that is not complete yet.
    rest: Vec<u8>,
    /// When it arrived.
    at: Instant,
}

/// One event of a streamed response.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// When it arrived.
    pub at: Instant,
    /// Its data; null for the `[DONE]` that ends a response.
    pub data: Value,
}

impl Http {
    /// A client of the server at this address, `http://…`.
    pub fn new(base: &str) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "a test sends any request and sees any response"
        )]
        let client = Client::builder().redirect(Policy::none()).build();
        Self {
            client: client.expect("plain HTTP needs nothing of the system"),
            base: base.to_owned(),
        }
    }

    /// A client of the same server with separate connections.
    pub fn afresh(&self) -> Self {
        Self::new(&self.base)
    }

    /// The server's base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GETs a page.
    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.client.get(self.url(path))).await
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.answer(self.client.post(self.url(path)).json(body))
            .await
    }

    /// POSTs JSON with another header.
    pub async fn post_with(&self, path: &str, body: &Value, header: &str, value: &str) -> Answer {
        let request = self.client.post(self.url(path)).json(body);
        self.answer(request.header(header, value)).await
    }

    /// POSTs JSON and waits for the answer, however long it takes: benchmarks compute prompts of minutes.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn post_and_wait(&self, path: &str, body: &Value) -> Answer {
        let response = self.client.post(self.url(path)).json(body).send().await;
        whole(response.expect("the server answers")).await
    }

    /// Whether a GET is answered with success now.
    pub async fn succeeds(&self, path: &str) -> bool {
        let answer = self.client.get(self.url(path)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// POSTs anything.
    pub async fn post_text(&self, path: &str, kind: &str, body: &str) -> Answer {
        let request = self.client.post(self.url(path));
        self.answer(request.header("content-type", kind).body(body.to_owned()))
            .await
    }

    /// POSTs JSON; none if there is no whole response.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let response = self.client.post(self.url(path)).json(body).send().await;
        let response = response.ok()?;
        Some(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.ok()?,
        })
    }

    /// POSTs JSON and reads the response event by event; none if the response is an error.
    pub async fn try_stream(&self, path: &str, body: &Value) -> Option<Chunks> {
        let response = self.client.post(self.url(path)).json(body).send().await;
        let response = response.ok().filter(|response| response.status() == 200);
        response.map(Chunks::of)
    }

    /// POSTs JSON and reads the response event by event.
    ///
    /// # Panics
    /// If the response is an error.
    pub async fn stream(&self, path: &str, body: &Value) -> Chunks {
        let response = send(self.client.post(self.url(path)).json(body)).await;
        assert_eq!(
            response.status(),
            200,
            "{}",
            response.text().await.unwrap_or_default()
        );
        Chunks::of(response)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn answer(&self, request: RequestBuilder) -> Answer {
        whole(send(request).await).await
    }
}

async fn whole(response: Response) -> Answer {
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.expect("the answer is whole"),
    }
}

async fn send(request: RequestBuilder) -> Response {
    within("an answer", request.send())
        .await
        .expect("the server answers")
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// The `Retry-After` header, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
    }
}

impl Chunks {
    fn of(response: Response) -> Self {
        Self {
            response,
            rest: Vec::new(),
            at: Instant::now(),
        }
    }

    /// The next event; none at the end of the response. Comments, which only keep the connection alive, are left out.
    ///
    /// # Panics
    /// If the connection breaks, or an event is not one line of `data:`.
    pub async fn next(&mut self) -> Option<Chunk> {
        loop {
            while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("events are whole text");
                if !event.starts_with(':') {
                    return Some(Chunk {
                        at: self.at,
                        data: data(event.trim_end()),
                    });
                }
            }
            let more = within("the next event", self.response.chunk()).await;
            self.rest.extend(more.expect("the answer ends well")?);
            self.at = Instant::now();
        }
    }

    /// The rest of the events.
    pub async fn rest(mut self) -> Vec<Chunk> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await {
            all.push(chunk);
        }
        all
    }
}

fn data(event: &str) -> Value {
    match event.strip_prefix("data: ") {
        Some("[DONE]") => Value::Null,
        Some(data) => serde_json::from_str(data).unwrap_or_else(|_| panic!("no JSON: {data}")),
        None => panic!("an event without data: {event}"),
    }
}

impl Chunk {
    /// Whether this is the `[DONE]` after a complete response.
    pub fn is_done(&self) -> bool {
        self.data.is_null()
    }

    /// Its text, of a chat or a text completion.
    pub fn text(&self) -> &str {
        let choice = &self.data["choices"][0];
        let text = choice["delta"]["content"].as_str();
        text.or(choice["text"].as_str()).unwrap_or_default()
    }
}
