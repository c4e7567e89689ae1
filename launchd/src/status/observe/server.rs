//! Observing a server of this host: its state, and what its metrics say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sanctum_config::Label;
use sanctum_host::{Installation, ssh};

use crate::prefix_check;
use crate::server_probe::{ServerProbe, ServerState};
use crate::status::host_status::{Decisions, ServerStatus};

/// How long all requests to a server take together. Another host gives this one [`ssh::SHORT_LIMIT`] for its whole status, of
/// which ssh may need 5 s to connect.
const SERVER_LIMIT: Duration = Duration::from_secs(8);
const _: () = assert!(SERVER_LIMIT.as_secs() + 5 < ssh::SHORT_LIMIT.as_secs());
/// The part of it for the state, which takes twice its time limit at most.
const HEALTH_LIMIT: Duration = Duration::from_secs(4);
/// Between two readings of the number of tokens.
const RATE_PERIOD: Duration = Duration::from_secs(1);

/// The status of a server, from its `/health` and `/metrics`. A busy server that answers late is shown without its metrics.
pub(super) fn server_status(
    installation: &Installation,
    name: &Label,
    served_by: &Label,
    is_stopped: bool,
) -> ServerStatus {
    let end = Instant::now() + SERVER_LIMIT;
    let probe = ServerProbe::from_host(
        &installation.fleet,
        &installation.file,
        &installation.home,
        &installation.host,
        name,
    );
    let (state, health) = match &probe {
        Ok(probe) => probe.reading(HEALTH_LIMIT),
        Err(reason) => (ServerState::NoAnswer(reason.clone()), None),
    };
    let reading = health.as_ref().map(|health| health.together);
    let failed = health.map(|health| health.failed_prefix_checks());
    let failed = failed.unwrap_or_default();
    let page = match (&probe, &state) {
        (Ok(probe), ServerState::Ready) => probe.metrics(left(end)),
        _ => None,
    };
    let tokens_per_second = match (&probe, &page, reading) {
        (Ok(probe), Some(page), Some(reading)) if reading.in_flight > 0 => {
            tokens_per_second(probe, page, end)
        }
        (_, Some(_), Some(_)) => Some(0.0),
        _ => None,
    };
    ServerStatus {
        name: name.clone(),
        served_by: served_by.clone(),
        prefix_checks: failed.iter().map(prefix_check::in_words).collect(),
        state: match state {
            ServerState::NoAnswer(_) if is_stopped => "stopped".to_owned(),
            state => state.to_string(),
        },
        in_flight: reading.map(|reading| reading.in_flight),
        queued: reading.map(|reading| reading.queued),
        tokens_per_second,
        mlx_memory_bytes: page
            .as_ref()
            .and_then(|page| sum(page, "sanctum_mlx_active_memory_bytes"))
            .map(|bytes| bytes as u64),
        auth: page.map(|page| decisions(&page)),
    }
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

/// The tokens that a server generates in a second from `page` on; none if it does not answer before `end`.
fn tokens_per_second(probe: &ServerProbe, page: &str, end: Instant) -> Option<f64> {
    const NAME: &str = "sanctum_completion_tokens_total";
    let begun = Instant::now();
    let before = sum(page, NAME)?;
    if left(end) <= RATE_PERIOD {
        return None;
    }
    std::thread::sleep(RATE_PERIOD);
    let after = sum(&probe.metrics(left(end))?, NAME)?;
    Some((after - before).max(0.0) / begun.elapsed().as_secs_f64())
}

/// The sum of a metric's samples; none if there is none.
fn sum(page: &str, name: &str) -> Option<f64> {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(labelled) => labelled.rsplit_once("} ")?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.trim().parse::<f64>().ok()
    });
    samples.reduce(|sum, sample| sum + sample)
}

/// From lines such as `sanctum_auth_total{method="mtls",outcome="granted"} 12`.
fn decisions(page: &str) -> BTreeMap<String, Decisions> {
    let mut methods: BTreeMap<String, Decisions> = BTreeMap::new();
    for line in page.lines() {
        let Some((labels, value)) = line
            .strip_prefix("sanctum_auth_total{")
            .and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            let begin = format!("{name}=\"");
            let mut pairs = labels.split(',');
            pairs.find_map(|pair| pair.strip_prefix(&begin)?.strip_suffix('"'))
        };
        let Some(method) = label("method") else {
            continue;
        };
        let count = value.trim().parse().unwrap_or(0);
        let decisions = methods.entry(method.to_owned()).or_default();
        match label("outcome") {
            Some("granted") => decisions.granted += count,
            _ => decisions.refused += count,
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_that_do_not_come_end_with_the_time_of_the_server() {
        // It accepts connections and answers nothing.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let [server, host] = ["server", "mini"].map(|name| name.parse::<Label>().unwrap());
        let probe = ServerProbe::loopback(socket.local_addr().unwrap(), &server, &host);
        let page = "sanctum_completion_tokens_total 1\n";
        let begun = Instant::now();
        let end = begun + RATE_PERIOD + Duration::from_millis(100);
        assert_eq!(tokens_per_second(&probe, page, end), None);
        assert!(begun.elapsed() < SERVER_LIMIT / 2, "{:?}", begun.elapsed());
        // Not even asked.
        assert_eq!(tokens_per_second(&probe, page, begun), None);
        assert_eq!(probe.metrics(left(begun)), None);
    }

    #[test]
    fn samples_of_a_metric_are_summed() {
        let page = "# TYPE a counter\na{model=\"x\"} 3\na{model=\"y} \"} 4.5\na_total 9\nb 1\n";
        assert_eq!(sum(page, "a"), Some(7.5));
        assert_eq!((sum(page, "b"), sum(page, "c")), (Some(1.0), None));
    }

    #[test]
    fn decisions_are_summed_by_method() {
        let page = "# TYPE sanctum_auth_total counter\n\
            sanctum_auth_total{method=\"mtls\",outcome=\"granted\"} 12\n\
            sanctum_auth_total{method=\"bearer\",outcome=\"refused\",reason=\"wrong\"} 2\n\
            sanctum_auth_total{method=\"bearer\",outcome=\"granted\"} 3\n\
            sanctum_auth_total{method=\"none\",outcome=\"refused\",reason=\"missing\"} 0\n\
            sanctum_connections 1\n";
        let expected = [("bearer", 3, 2), ("mtls", 12, 0), ("none", 0, 0)];
        let expected = expected
            .map(|(method, granted, refused)| (method.to_owned(), Decisions { granted, refused }));
        assert_eq!(decisions(page), BTreeMap::from(expected));
    }
}
