//! What a person at a terminal sees once the server is ready: where it is, and a command to paste.

use sanctum_config::ModelId;

use crate::listen::Endpoint;

/// The banner.
pub fn banner(endpoints: &[Endpoint], models: &[&ModelId]) -> String {
    let urls: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    let models: Vec<&str> = models.iter().map(|id| id.as_str()).collect();
    let first = urls.first().map_or("", String::as_str);
    format!(
        r#"
  Sanctum {version} serves {models} on {urls}

  Try it:

    curl {first}/v1/chat/completions -H 'Content-Type: application/json' \
      -d '{{"messages": [{{"role": "user", "content": "What is 2+2? Respond with only the number."}}], "temperature": 0}}'

  OpenAI clients: base_url {first}/v1, any api_key. Ctrl-C stops it.
"#,
        version = env!("CARGO_PKG_VERSION"),
        models = models.join(", "),
        urls = urls.join(" and "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curl_can_be_pasted() {
        let address = Endpoint {
            address: "127.0.0.1:1337".parse().unwrap(),
            secure: false,
        };
        let id = "tiny".parse().unwrap();
        let banner = banner(&[address], &[&id]);
        assert!(banner.contains("serves tiny on http://127.0.0.1:1337\n"));
        let body = banner
            .split("-d '")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["messages"][0]["role"], "user");
    }
}
