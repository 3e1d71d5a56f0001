//! README says what is true.

#![expect(clippy::expect_used, clippy::string_slice, reason = "helpers of a test: they stop at the first surprise")]

use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md")
}

#[test]
fn the_configuration_table_is_the_descriptions_own() {
    let readme = readme();
    let begin = readme.find("<!-- configuration: begin").expect("the beginning of the table");
    let end = readme.find("<!-- configuration: end -->").expect("the end of the table");
    let shown = readme[begin..end].split_once('\n').expect("a line").1;
    assert_eq!(shown.trim(), uma_gateway::config::table().trim(), "put the output of `config::table()` between the two marks");
}

#[test]
fn every_metric_that_readme_names_exists() {
    let metrics = uma_gateway::telemetry::Metrics::new().expect("metrics").encode().expect("text");
    let readme = readme();
    let section = readme.split("## Metrics").nth(1).expect("the section").split("\n## ").next().expect("its end");
    let names = section.split('`').skip(1).step_by(2).map(|name| name.split('{').next().unwrap_or(name)).filter(|name| name.contains('_'));
    let telemetry = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry");
    let sources = [telemetry.clone(), telemetry.join("metrics")].into_iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let code: String = sources.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()).collect();
    // A family without a series yet is not in the text, but its name is in the code.
    let missing: Vec<&str> = names.filter(|name| !metrics.contains(name) && !code.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
