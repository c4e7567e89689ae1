//! Stop strings, wherever token boundaries cut them.

use async_openai::types::chat::{CreateChatCompletionRequest, FinishReason, StopConfiguration};
use sanctum_tests::Server;

use crate::openai::{COUNT, ask, chat, joined, said, stream};

fn until(stop: StopConfiguration) -> CreateChatCompletionRequest {
    CreateChatCompletionRequest {
        stop: Some(stop),
        ..ask(COUNT)
    }
}

#[tokio::test]
async fn answer_ends_before_the_stop_string() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, ask(COUNT)).await;
    // Every three letters of the answer: some are one token, most cross a token boundary.
    let letters: Vec<char> = said(&whole).chars().collect();
    for stop in letters.windows(3).step_by(2) {
        let stop: String = stop.iter().collect();
        let (expected, _) = said(&whole).split_once(&stop).unwrap();
        let request = until(StopConfiguration::String(stop.clone()));
        let answer = chat(&server, request.clone()).await;
        assert_eq!(said(&answer), expected, "{stop:?}");
        assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::Stop));
        assert_eq!(
            joined(&stream(&server, request).await),
            expected,
            "{stop:?}"
        );
    }
}

#[tokio::test]
async fn first_of_several_stop_strings_ends_the_answer() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, ask(COUNT)).await;
    let stops = ["never said", "9", "8"].map(str::to_owned).to_vec();
    let answer = chat(&server, until(StopConfiguration::StringArray(stops))).await;
    assert_eq!(said(&answer), said(&whole).split('8').next().unwrap());
}

#[tokio::test]
async fn text_that_only_begins_like_a_stop_string_is_sent() {
    let server = Server::start([""; 0]).await;
    let whole = chat(&server, ask(COUNT)).await;
    // The answer's last letters and one more: held back until the end, and then sent.
    let ending: String = said(&whole)
        .chars()
        .rev()
        .take(4)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let request = until(StopConfiguration::String(ending + "~"));
    assert_eq!(said(&chat(&server, request.clone()).await), said(&whole));
    assert_eq!(joined(&stream(&server, request).await), said(&whole));
}
