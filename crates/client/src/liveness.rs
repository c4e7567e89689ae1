//! Whether a server is alive, whatever program it is: installer, status, guardian and canary all use this check.
//!
//! A Sanctum server shows its heartbeat at `/health`. A standby is another program: mlx_lm.server answers
//! `{"status":"ok"}` there, others answer HTML, 404, an empty page, or close the connection. What is not a heartbeat
//! proves nothing, so `/v1/models` decides: every server of the OpenAI API lists its models. The exception is an
//! mlx_lm.server on a host without Hugging Face's cache: it sends a 200 for `/v1/models`, fails to read that cache, and
//! closes the connection without a body, while it answers chats. There `{"status":"ok"}` and that 200 together decide.

use std::time::Instant;

use crate::client::{Client, Timed};
use crate::error::ClientError;
use crate::health::Health;

/// The proof that a server is alive.
#[derive(Clone, Debug, PartialEq)]
pub enum Liveness {
    /// A Sanctum server's heartbeat.
    Heartbeat(Health),
    /// The list of models of a program without a heartbeat.
    Models(Vec<String>),
}

impl Client {
    /// Requests `/health`, then `/v1/models` if that has no heartbeat. Takes twice the client's time limit at most.
    ///
    /// # Errors
    /// If neither has the expected page. An error response is preferred to a missing one.
    pub async fn liveness(&self) -> Result<Timed<Liveness>, ClientError> {
        let (is_status_ok, first) = match self.health_page().await {
            Ok(page) => match self.heartbeat(&page.value) {
                Ok(health) => {
                    return Ok(page.map(|_| Liveness::Heartbeat(health)));
                }
                Err(error) => (page.value["status"] == "ok", error),
            },
            Err(error) => (false, error),
        };
        let begun = Instant::now();
        match self.models().await {
            Ok(models) => Ok(models.map(Liveness::Models)),
            Err(ClientError::Format { .. }) if is_status_ok => Ok(Timed {
                value: Liveness::Models(Vec::new()),
                latency: begun.elapsed(),
            }),
            Err(second) if second.is_answer() => Err(second),
            Err(_) => Err(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::endpoint::{Credentials, ServerEndpoint};

    const MODELS: &str = r#"{"object":"list","data":[{"id":"mlx-community/Qwen3.5"}]}"#;

    /// A server that answers `/health` and everything else with these statuses and bodies; without a status it closes
    /// the connection.
    fn serving(
        health: (&'static str, &'static str),
        models: (&'static str, &'static str),
    ) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 2048];
                let read = stream.read(&mut request).unwrap_or(0);
                let asked = String::from_utf8_lossy(&request[..read]).into_owned();
                let (status, body) = match asked.starts_with("GET /health ") {
                    true => health,
                    false => models,
                };
                if !status.is_empty() {
                    let length = body.len();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close"
                    );
                    let _ = write!(stream, "{head}\r\nLocation: /elsewhere\r\n\r\n{body}");
                }
            }
        });
        let endpoint = ServerEndpoint {
            server: "server".parse().unwrap(),
            host: "mini".parse().unwrap(),
            on_box: true,
            base,
            plain: None,
            credentials: Credentials::None,
        };
        Client::new(&endpoint, Duration::from_secs(10)).unwrap()
    }

    #[tokio::test]
    async fn liveness_without_heartbeat_is_decided_by_the_list_of_models() {
        for health in [
            ("200 OK", r#"{"status":"ok"}"#),
            ("200 OK", "<!doctype html><title>llama.cpp</title>"),
            ("200 OK", ""),
            (
                "503 Service Unavailable",
                r#"{"error":{"message":"Loading model"}}"#,
            ),
            ("404 Not Found", "Not Found"),
            ("401 Unauthorized", ""),
            ("429 Too Many Requests", ""),
            ("307 Temporary Redirect", ""),
            ("500 Internal Server Error", "Traceback"),
            ("", ""),
        ] {
            let alive = serving(health, ("200 OK", MODELS)).liveness().await;
            let alive = alive
                .unwrap_or_else(|error| panic!("{health:?}: {error}"))
                .value;
            assert_eq!(
                alive,
                Liveness::Models(vec!["mlx-community/Qwen3.5".into()]),
                "{health:?}"
            );
        }
    }

    #[tokio::test]
    async fn liveness_accepts_unreadable_list_where_health_is_status_ok() {
        // mlx_lm.server without Hugging Face's cache.
        let ok = ("200 OK", r#"{"status": "ok"}"#);
        let alive = serving(ok, ("200 OK", "")).liveness().await.unwrap().value;
        assert_eq!(alive, Liveness::Models(Vec::new()));
        for health in [("200 OK", "{}"), ("200 OK", ""), ("404 Not Found", "")] {
            let refused = serving(health, ("200 OK", "")).liveness().await;
            assert!(refused.is_err(), "{health:?}");
        }
        for models in [
            ("404 Not Found", ""),
            ("503 Service Unavailable", ""),
            ("", ""),
        ] {
            let refused = serving(ok, models).liveness().await;
            assert!(refused.is_err(), "{models:?}");
        }
    }

    #[tokio::test]
    async fn liveness_with_heartbeat_needs_no_list_of_models() {
        let page = r#"{"status":"loading","phase":"loading","in_flight":0,"queued":0,"progress":3,"progress_age_seconds":1}"#;
        let client = serving(("503 Service Unavailable", page), ("", ""));
        let alive = client.liveness().await.unwrap().value;
        assert!(matches!(alive, Liveness::Heartbeat(_)), "{alive:?}");
    }

    #[tokio::test]
    async fn liveness_without_either_is_an_error_that_shows_an_answer() {
        let error = |health, models| async move {
            let refused = serving(health, models).liveness().await.unwrap_err();
            refused.to_string()
        };
        let ok = ("200 OK", "{}");
        assert!(
            error(ok, ("404 Not Found", ""))
                .await
                .contains("/v1/models answered 404")
        );
        assert!(
            error(("401 Unauthorized", ""), ("", ""))
                .await
                .contains("/health does not accept")
        );
        assert!(
            error(("", ""), ("", ""))
                .await
                .contains("/health cannot be reached")
        );
    }
}
