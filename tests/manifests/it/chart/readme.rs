//! The table in k8s/chart/README.md is values.yaml.

use crate::chart::values::{Setting, settings};
use crate::rendering::text;

fn row(setting: &Setting) -> String {
    format!("| `{}` | `{}` | {} |", setting.name(), setting.default, setting.about)
}

#[test]
fn table_of_values_is_values_yaml() {
    let wanted: Vec<String> = settings().iter().map(row).collect();
    let readme = text("k8s/chart/README.md");
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    if let Some((found, wanted)) = rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted) {
        panic!("the table of values has\n{found}\ninstead of\n{wanted}");
    }
    assert_eq!(rows.len(), wanted.len(), "rows are missing or too many:\n{}", wanted.join("\n"));
}
