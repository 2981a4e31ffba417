//! openapi.json and the server agree: on every path, every method, and every status seen in any test.

use crate::daemon::Queued;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap());

/// The documented path that matches a request's path.
fn template(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &&String| {
        let wanted: Vec<&str> = template.split('/').collect();
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(|(w, p)| w == p || w.starts_with('{'))
    };
    DOCUMENT["paths"].as_object().unwrap().keys().find(fits).map(String::as_str)
}

/// Checks the status of an answer; called with every answer in every test.
pub(crate) fn check_status(method: &str, path: &str, status: u16) {
    let Some(template) = template(path) else { return };
    let responses = &DOCUMENT["paths"][template][method.to_lowercase()]["responses"];
    if responses.is_null() {
        assert_eq!(status, 405, "{method} {path} is not documented");
    } else {
        assert!(
            !responses[status.to_string()].is_null(),
            "{method} {template} gave {status}, which is not documented"
        );
    }
}

#[test]
fn documented_paths_are_the_real_routes() {
    let sources = [include_str!("../../src/http/mod.rs"), include_str!("../../src/http/memq.rs")];
    let mut routes = BTreeSet::new();
    for source in sources {
        for call in source.split(".route(").skip(1) {
            let literal = call.split('"').nth(1).unwrap();
            // This route only answers requests with an empty name.
            if !literal.ends_with("/queues/") {
                routes.insert(literal.to_owned());
            }
        }
    }
    let documented: BTreeSet<String> = DOCUMENT["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(routes, documented);
}

#[test]
fn documented_methods_are_the_real_ones() {
    let daemon = Queued::start(&["--data", "memory"]);
    for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
        // A stream never ends; its own test reads it.
        if path == "/v1/events" {
            continue;
        }
        let path = path.replace("{name}", "q").replace("{id}", "0");
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            let answer = daemon.http().call(method, &path, "");
            let documented = !methods[method.to_lowercase()].is_null();
            assert_eq!(answer.status != 405, documented, "{method} {path}: {}", answer.status);
            if !documented {
                assert_eq!(answer.error(), "method_not_allowed");
            }
        }
    }
    assert_eq!(daemon.get("/v1/nothing").expect(404).error(), "not_found");
}

#[test]
fn document_references_resolve() {
    let text = include_str!("../../openapi.json");
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(!DOCUMENT["components"]["schemas"][name].is_null(), "{name}");
    }
}

/// Sends thousands of requests that the document allows or forbids.
#[test]
#[ignore = "needs schemathesis: just test-programs"]
fn schemathesis_finds_nothing() {
    let daemon = Queued::start(&[]);
    daemon.setup.write("openapi.json", include_str!("../../openapi.json"));
    daemon.setup.write("hooks.py", include_str!("../schemathesis/hooks.py"));
    daemon.setup.write("schemathesis.toml", include_str!("../schemathesis/schemathesis.toml"));
    let output = std::process::Command::new("schemathesis")
        .current_dir(daemon.setup.path(""))
        .args(["run", "openapi.json", "--no-color", "--url", &format!("http://{}", daemon.http_address())])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("Selected: 29/30"), "it left something out: {report}");
    let metrics = daemon.get("/metrics");
    assert!(!metrics.text().contains("status=\"500\""), "{}", metrics.text());
    assert!(metrics.text().contains("status=\"201\""), "no request reached the engine: {report}");
}
