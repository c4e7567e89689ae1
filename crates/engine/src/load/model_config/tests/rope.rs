//! Scaling of rotary positions: where it is read, and what is refused by name.

use super::*;

/// `rope_parameters` and `rope_scaling` to the scaling, or what the error says.
fn scaling(parameters: Value, older: Value) -> Result<RopeScaling, String> {
    let mut config = flat();
    config["rope_parameters"] = parameters;
    config["rope_scaling"] = older;
    let parsed = parse(&config).map_err(|error| error.to_string());
    parsed.map(|config| config.rope_scaling)
}

#[test]
fn rope_scaling_is_honoured_wherever_it_stands() {
    let theta = || json!({"rope_theta": 1e4});
    let yarn = |factor: f64, attention: f64| RopeScaling::Yarn {
        factor,
        original: 64,
        fast: 32.0,
        slow: 1.0,
        attention,
    };
    let said = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64});
    let with = |extra: Value| {
        let mut all = said.clone();
        all.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        all
    };
    let default = 0.1 * 4f64.ln() + 1.0;
    for (parameters, older) in [
        (theta(), said.clone()),
        (with(theta()), json!(null)),
        (json!(null), with(theta())),
        (with(theta()), said.clone()),
        (with(theta()), json!({"type": "default"})),
        (
            json!({"rope_theta": 1e4, "type": "mrope", "mrope_section": [1, 1, 2]}),
            said.clone(),
        ),
        (
            theta(),
            with(json!({"type": "yarn", "mscale": 1.0, "mscale_all_dim": 0, "beta_fast": null})),
        ),
    ] {
        assert_eq!(scaling(parameters, older), Ok(yarn(4.0, default)));
    }
    let ratio = (0.1 * 0.5 * 4f64.ln() + 1.0) / (0.1 * 2.0 * 4f64.ln() + 1.0);
    for (extra, attention) in [
        (json!({"attention_factor": 1.0}), 1.0),
        (json!({"attention_factor": 0.5, "mscale": 3.0}), 0.5),
        (json!({"mscale": 0.5, "mscale_all_dim": 2.0}), ratio),
    ] {
        assert_eq!(scaling(theta(), with(extra)), Ok(yarn(4.0, attention)));
    }
    let linear = json!({"type": "linear", "factor": 2.5});
    let factor = 2.5;
    assert_eq!(scaling(theta(), linear), Ok(RopeScaling::Linear { factor }));
    for older in [
        json!(null),
        json!({}),
        json!({"type": "default", "factor": 1.0}),
    ] {
        assert_eq!(scaling(theta(), older), Ok(RopeScaling::None));
    }
    // The context is what the stretching is meant for, or what the file says beside it.
    let mut config = flat();
    for (original, context) in [(64, 512), (1024, 4096)] {
        config["rope_scaling"] = with(json!({"original_max_position_embeddings": original}));
        assert_eq!(parse(&config).unwrap().context, context);
    }
}

#[test]
fn rope_scaling_that_cannot_be_honoured_is_refused_by_name() {
    let theta = || json!({"rope_theta": 1e4});
    let linear = || json!({"rope_theta": 1e4, "type": "linear", "factor": 2.0});
    let yarn = |extra: Value| {
        let mut all = json!({"type": "yarn", "factor": 4, "original_max_position_embeddings": 64});
        all.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        all
    };
    for (parameters, older, words) in [
        (
            theta(),
            json!({"type": "dynamic", "factor": 2.0}),
            "rope_type is dynamic",
        ),
        (
            theta(),
            json!({"rope_type": "llama3", "factor": 8.0}),
            "rope_type is llama3",
        ),
        (
            theta(),
            json!({"rope_type": "yarn", "type": "linear"}),
            "rope_scaling.type is linear",
        ),
        (
            linear(),
            yarn(json!({})),
            "rope_parameters.rope_type is linear",
        ),
        (
            linear(),
            json!({"type": "linear", "factor": 4.0}),
            "rope_parameters.factor is 2.0",
        ),
        (
            theta(),
            json!({"rope_theta": 1e6}),
            "rope_scaling.rope_theta is 1000000.0",
        ),
        (theta(), json!({"factor": 4.0}), "factor is 4.0"),
        (theta(), json!({"type": "linear"}), "factor is missing"),
        (
            theta(),
            json!({"type": "linear", "factor": 0.5}),
            "factor is 0.5",
        ),
        (
            theta(),
            json!({"type": "yarn", "factor": 4}),
            "original_max_position_embeddings is missing",
        ),
        (theta(), yarn(json!({"factor": "NaN"})), "factor is NaN"),
        (
            theta(),
            yarn(json!({"truncate": false})),
            "truncate is false",
        ),
        (theta(), yarn(json!({"mscale": 0.7})), "mscale is 0.7"),
        (
            theta(),
            yarn(json!({"mscale_all_dim": 0.7})),
            "mscale_all_dim is 0.7",
        ),
        (theta(), yarn(json!({"beta_fast": 0.5})), "beta_fast is 0.5"),
        (
            theta(),
            yarn(json!({"attention_factor": -1})),
            "attention_factor is -1",
        ),
        (
            theta(),
            yarn(json!({"short_factor": [1.0]})),
            "short_factor is [1.0]",
        ),
        (theta(), json!("yarn"), "rope_scaling is yarn"),
        (
            json!({"full_attention": {"rope_theta": 1e6}, "rope_theta": 1e4}),
            json!(null),
            "rope_parameters.full_attention is",
        ),
        (json!(null), json!(null), "rope_theta is missing"),
    ] {
        let error = scaling(parameters, older).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}
