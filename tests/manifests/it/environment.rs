//! The environment variables of a container, from its own words, ConfigMaps and Secrets.

use crate::image;
use crate::pod::Pod;
use k8s_openapi::api::core::v1::{Container, EnvVar};
use std::collections::BTreeMap;

/// Stands for a value that only a cluster knows.
const PLACEHOLDER: &str = "192.0.2.1";

type Variables = BTreeMap<String, String>;

/// Returns the container's variables. The ConfigMaps and Secrets that they come from must have the keys.
pub fn of(pod: &Pod<'_>, container: &Container) -> Result<Variables, String> {
    if container.env_from.is_some() && image::of(container).is_some() {
        return Err("envFrom hides which settings there are: name each".to_owned());
    }
    let mut variables = Variables::new();
    for source in container.env_from.iter().flatten() {
        if let Some(map) = &source.config_map_ref {
            variables.extend(config_map(pod, &map.name)?);
        }
        if let Some(secret) = &source.secret_ref {
            variables.extend(self::secret(pod, &secret.name)?);
        }
    }
    for variable in container.env.iter().flatten() {
        variables.insert(variable.name.clone(), value(pod, variable)?);
    }
    Ok(variables)
}

fn value(pod: &Pod<'_>, variable: &EnvVar) -> Result<String, String> {
    let source = variable.value_from.as_ref();
    let (keys, key) = if let Some(field) = source.and_then(|source| source.config_map_key_ref.as_ref()) {
        (config_map(pod, &field.name)?, &field.key)
    } else if let Some(field) = source.and_then(|source| source.secret_key_ref.as_ref()) {
        (secret(pod, &field.name)?, &field.key)
    } else {
        return Ok(variable.value.clone().unwrap_or_else(|| PLACEHOLDER.to_owned()));
    };
    keys.get(key).cloned().ok_or_else(|| format!("{}: there is no key {key}", variable.name))
}

fn config_map(pod: &Pod<'_>, name: &str) -> Result<Variables, String> {
    let keys = pod.rendering.config_map(pod.object.namespace.as_deref(), name);
    let keys = keys.ok_or_else(|| format!("ConfigMap {name} is not applied with this file: add it"))?;
    Ok(keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn secret(pod: &Pod<'_>, name: &str) -> Result<Variables, String> {
    let keys = pod.rendering.secret(pod.object.namespace.as_deref(), name);
    let keys = keys.ok_or_else(|| format!("Secret {name} is not applied with this file: add it"))?;
    Ok(keys.into_iter().map(|key| (key.to_owned(), PLACEHOLDER.to_owned())).collect())
}
