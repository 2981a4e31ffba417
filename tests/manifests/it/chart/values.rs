//! The values of the chart: k8s/chart/values.yaml with its comments, and sets of values that tests share.

use crate::rendering::text;
use serde_json::{Value, json};

/// One value of values.yaml.
pub struct Setting {
    /// The path of keys, such as `["logd", "tls", "caKey"]`.
    pub path: Vec<String>,
    pub default: Value,
    /// The comment above it, as one line.
    pub about: String,
}

impl Setting {
    /// The path as `--set` takes it.
    pub fn name(&self) -> String {
        self.path.join(".")
    }

    /// Returns values that only set this one.
    pub fn set(&self, value: Value) -> Value {
        nested(&self.path, value)
    }
}

pub fn nested(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |value, name| json!({ name: value }))
}

pub fn all() -> Value {
    serde_saphyr::from_str(&text("k8s/chart/values.yaml")).unwrap()
}

/// Lists all settings in the order of the file. A key with a comment is a setting, another one is a section.
pub fn settings() -> Vec<Setting> {
    let (mut path, mut comment, mut found) = (Vec::<String>::new(), String::new(), Vec::new());
    let all = all();
    // The deepest column of keys that the setting above contains, such as those of `resources`.
    let mut inside = None;
    for line in text("k8s/chart/values.yaml").lines() {
        let column = line.len() - line.trim_start().len();
        let line = line.trim_start();
        if line.is_empty() {
            comment.clear();
        } else if let Some(words) = line.strip_prefix('#') {
            comment = format!("{comment} {}", words.trim()).trim().to_owned();
        } else if inside.is_some_and(|setting| column > setting) {
        } else {
            path.truncate(column / 2);
            path.push(line.split_once(':').unwrap().0.to_owned());
            inside = None;
            if !comment.is_empty() {
                inside = Some(column);
                let default = path.iter().fold(&all, |value, name| &value[name]).clone();
                let about = std::mem::take(&mut comment);
                found.push(Setting { path: path.clone(), default, about });
            }
        }
    }
    assert!(found.len() > 80, "only {} settings", found.len());
    found
}

/// Every option that can be on together with the others.
pub fn everything() -> Value {
    serde_saphyr::from_str(&text("tests/manifests/values/everything.yaml")).unwrap()
}

/// Adds `more` to `values`, which it overrides.
pub fn merged(values: &Value, more: &Value) -> Value {
    match (values, more) {
        (Value::Object(values), Value::Object(more)) => {
            let mut both = values.clone();
            for (name, value) in more {
                let before = both.get(name).cloned().unwrap_or(Value::Null);
                both.insert(name.clone(), merged(&before, value));
            }
            Value::Object(both)
        }
        _ => more.clone(),
    }
}
